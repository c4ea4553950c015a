"""Reading a part of a store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from _window_stores import make_facts, single_window_store, speller_store

from neurodecode.training.windows import data_facts, read_meta, read_windows
from neurosweep.core.errors import DataError

FACTS = make_facts(classes=3, subjects=2)


def test_parts_come_back_as_they_were_written(tmp_path: Path) -> None:
    single_window_store(tmp_path, FACTS)
    train = read_windows(tmp_path, "train", FACTS.subjects)
    assert train.x_WCT.shape == (240, 3, 20)
    assert train.targets().dtype == np.int64
    assert set(train.subject_W.tolist()) == {0, 1}
    assert all(f"s{train.subject_W[s.start]:02d}/" in s.item for s in train.spans)


def test_val_has_no_labels(tmp_path: Path) -> None:
    single_window_store(tmp_path, FACTS)
    val = read_windows(tmp_path, "val", FACTS.subjects)
    with pytest.raises(DataError, match="only train and dev have"):
        val.targets()


def test_facts_come_from_the_description(tmp_path: Path) -> None:
    single_window_store(tmp_path, FACTS)
    facts = data_facts(read_meta(tmp_path), 20)
    assert (facts.num_channels, facts.num_samples, facts.num_classes) == (3, 20, 3)
    assert facts.subjects == ("s00", "s01")
    assert facts.positions == (None, None, None)


def test_a_fold_finds_the_description_above_it(tmp_path: Path) -> None:
    single_window_store(tmp_path, FACTS)
    (tmp_path / "fold00").mkdir()
    assert read_meta(tmp_path / "fold00")["kind"] == "windows"
    with pytest.raises(DataError, match=r"no meta.json here or one folder above"):
        read_meta(tmp_path / "elsewhere" / "fold00")


def test_codes_and_symbols_belong_to_their_item(tmp_path: Path) -> None:
    speller_store(tmp_path, make_facts())
    span = read_windows(tmp_path, "val", ("s00",)).spans[1]
    assert span.codes_WS is not None
    assert span.codes_WS.shape == (40, 6)
    assert span.symbols == tuple("abcdef")


def test_damage_is_named(tmp_path: Path) -> None:
    single_window_store(tmp_path, FACTS)
    items = tmp_path / "train" / "items.json"
    entries = json.loads(items.read_text())
    items.write_text(json.dumps([entries[0] | {"stop": 999}]))
    with pytest.raises(DataError, match=r"rows 0 to 999 of 240"):
        read_windows(tmp_path, "train", FACTS.subjects)
    np.save(tmp_path / "dev" / "y.npy", np.zeros(3, dtype=np.int16))
    with pytest.raises(DataError, match=r"60 windows, but labels of shape \(3,\)"):
        read_windows(tmp_path, "dev", FACTS.subjects)
    (tmp_path / "val" / "x.npy").write_bytes(b"cut")
    with pytest.raises(DataError, match="prepare the data again"):
        read_windows(tmp_path, "val", FACTS.subjects)


def test_codes_of_another_shape_are_refused(tmp_path: Path) -> None:
    speller_store(tmp_path, make_facts())
    np.save(tmp_path / "val" / "codes" / "s00/rec/val0.npy", np.zeros((40, 2), dtype=np.uint8))
    with pytest.raises(DataError, match=r"codes of shape \(40, 2\) for 6 symbols"):
        read_windows(tmp_path, "val", ("s00",))
