from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _dataset_maker import FAKE_AMPLIFIER, make_windows, write_speller_log, write_typing

from neurodecode import splits, stores
from neurodecode.contracts import Item
from neurodecode.datasets import noisetag_speller
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.store_summary import check_windows
from neurosweep.core.errors import ConfigError, DataError, PluginError
from neurosweep.core.layout import Home
from neurosweep.evaluation.references import read_references

SPELLER = PreprocessingConfig(highpass_hz=2.0, resample_hz=0.0)
TYPING = PreprocessingConfig(highpass_hz=0.0, lowpass_hz=10.0, baseline_s=0.1)


def prepare(home, dataset="noisetag_speller", options=None, preprocessing=SPELLER, **how):
    how = {"folds": None, "permute_labels": 0, **how}
    return stores.prepare_store(dataset, options or {}, preprocessing, home=Home(home), **how)


def read_part(folder):
    items = json.loads((folder / "items.json").read_text())
    labels = np.load(folder / "y.npy") if (folder / "y.npy").exists() else None
    return np.load(folder / "x.npy", mmap_mode="r"), labels, items


@pytest.fixture(scope="module")
def speller(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return home, prepare(home)


@pytest.fixture(scope="module")
def typing(tmp_path_factory):
    folder = write_typing(tmp_path_factory.mktemp("typing"))
    home = tmp_path_factory.mktemp("home")
    options = {"path": str(folder)}
    return home, options, prepare(home, "finger_typing", options, TYPING, folds=4)


def test_parts_are_windows_with_labels_where_allowed(speller):
    home, result = speller
    (store,) = (home / place for place in result["stores"])
    meta = json.loads((store / "meta.json").read_text())
    assert (meta["sfreq_hz"], meta["folds"], meta["kind"]) == (200.0, 1, "windows")
    sizes = {"train": (8, 2024), "dev": (2, 506), "val": (10, 2675)}
    for part, (num_items, num_windows) in sizes.items():
        x_WCT, labels, items = read_part(store / part)
        assert x_WCT.shape == (num_windows, 4, 60)
        assert x_WCT.dtype == np.float32
        assert len(items) == num_items
        assert (labels is None) == (part == "val")
        assert all(("text" in entry) == (part != "val") for entry in items)
        assert [entry["start"] for entry in items] == [0, *(e["stop"] for e in items[:-1])]
        assert items[-1]["stop"] == num_windows
        assert result["parts"][part] == {"items": num_items, "windows": num_windows}
        for entry in items:
            codes = np.load(store / part / "codes" / f"{entry['item']}.npy")
            assert codes.shape == (entry["stop"] - entry["start"], len(entry["symbols"]))
            if labels is not None:
                column = entry["symbols"].index(entry["text"])
                assert np.array_equal(codes[:, column], labels[entry["start"] : entry["stop"]])


def test_references_hold_what_the_store_does_not(speller):
    home, result = speller
    references = read_references(home / result["secret"] / "val_refs.jsonl")
    assert "".join(reference.text for reference in references.values()) == "ecsprtsuvt"
    x_WCT, _, items = read_part(home / result["stores"][0] / "val")
    assert list(references) == [entry["item"] for entry in items]
    assert sum(len(r.windows) for r in references.values()) == len(x_WCT)


def test_only_the_owner_reads_the_references(speller):
    home, result = speller
    assert stat.S_IMODE((home / "secret").stat().st_mode) == 0o700
    secret = home / result["secret"]
    for path in (secret, *secret.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_test_inputs_are_nowhere_but_in_the_secret_part(speller):
    home, result = speller
    assert not list((home / result["stores"][0]).rglob("test"))
    final = home / result["final"]
    x_WCT, labels, items = read_part(final / "test")
    assert (len(x_WCT), labels, len(items)) == (3795, None, 15)
    assert not any("text" in entry for entry in items)
    assert {entry["subject"] for entry in items} == {"s02"}
    assert (final / "meta.json").is_file()
    assert read_part(final / "train")[1] is not None
    assert len(read_references(home / result["secret"] / "test_refs.jsonl")) == 15


MODES = ("Calibration.supervised",) * 6 + ("Prediction.static",) * 4
LAST = len(MODES) - 1


class Marked:
    """The speller, its val labels made recognisable wherever they turn up."""

    TEXT = "\u2603val-reference-"
    TYPED = "\u2603val-typed-"
    DEFAULT_FOLDS = 1
    Config = noisetag_speller.Config
    sources = staticmethod(noisetag_speller.sources)
    read = staticmethod(noisetag_speller.read)

    @classmethod
    def windows(cls, config, recordings):
        windows = noisetag_speller.windows(config, recordings)
        return replace(windows, items=tuple(cls._mark(n, i) for n, i in enumerate(windows.items)))

    @classmethod
    def _mark(cls, number, item: Item):
        if item.part == "train":
            return item
        part = "test" if number == LAST else item.part
        labels = np.random.default_rng(number).integers(0, 4, len(item.labels))
        return replace(
            item,
            part=part,
            reference=f"{cls.TEXT}{number}",
            typed=f"{cls.TYPED}{number}",
            labels=tuple(int(label) for label in labels),
        )


def label_bytes(windows):
    """Return a run of labels as a file could hold it: digits, or integers of any size."""
    run = windows[:24]
    numbers = np.array([int(label) for label in run])
    kinds = ("u1", "<i2", "<i4", "<i8", "<f4", "<f8")
    spaced = [separator.join(run).encode() for separator in ("", ",", ", ", " ", "\n")]
    return [*spaced, *(numbers.astype(kind).tobytes() for kind in kinds)]


def test_no_file_of_the_store_or_the_cache_holds_a_val_label(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "load_dataset", lambda _: Marked)
    log = write_speller_log(tmp_path / "a.txt", modes=MODES)
    home = tmp_path / "home"
    result = prepare(home, options={"log": str(log)})
    secret = home / result["secret"]
    references = {
        **read_references(secret / "val_refs.jsonl"),
        **read_references(secret / "test_refs.jsonl"),
    }
    assert len(references) == 4
    marks = [Marked.TEXT.encode(), Marked.TYPED.encode(), b"\\u2603"]
    for reference in references.values():
        marks += label_bytes(reference.windows)
    open_files = [p for p in home.rglob("*") if p.is_file() and secret not in p.parents]
    inputs = [p for p in (secret / "test").rglob("*") if p.is_file()]
    assert len(open_files) > 15
    for path in (*open_files, *inputs):
        content = path.read_bytes()
        assert not [mark for mark in marks if mark in content], path
    assert any(mark in (secret / "val_refs.jsonl").read_bytes() for mark in marks)


def test_second_call_reads_nothing_again(speller, monkeypatch):
    home, result = speller
    monkeypatch.setattr(noisetag_speller, "read", None)
    assert prepare(home) == result


def test_everything_that_matters_changes_the_fingerprint(typing, tmp_path):
    home, options, result = typing
    name = "finger_typing"
    others = [
        prepare(home, name, {**options, "source": "original"}, TYPING, folds=4),
        prepare(home, name, options, TYPING.model_copy(update={"lowpass_hz": 9.0}), folds=4),
        prepare(home, name, options, TYPING, folds=5),
        prepare(home, name, options, TYPING, folds=4, permute_labels=3),
        prepare(home, name, {"path": str(write_typing(tmp_path, train=44))}, TYPING, folds=4),
    ]
    assert len({r["data_fp"] for r in (result, *others)}) == 6
    copied = shutil.copytree(options["path"], tmp_path / "copy")
    moved = prepare(home, name, {"path": str(copied)}, TYPING, folds=4)
    assert moved == result, "the place of a file counts"


def test_code_is_part_of_the_fingerprint(tmp_path, monkeypatch):
    config = noisetag_speller.Config()
    package = tmp_path / "neurodecode"
    shutil.copytree(
        Path(stores.__file__).parent, package, ignore=shutil.ignore_patterns("*.gz", "__pycache__")
    )
    monkeypatch.setattr(stores, "_PACKAGE", package)
    before = stores._inputs("noisetag_speller", noisetag_speller, config, SPELLER)
    (package / "datasets" / "feis_null.py").write_text("changed")
    (package / "job.py").write_text("changed")
    assert stores._inputs("noisetag_speller", noisetag_speller, config, SPELLER) == before
    names = ("datasets/noisetag_speller.py", "datasets/_noisetag_log.py", "splits.py")
    for name in (*names, "datasets/_neuromag/helmet.csv"):
        path = package / name
        path.write_text(path.read_text() + "\n")
        after = stores._inputs("noisetag_speller", noisetag_speller, config, SPELLER)
        assert after != before
        before = after


def test_folds_share_the_preprocessed_cache_and_cover_val_once(typing):
    home, options, result = typing
    assert result["stores"] == [f"store/{result['data_fp']}/fold{k:02d}" for k in range(4)]
    assert json.loads((home / "store" / result["data_fp"] / "meta.json").read_text())["folds"] == 4
    val = [e["item"] for place in result["stores"] for e in read_part(home / place / "val")[2]]
    references = read_references(home / result["secret"] / "val_refs.jsonl")
    assert sorted(val) == sorted(references)
    assert len(set(val)) == 40
    cached = set((home / "secret" / "preprocessed").iterdir())
    again = prepare(home, "finger_typing", options, TYPING, folds=2)
    assert again["data_fp"] != result["data_fp"]
    assert set((home / "secret" / "preprocessed").iterdir()) == cached


def test_final_model_of_a_cross_validation_trains_on_every_pool_item(typing):
    home, _, result = typing
    final = home / result["final"]
    trained = read_part(final / "train")[2] + read_part(final / "dev")[2]
    assert len(trained) == 40
    assert len(read_part(final / "test")[2]) == 10


def test_permuted_labels_reach_the_references(typing):
    home, options, result = typing
    permuted = prepare(home, "finger_typing", options, TYPING, folds=4, permute_labels=5)
    true, null = (
        read_references(home / r["secret"] / "val_refs.jsonl") for r in (result, permuted)
    )
    assert list(true) == list(null)
    changed = sum(true[item].text != null[item].text for item in true)
    assert changed > 8
    assert any("permuted" in text for text in permuted["warnings"])
    sealed = [(home / r["secret"] / "test_refs.jsonl").read_text() for r in (result, permuted)]
    assert sealed[0] == sealed[1]


def test_chance_is_that_of_the_commonest_training_label(typing, speller):
    home, _, result = typing
    train = read_part(home / result["stores"][0] / "train")
    dev = read_part(home / result["stores"][0] / "dev")
    share = np.bincount(np.concatenate([train[1], dev[1]])).max() / (len(train[0]) + len(dev[0]))
    assert result["chance"]["val_acc"] == pytest.approx(share)
    assert result["chance"]["val_window_err"] == pytest.approx(1 / 2)
    assert speller[1]["chance"]["val_window_err"] == pytest.approx(3 / 4)
    assert speller[1]["chance"]["val_acc"] == pytest.approx(0.04)
    assert speller[1]["chance"]["val_cer"] == pytest.approx(0.96)
    assert speller[1]["chance"]["val_window_err"] == pytest.approx(0.75)


def test_interrupted_preparation_leaves_nothing_and_can_be_repeated(typing, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _, options, _ = typing
    arguments = (tmp_path, "finger_typing", options, TYPING)
    with monkeypatch.context() as patch:
        patch.setattr("neurodecode.store_writer.write_references", full)
        with pytest.raises(DataError, match=r"the disk is full.*free space"):
            prepare(*arguments)
    assert not list((tmp_path / "store").iterdir())
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["preprocessed"]
    result = prepare(*arguments)
    shutil.rmtree(tmp_path / result["secret"])
    assert prepare(*arguments) == result
    assert (tmp_path / result["secret"] / "val_refs.jsonl").is_file()


def test_refused_recording_writes_nothing(tmp_path):
    with pytest.raises(DataError, match="cannot be EEG"):
        prepare(tmp_path, options={"log": str(FAKE_AMPLIFIER)})
    assert list(tmp_path.iterdir()) == []


def test_wrong_names_options_and_folds_are_errors(tmp_path):
    with pytest.raises(PluginError, match="did you mean 'noisetag_speller'"):
        prepare(tmp_path, "noisetag_speler")
    with pytest.raises(ConfigError, match=r"options of dataset 'noisetag_speller'.*\n.*target"):
        prepare(tmp_path, options={"target": "levels"})
    with pytest.raises(ConfigError, match="path: is missing"):
        prepare(tmp_path, "finger_typing")
    with pytest.raises(DataError, match=r"data\.folds: is 101"):
        prepare(tmp_path, folds=101)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item": "s01/only-two"}, "only-two"),
        ({"labels": (9,)}, "outside 4 classes"),
        ({"labels": ()}, "has 0 labels and 1 onsets"),
        ({"codes_WS": np.zeros((2, 2), dtype=np.uint8)}, r"codes have shape \(2, 2\)"),
    ],
)
def test_items_that_do_not_fit_are_refused(change, message):
    item = Item("s01/r/t0", "pool", (0.0,), (1,), "a", "a")
    windows = replace(make_windows(["pool"]), classes=("a", "b", "c", "d"))
    with pytest.raises(DataError, match=message):
        check_windows(replace(windows, items=(replace(item, **change),)))
    with pytest.raises(DataError, match="is the name of 2 items"):
        check_windows(replace(windows, items=(item, item)))
    with pytest.raises(DataError, match="has no item"):
        check_windows(replace(windows, items=()))
    assert splits.test_items(windows) == ()
