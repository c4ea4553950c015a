"""Stores: datasets read, checked, preprocessed, cut and split once, then only mapped.

``store/<data_fp>/`` holds ``meta.json`` and the parts ``train``, ``dev`` and ``val`` (with more
than one fold: ``fold00``, ``fold01``, ... with these parts each). Val has inputs only.
``secret/<data_fp>/`` holds ``val_refs.jsonl``, ``test_refs.jsonl`` and ``test/``, the store of a
confirmation: train and dev of the final model, and test inputs.
"""

from __future__ import annotations

import errno
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from neurodecode import splits
from neurodecode.contracts import Dataset, FloatArray, Item, Location, Recording, Windows
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.splits import Fold
from neurosweep.core.config import StrictModel, validate
from neurosweep.core.errors import DataError
from neurosweep.core.files import (
    atomic_write_json,
    canonical_json,
    read_json,
    sha256_bytes,
    sha256_file,
)
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.layout import Home
from neurosweep.core.plugins import load_plugin

DATASETS = "neurodecode.datasets"
MAX_FOLDS = 100

_FORMAT = 1
_NEEDS = ("Config", "DEFAULT_FOLDS", "sources", "read", "windows")
_PACKAGE = Path(__file__).parent
_CODE = ("contracts.py", "checks.py", "splits.py", "stores.py", "store_writer.py", "events.py")


def load_dataset(name: str) -> Dataset:
    """Return the module of a dataset.

    Raises
    ------
    neurosweep.core.errors.PluginError
        When there is none of that name.
    """
    return cast(Dataset, load_plugin(DATASETS, name, _NEEDS))


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
    if not 1 <= num_folds <= MAX_FOLDS:
        raise DataError(f"data.folds: is {num_folds}, must be from 1 to {MAX_FOLDS}")
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


def _inputs(
    dataset: str, module: Dataset, config: StrictModel, preprocessing: PreprocessingConfig
) -> dict[str, Any]:
    """Return everything that preprocessed samples depend on, as JSON data."""
    folder = _PACKAGE / "datasets"
    files = [_PACKAGE / name for name in _CODE] + sorted((_PACKAGE / "preprocessing").glob("*.py"))
    for path in sorted(folder.rglob("*.py")):
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


def _prepare(
    module: Dataset,
    config: StrictModel,
    preprocessing: PreprocessingConfig,
    how: tuple[int, int],
    inputs: Mapping[str, Any],
    home: Home,
) -> dict[str, Any]:
    from neurodecode.checks import check_recording
    from neurodecode.preprocessing.cache import prepare_recordings
    from neurodecode.preprocessing.cutting import cut_windows

    num_folds, seed = how
    recordings = module.read(config)
    for recording in recordings:
        check_recording(recording)
    windows = module.windows(config, recordings)
    check_windows(windows)
    windows = splits.permute_labels(windows, seed)
    folds = splits.make_folds(windows, num_folds)
    cache = home.cache_dir / "preprocessed" / fingerprint(inputs)
    prepared = prepare_recordings(recordings, preprocessing, cache)

    def cut(items: Sequence[Item]) -> FloatArray:
        return cut_windows(prepared, items, windows.window_s)

    data_fp = fingerprint({**inputs, "folds": num_folds, "permute_labels": seed})
    result = _result(data_fp, recordings, windows, folds, how)
    result["warnings"] += [text for one in prepared.values() for text in one.warnings]
    sfreq_hz = next(iter(prepared.values())).sfreq_hz
    meta = _meta(recordings[0], windows, result) | {"sfreq_hz": sfreq_hz}
    _write(home, result, meta, (windows, folds), cut)
    return result


def check_windows(windows: Windows) -> None:
    """Refuse windows that cannot be trained on or scored.

    Raises
    ------
    DataError
        When there is no item, an item's name is used twice, or its parts do not match.
    """
    if not windows.items:
        raise DataError("the dataset has no item to decode; check its options and its events")
    names = Counter(item.item for item in windows.items)
    double = [name for name, count in names.items() if count > 1]
    problems = [f"{name}: is the name of {names[name]} items" for name in double]
    for item in windows.items:
        size = len(item.labels)
        if item.item.count("/") != 2 or not size or len(item.onsets_s) != size:
            problems.append(f"{item.item}: has {size} labels and {len(item.onsets_s)} onsets")
        elif item.codes_WS is not None and item.codes_WS.shape != (size, len(item.symbols)):
            problems.append(f"{item.item}: codes have shape {item.codes_WS.shape}")
        elif not 0 <= min(item.labels) <= max(item.labels) < len(windows.classes):
            problems.append(f"{item.item}: a label is outside {len(windows.classes)} classes")
    if problems:
        raise DataError("items of the dataset are wrong:\n  " + "\n  ".join(problems[:10]))


def _result(
    data_fp: str,
    recordings: Sequence[Recording],
    windows: Windows,
    folds: Sequence[Fold],
    how: tuple[int, int],
) -> dict[str, Any]:
    num_folds, seed = how
    root = f"store/{data_fp}"
    stores = [f"{root}/fold{k:02d}" for k in range(len(folds))] if len(folds) > 1 else [root]
    test = splits.test_items(windows)
    parts = {
        "train": [item for fold in folds for item in fold.train],
        "dev": [item for fold in folds for item in fold.dev],
        "val": [item for fold in folds for item in fold.val],
        "test": list(test),
    }
    warnings = []
    if unused := splits.unused_items(windows, num_folds):
        warnings.append(f"{unused} items of the official validation part are not used by the folds")
    if seed:
        warnings.append(f"labels are permuted (seed {seed}): only chance can be reached")
    return {
        "v": 1,
        "data_fp": data_fp,
        "stores": stores,
        "secret": f"secret/{data_fp}",
        "final": f"secret/{data_fp}/test" if test else None,
        "items_sha": sha256_bytes(canonical_json(sorted(i.item for i in parts["val"])).encode()),
        "parts": {
            name: {"items": len(items), "windows": sum(len(i.labels) for i in items)}
            for name, items in parts.items()
        },
        "chance": chance(windows, [*folds[0].train, *folds[0].dev]),
        "split": splits.describe(windows, num_folds),
        "subjects": sorted({item.subject for item in windows.items}),
        "warnings": warnings,
        "recordings": {r.name: _public_meta(r) for r in recordings},
    }


def _public_meta(recording: Recording) -> dict[str, Any]:
    plain = {k: v for k, v in recording.meta.items() if isinstance(v, bool | int | float | str)}
    return {
        "channels": len(recording.channels),
        "sfreq_hz": recording.sfreq_hz,
        "seconds": round(recording.duration_s, 3),
        "sha256": dict(recording.source_sha256),
        **plain,
    }


def chance(windows: Windows, train: Sequence[Item]) -> dict[str, float]:
    """Return what a guess scores: always the commonest training text; any window class.

    The window error is balanced over the classes, so every constant or blind guess scores
    1 - 1 / classes.
    """
    labels = {label for item in train for label in item.labels}
    texts = Counter(item.reference for item in train)
    accuracy = windows.chance_acc
    if accuracy is None:
        accuracy = max(texts.values()) / texts.total()
    return {
        "val_acc": accuracy,
        "val_cer": 1.0 - accuracy,
        "val_window_err": 1.0 - 1.0 / len(labels),
    }


def _meta(recording: Recording, windows: Windows, result: Mapping[str, Any]) -> dict[str, Any]:
    places = [recording.positions.get(name) for name in recording.channels]
    return {
        "v": 1,
        "data_fp": result["data_fp"],
        "kind": "windows",
        "channels": list(recording.channels),
        "positions": [list(p) if p else None for p in places] if any(places) else None,
        "window_s": list(windows.window_s),
        "classes": list(windows.classes),
        "symbols": list(windows.symbols),
        "folds": len(result["stores"]),
        **{name: result[name] for name in ("split", "chance", "subjects")},
    }


def _write(
    home: Home,
    result: Mapping[str, Any],
    meta: Mapping[str, Any],
    split: tuple[Windows, Sequence[Fold]],
    cut: Any,
) -> None:
    from neurodecode import store_writer as writer

    windows, folds = split
    store, secret = (home.root / p for p in (f"store/{meta['data_fp']}", result["secret"]))
    token = f".{meta['data_fp']}.{secrets.token_hex(4)}.tmp"
    new_store, new_secret = store.with_name(token), secret.with_name(token)
    try:
        new_store.mkdir(parents=True)
        new_secret.mkdir(parents=True, mode=writer.SECRET_FOLDER)
        new_secret.parent.chmod(writer.SECRET_FOLDER)
        for place, fold in zip(result["stores"], folds, strict=True):
            writer.write_fold(home.root / place.replace(str(store.name), token), fold, cut)
        atomic_write_json(new_store / "meta.json", meta)
        atomic_write_json(new_store / "prepared.json", result)
        val = [item for fold in folds for item in fold.val]
        writer.write_references(new_secret / "val_refs.jsonl", val)
        if test := splits.test_items(windows):
            writer.write_references(new_secret / "test_refs.jsonl", test)
            final = splits.full_training(windows) if len(folds) > 1 else folds[0]
            writer.write_fold(new_secret / "test", Fold(final.train, final.dev, ()), cut)
            writer.write_part(new_secret / "test" / "test", test, cut, labelled=False)
            atomic_write_json(new_secret / "test" / "meta.json", meta)
        writer.make_private(new_secret)
        for temporary, folder in ((new_secret, secret), (new_store, store)):
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    except BaseException:
        for temporary in (new_store, new_secret):
            shutil.rmtree(temporary, ignore_errors=True)
        raise
