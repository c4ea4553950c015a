"""Every dataset found in the folder keeps the contract of datasets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from _dataset_maker import write_eeglab, write_feis, write_typing

from neurodecode.checks import check_recording
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.store_summary import check_windows
from neurodecode.stores import DATASETS, load_dataset, prepare_store
from neurosweep.core.config import StrictModel, validate
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.layout import Home
from neurosweep.core.plugins import find_plugins
from neurosweep.evaluation.references import read_references

NAMES = sorted(find_plugins(DATASETS))
ROOT = Path(__file__).resolve().parents[2]


def _neuromag(folder):
    from _neuromag_maker import make_raw, save, table

    path = save(make_raw(60.0), folder / "one_raw.fif")
    keys = [(1.0 + 2.0 * i, "ab"[i % 2]) for i in range(28)]
    return {"events": str(table(folder / "events.tsv", {"one": path.name}, keys))}


MAKERS = {
    "eeglab_buttons": lambda folder: {"path": str(write_eeglab(folder))},
    "feis_null": lambda folder: {"path": str(write_feis(folder))},
    "finger_typing": lambda folder: {"path": str(write_typing(folder))},
    "neuromag_fif": _neuromag,
    "noisetag_speller": lambda _: {},
}


@pytest.fixture(scope="module", params=NAMES)
def made(request, tmp_path_factory):
    name = request.param
    assert name in MAKERS, f"add a maker of small files for dataset '{name}' to this test"
    module = load_dataset(name)
    options = MAKERS[name](tmp_path_factory.mktemp(name))
    config = validate(module.Config, options, name)
    recordings = module.read(config)
    return name, module, options, config, recordings


def test_options_are_strict_and_described(made):
    _, module, _, config, _ = made
    assert issubclass(module.Config, StrictModel)
    assert all(field.description for field in module.Config.model_fields.values())
    with pytest.raises(ConfigError, match="unknown key"):
        validate(module.Config, {**config.model_dump(), "no_such_option": 1}, "here")
    assert module.DEFAULT_FOLDS >= 1


def test_sources_are_the_files_that_were_read(made):
    _, module, _, config, recordings = made
    names = {path.name for path in module.sources(config)}
    assert names
    assert {name for r in recordings for name in r.source_sha256} == names


def test_recordings_pass_every_check_and_are_read_alike_again(made):
    _, module, _, config, recordings = made
    for recording, again in zip(recordings, module.read(config), strict=True):
        check_recording(recording)
        assert (recording.data_CT == again.data_CT).all()
        assert recording.events == again.events
        assert recording.source_sha256 == again.source_sha256


def test_windows_are_well_formed_and_ordered_in_time(made):
    _, module, _, config, recordings = made
    windows = module.windows(config, recordings)
    check_windows(windows)
    known = {recording.name for recording in recordings}
    last: dict[str, float] = {}
    for item in windows.items:
        place = f"{item.subject}/{item.recording}"
        assert place in known
        assert item.onsets_s[0] >= last.get(place, 0.0)
        assert list(item.onsets_s) == sorted(item.onsets_s)
        last[place] = item.onsets_s[-1]
        assert set(item.reference) <= set(windows.symbols)
        if item.codes_WS is None and len(item.labels) == 1:
            assert item.reference == windows.symbols[item.labels[0]]
    assert all(len(symbol) == 1 for symbol in windows.symbols)
    assert len(windows.split) > 10


def test_store_is_prepared_and_found_again(made, tmp_path):
    name, module, options, config, _ = made
    settings = PreprocessingConfig(highpass_hz=0.0, lowpass_hz=20.0, resample_hz=0.0)
    how = {"folds": None, "permute_labels": 0, "home": Home(tmp_path)}
    result = prepare_store(name, options, settings, **how)
    assert prepare_store(name, config, settings, **how) == result
    references = read_references(tmp_path / result["secret"] / "val_refs.jsonl")
    assert len(references) == result["parts"]["val"]["items"] > 0
    folds = max(1, module.DEFAULT_FOLDS)
    assert len(result["stores"]) == folds
    assert 0.0 < result["chance"]["val_acc"] < 1.0


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_are_one_clear_error(name, tmp_path):
    module = load_dataset(name)
    where = {"path", "events", "log"} & set(module.Config.model_fields)
    assert where, "a dataset says where its files are with path, events or log"
    options = {option: str(tmp_path / "nowhere") for option in where}
    config = validate(module.Config, options, name)
    for function in (module.sources, module.read):
        with pytest.raises(DataError, match="nowhere"):
            function(config)


def test_importing_datasets_loads_nothing_heavy():
    heavy = ("torch", "mne", "scipy", "pandas", "sklearn", "matplotlib")
    code = (
        "import importlib, sys\n"
        f"for name in {NAMES!r}: importlib.import_module('{DATASETS}.' + name)\n"
        "import neurodecode.stores, neurodecode.preprocessing.config\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    path = ":".join(str(ROOT / folder) for folder in ("platform", "experiments", "agents"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_speller_can_be_decoded_by_linear_discriminants(tmp_path):
    """Nothing but alignment, targets and codes decide whether this works."""
    import numpy as np
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    settings = PreprocessingConfig(highpass_hz=2.0, resample_hz=0.0)
    result = prepare_store(
        "noisetag_speller", {}, settings, folds=None, permute_labels=0, home=Home(tmp_path)
    )
    store = tmp_path / result["stores"][0]
    x_WF, y_W = (
        np.concatenate([np.load(store / part / f"{name}.npy") for part in ("train", "dev")])
        for name in ("x", "y")
    )
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
    model.fit(x_WF.reshape(len(x_WF), -1), y_W)
    x_WCT = np.load(store / "val" / "x.npy")
    logp_WK = model.predict_log_proba(x_WCT.reshape(len(x_WCT), -1))
    evidence_WK = logp_WK - np.log(np.bincount(y_W) / len(y_W))
    references = read_references(tmp_path / result["secret"] / "val_refs.jsonl")
    hits = wrong = start = 0
    for item, reference in references.items():
        codes_WS = np.load(store / "val" / "codes" / f"{item}.npy")
        stop = start + len(codes_WS)
        rows = evidence_WK[start:stop]
        scores_S = rows[np.arange(len(codes_WS))[:, None], codes_WS].sum(axis=0)
        hits += "abcdefghijklmnopqrstuvwxy"[int(scores_S.argmax())] == reference.text
        truth = np.array([int(label) for label in reference.windows])
        wrong += int((logp_WK[start:stop].argmax(axis=1) != truth).sum())
        start = stop
    assert hits >= 8, f"{hits} of 10 symbols"
    assert wrong / len(x_WCT) < 0.57 < result["chance"]["val_window_err"]
