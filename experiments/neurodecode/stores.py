"""Stores: datasets read, checked, preprocessed, cut and split once, then only mapped.

``store/<data_fp>/`` holds ``meta.json`` and the parts ``train``, ``dev`` and ``val`` (with more
than one fold: ``fold00``, ``fold01``, ... with these parts each). Val has inputs only.
Datasets of whole sentences have their own writer, `neurodecode.sentence_store`.
``secret/<data_fp>/`` holds ``val_refs.jsonl``, ``test_refs.jsonl`` and ``test/``, the store of a
confirmation: train and dev of the final model, and test inputs. ``secret/preprocessed/`` caches
whole recordings, test inputs among them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeGuard, cast

from neurodecode import splits
from neurodecode.contracts import (
    Dataset,
    FloatArray,
    Item,
    Location,
    Recording,
    SentenceDataset,
)
from neurodecode.datasets._damage import DAMAGE
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.store_summary import check_windows, store_meta, summarise
from neurosweep.core.config import StrictModel, validate
from neurosweep.core.errors import DataError, NeurosweepError, PluginError
from neurosweep.core.files import read_json, sha256_file
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.layout import Home
from neurosweep.core.plugins import load_plugin

DATASETS = "neurodecode.datasets"
MAX_FOLDS = 100

_FORMAT = 1
_NEEDS = ("Config", "DEFAULT_FOLDS", "sources", "read")
_PACKAGE = Path(__file__).parent
_CODE = (
    *("contracts.py", "events.py", "checks.py", "splits.py"),
    *("stores.py", "store_summary.py", "store_writer.py"),
    *("sentence_store.py", "sentence_summary.py", "sentence_chance.py", "decoding/alphabet.py"),
)


def load_dataset(name: str) -> Dataset | SentenceDataset:
    """Return the module of a dataset.

    Raises
    ------
    neurosweep.core.errors.PluginError
        When there is none of that name.
    """
    module = load_plugin(DATASETS, name, _NEEDS)
    if not hasattr(module, "windows") and not hasattr(module, "sentences"):
        msg = f"{DATASETS}.{name} has neither windows nor sentences; a dataset needs one of them"
        raise PluginError(msg)
    return cast("Dataset | SentenceDataset", module)


def has_sentences(module: Dataset | SentenceDataset) -> TypeGuard[SentenceDataset]:
    """Return whether items of a dataset are whole sentences, not windows."""
    return not hasattr(module, "windows")


def prepare_store(
    dataset: str,
    options: Mapping[str, Any] | StrictModel,
    preprocessing: PreprocessingConfig,
    *,
    folds: int | None,
    permute_labels: int,
    home: Home,
) -> dict[str, Any]:
    """Make the store of a dataset, unless it exists, and say where it lies.

    Parameters
    ----------
    dataset
        Name of a module of `neurodecode.datasets`.
    options
        Its options.
    preprocessing
        Options of preprocessing.
    folds
        Contiguous folds; None or 0 for the dataset's own default.
    permute_labels
        Seed of a permutation of all labels but the test's; 0 for the true labels.
    home
        Where stores, references and caches lie.

    Returns
    -------
    dict
        JSON data: ``data_fp``, ``stores``, ``secret`` and ``final`` (relative to the home),
        ``items_sha``, ``parts``, ``chance``, ``split``, ``subjects``, ``warnings``, ``recordings``.

    Raises
    ------
    DataError
        When a recording cannot be used or the home cannot be written; nothing is left behind.
    """
    module = load_dataset(dataset)
    if isinstance(options, StrictModel):
        options = options.model_dump()
    config = validate(module.Config, options, f"options of dataset '{dataset}'")
    num_folds = folds or module.DEFAULT_FOLDS
    check_folds(dataset, module, num_folds)
    inputs = _inputs(dataset, module, config, preprocessing)
    data_fp = fingerprint({**inputs, "folds": num_folds, "permute_labels": permute_labels})
    done = home.store(data_fp) / "prepared.json"
    if done.is_file() and home.secret(data_fp).is_dir():
        return dict(read_json(done))
    try:
        return _prepare(module, config, preprocessing, (num_folds, permute_labels), inputs, home)
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)
        msg = f"{home.root}: data cannot be prepared ({what}); free space, or name another home"
        raise DataError(msg) from error


def check_folds(dataset: str, module: Dataset | SentenceDataset, folds: int) -> None:
    """Refuse a number of folds that a dataset cannot have.

    Raises
    ------
    DataError
        When there are too many, or several for sentences, whose text decides their part.
    """
    if not 1 <= folds <= MAX_FOLDS:
        raise DataError(f"data.folds: is {folds}, must be from 1 to {MAX_FOLDS}")
    if has_sentences(module) and folds > 1:
        msg = f"data.folds: is {folds}, must be 1 for dataset '{dataset}': the text of a sentence"
        raise DataError(f"{msg} decides its part")


def _inputs(
    dataset: str,
    module: Dataset | SentenceDataset,
    config: StrictModel,
    preprocessing: PreprocessingConfig,
) -> dict[str, Any]:
    """Return everything that preprocessed samples depend on, as JSON data."""
    folder = _PACKAGE / "datasets"
    files = [_PACKAGE / name for name in _CODE] + sorted((_PACKAGE / "preprocessing").glob("*.py"))
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.csv")]):
        top = path.relative_to(folder).parts[0].removesuffix(".py")
        if top == dataset or top.startswith("_"):
            files.append(path)
    return {
        "format": _FORMAT,
        "dataset": dataset,
        "config": _without_places(config),
        "sources": [[path.name, sha256_file(path)] for path in module.sources(config)],
        "preprocessing": preprocessing.model_dump(mode="json"),
        "code": {str(path.relative_to(_PACKAGE)): sha256_file(path) for path in files},
        "packages": {name: metadata.version(name) for name in ("mne", "numpy", "scipy")},
    }


def _without_places(config: StrictModel) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        if any(isinstance(mark, Location) for mark in field.metadata):
            values[name] = bool(values[name])
    return values


def each_recording(module: Dataset | SentenceDataset, config: Any) -> Iterator[Recording]:
    """Yield recordings; whatever a damaged file does to a reader becomes one clear error.

    A dataset with a function ``read_each`` is read recording by recording, so that only one is
    in memory when whoever asks lets go of the last.

    Raises
    ------
    DataError
        When a file is missing, damaged or not what it claims to be.
    """
    try:
        yield from getattr(module, "read_each", module.read)(config)
    except DAMAGE as error:
        if isinstance(error, NeurosweepError):
            raise
        name = str(getattr(module, "__name__", "dataset")).rpartition(".")[2]
        files = ", ".join(str(path) for path in module.sources(config))
        msg = f"{name}: {files} cannot be read ({type(error).__name__}: {str(error)[:300]})"
        raise DataError(f"{msg}; the file is damaged or of another format, get it again") from error


def _prepare(
    module: Dataset | SentenceDataset,
    config: StrictModel,
    preprocessing: PreprocessingConfig,
    how: tuple[int, int],
    inputs: Mapping[str, Any],
    home: Home,
) -> dict[str, Any]:
    from neurodecode.checks import check_recording
    from neurodecode.preprocessing.cache import prepare_recordings
    from neurodecode.preprocessing.cutting import cut_windows
    from neurodecode.store_writer import secret_root, write_store

    num_folds, seed = how
    data_fp = fingerprint({**inputs, "folds": num_folds, "permute_labels": seed})
    if has_sentences(module):
        from neurodecode.sentence_store import write_sentences

        data = each_recording(module, config), partial(module.sentences, config)
        return write_sentences(data_fp, data, preprocessing, seed, home)
    recordings = tuple(each_recording(module, config))
    for recording in recordings:
        check_recording(recording)
    windows = cast(Dataset, module).windows(config, recordings)
    check_windows(windows)
    windows = splits.permute_labels(windows, seed)
    folds = splits.make_folds(windows, num_folds)
    cache = home.secret("preprocessed") / fingerprint(inputs)
    secret_root(home)
    prepared = prepare_recordings(recordings, preprocessing, cache)

    def cut(items: Sequence[Item]) -> FloatArray:
        return cut_windows(prepared, items, windows.window_s)

    result = summarise(data_fp, recordings, windows, folds, how)
    result["warnings"] += [text for one in prepared.values() for text in one.warnings]
    sfreq_hz = next(iter(prepared.values())).sfreq_hz
    meta = store_meta(recordings[0], windows, result) | {"sfreq_hz": sfreq_hz}
    write_store(home, result, meta, (windows, folds), cut)
    return result
