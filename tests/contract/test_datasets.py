"""Every dataset found in the folder keeps the contract of datasets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from _dataset_maker import write_eeglab, write_feis, write_typing
from _sentence_maker import make_opm, seconds_of, typed, write_study

from neurodecode.checks import check_recording
from neurodecode.decoding.alphabet import SYMBOLS
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.sentence_summary import check_sentences
from neurodecode.store_summary import check_windows
from neurodecode.stores import DATASETS, has_sentences, load_dataset, prepare_store
from neurosweep.core.config import StrictModel, validate
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.layout import Home
from neurosweep.core.plugins import find_plugins
from neurosweep.evaluation.references import read_references
from neurosweep.evaluation.splits import part_of_text

NAMES = sorted(find_plugins(DATASETS))
OF_SENTENCES = [name for name in NAMES if has_sentences(load_dataset(name))]
OF_WINDOWS = [name for name in NAMES if name not in OF_SENTENCES]
ROOT = Path(__file__).resolve().parents[2]


def _neuromag(folder):
    from _neuromag_maker import make_raw, save, table

    path = save(make_raw(60.0), folder / "one_raw.fif")
    keys = [(1.0 + 2.0 * i, "ab"[i % 2]) for i in range(28)]
    return {"events": str(table(folder / "events.tsv", {"one": path.name}, keys))}


def _sentences(folder):
    raw = make_opm(seconds_of(typed()), 12)
    return {"events": str(write_study(folder, raws={"r1": raw}))}


def _simulated(folder):
    module = load_dataset("simulated_typing")
    options = {"folder": str(folder / "made"), "recordings": 1, "layout": "opm64"}
    options |= {"sfreq_hz": 120.0, "train_sentences": 24, "val_sentences": 4, "test_sentences": 2}
    options |= {"max_words": 3, "max_chars": 16}
    lines = []
    files = module.make(module.Config(**options), lines.append)
    assert lines
    assert {Path(file) for file in files} == set(module.sources(module.Config(**options)))
    return options


MAKERS = {
    "eeglab_buttons": lambda folder: {"path": str(write_eeglab(folder))},
    "feis_null": lambda folder: {"path": str(write_feis(folder))},
    "finger_typing": lambda folder: {"path": str(write_typing(folder))},
    "meg_sentences": _sentences,
    "neuromag_fif": _neuromag,
    "noisetag_speller": lambda _: {},
    "simulated_typing": _simulated,
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


@pytest.mark.parametrize("made", OF_WINDOWS, indirect=True)
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


@pytest.mark.parametrize("made", OF_SENTENCES, indirect=True)
def test_sentences_are_well_formed_and_ordered_in_time(made):
    _, module, _, config, recordings = made
    sentences = module.sentences(config, recordings)
    check_sentences(sentences)
    lengths = {recording.name: recording.duration_s for recording in recordings}
    last: dict[str, float] = {}
    for item in sentences.items:
        place = f"{item.subject}/{item.recording}"
        assert item.start_s >= last.get(place, 0.0), "two sentences share samples"
        assert item.stop_s <= lengths[place]
        assert item.part == part_of_text(item.reference)
        assert len(item.onsets_s) == len(item.typed)
        last[place] = item.stop_s
    assert sentences.symbols == SYMBOLS
    assert module.DEFAULT_FOLDS == 1
    for recording in recordings:
        assert set(recording.meta["layout"]) == set(recording.channels)
        assert set(recording.units) <= {"T", "T/m"}


@pytest.mark.parametrize("made", OF_SENTENCES, indirect=True)
def test_store_of_sentences_is_prepared_and_found_again(made, tmp_path):
    name, _, options, config, recordings = made
    settings = PreprocessingConfig(lowpass_hz=20.0, resample_hz=50.0)
    how = {"folds": None, "permute_labels": 0, "home": Home(tmp_path)}
    result = prepare_store(name, options, settings, **how)
    assert prepare_store(name, config, settings, **how) == result
    references = read_references(tmp_path / result["secret"] / "val_refs.jsonl")
    assert len(references) == result["parts"]["val"]["items"] > 0
    x_TC = np.load(tmp_path / result["stores"][0] / "train" / "x.npy")
    assert (x_TC.dtype, x_TC.shape[1]) == (np.float16, len(recordings[0].channels))
    assert np.isfinite(x_TC).all()
    assert 0.0 < result["chance"]["val_cer"] <= 1.0


@pytest.mark.parametrize("made", OF_WINDOWS, indirect=True)
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
    places = ("path", "events", "log", "folder")
    where = [place for place in places if place in module.Config.model_fields][:1]
    assert where, f"a dataset says where its files are with one of {', '.join(places)}"
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
