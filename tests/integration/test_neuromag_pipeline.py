"""From a FIF file and an events table to a store with train, dev, val and a sealed test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _neuromag_maker import REAL, make_raw, save, table

from neurodecode.datasets._neuromag.helmet import reference_helmet
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.stores import prepare_store
from neurosweep.core.errors import DataError
from neurosweep.core.layout import Home

NAMES = reference_helmet().names


def prepare(home: Path, events: Path, options: dict[str, Any], **steps: Any) -> dict[str, Any]:
    preprocessing = PreprocessingConfig(**{"notch_hz": 0.0, "resample_hz": 50.0, **steps})
    preprocessing = preprocessing.model_copy(update={"lowpass_hz": 20.0})
    return prepare_store(
        "neuromag_fif",
        {"events": str(events), **options},
        preprocessing,
        folds=None,
        permute_labels=0,
        home=Home(home),
    )


def parts(home: Path, result: dict[str, Any]) -> dict[str, Any]:
    (place,) = result["stores"]
    return {name: np.load(home / place / name / "x.npy") for name in ("train", "dev", "val")}


def keyed(num: int, first_s: float, step_s: float) -> list[tuple[float, str]]:
    return [(first_s + step_s * i, "ab"[i % 2]) for i in range(num)]


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/meg_neuromag306 is not here")
def test_real_recording_becomes_a_store(tmp_path: Path) -> None:
    file = REAL / "141027_cropped_90Hz_raw.fif"
    keys = keyed(46, 0.3, 0.2)
    events = table(tmp_path / "events.tsv", {"room": file}, keys)
    result = prepare(tmp_path, events, {"window_s": (-0.1, 0.1), "dev_fraction": 0.3})
    assert result["parts"]["test"] == {"items": 9, "windows": 9}
    assert result["parts"]["val"]["items"] > 0
    assert result["chance"]["val_acc"] == pytest.approx(0.5, abs=0.1)
    inputs = parts(tmp_path, result)
    for name, x_WCT in inputs.items():
        assert x_WCT.shape == (result["parts"][name]["windows"], 306, 10)
        assert x_WCT.dtype == np.float32
        assert np.isfinite(x_WCT).all()
        assert np.abs(x_WCT).max() <= 5.0
    kinds = np.array(reference_helmet().kinds)
    spread = inputs["train"].std(axis=(0, 2))
    for kind in ("mag", "grad"):
        assert 0.3 < np.median(spread[kinds == kind]) < 4.0
    meta = json.loads((tmp_path / result["stores"][0] / "meta.json").read_text("utf-8"))
    assert tuple(meta["channels"]) == NAMES
    assert meta["sfreq_hz"] == 50.0
    assert not list((tmp_path / result["stores"][0] / "val").glob("y.npy"))
    references = (tmp_path / result["secret"] / "val_refs.jsonl").read_text("utf-8")
    assert references.count("\n") == result["parts"]["val"]["items"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    save(make_raw(30.0), tmp_path / "run1_raw.fif")
    return table(tmp_path / "events.tsv", {"run1": "run1_raw.fif"}, keyed(56, 0.5, 0.5))


def test_no_window_of_one_part_shares_a_sample_with_another(tmp_path: Path, made: Path) -> None:
    result = prepare(tmp_path, made, {})
    start, stop = -0.2, 0.3
    spans: dict[str, list[tuple[float, float]]] = {}
    for part in ("train", "dev", "val"):
        items = json.loads((tmp_path / result["stores"][0] / part / "items.json").read_text())
        onsets = [0.5 + 0.5 * int(item["item"].rsplit("k", 1)[1]) for item in items]
        spans[part] = [(onset + start, onset + stop) for onset in onsets]
    edges = [(min(s)[0], max(s)[1]) for s in (spans["train"], spans["dev"], spans["val"])]
    assert edges[0][1] < edges[1][0] < edges[1][1] < edges[2][0]


def test_store_does_not_depend_on_the_order_of_channels(tmp_path: Path, made: Path) -> None:
    plain = parts(tmp_path, prepare(tmp_path, made, {}))
    other = tmp_path / "other"
    other.mkdir()
    order = np.random.default_rng(1).permutation(306).tolist()
    save(make_raw(30.0, order=order), other / "run1_raw.fif")
    table(other / "events.tsv", {"run1": "run1_raw.fif"}, keyed(56, 0.5, 0.5))
    shuffled = parts(other, prepare(other, other / "events.tsv", {}))
    for name in plain:
        assert np.array_equal(plain[name], shuffled[name])


def test_what_follows_a_key_press_is_where_the_window_has_it(tmp_path: Path) -> None:
    """A response 100 ms after every 'a' keeps sensor, time and label on its way to the store."""
    keys = keyed(56, 0.5, 0.5)
    raw = make_raw(31.0)
    sensor = NAMES.index("MEG1631")
    for moment, key in keys:
        first = round((moment + 1.0 + 0.08) * 100)
        raw._data[sensor, first : first + 5] += 4e-12 * (key == "a")
    save(raw.crop(1.0), tmp_path / "run1_raw.fif")
    events = table(tmp_path / "events.tsv", {"run1": "run1_raw.fif"}, keys, start=77.0)
    result = prepare(tmp_path, events, {}, resample_hz=0.0)
    place = tmp_path / result["stores"][0] / "train"
    x_WCT, y_W = np.load(place / "x.npy"), np.load(place / "y.npy")
    contrast_CT = x_WCT[y_W == 0].mean(axis=0) - x_WCT[y_W == 1].mean(axis=0)
    channel, sample = np.unravel_index(np.argmax(contrast_CT), contrast_CT.shape)
    assert NAMES[channel] == "MEG1631"
    assert sample / 100 - 0.2 == pytest.approx(0.1, abs=0.011)


@pytest.mark.parametrize("damage", ["cut", "absent", "table"])
def test_damaged_input_leaves_nothing_behind(tmp_path: Path, made: Path, damage: str) -> None:
    file = tmp_path / "run1_raw.fif"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "absent":
        file.unlink()
    else:
        made.write_text(made.read_text("utf-8").replace("duration", "duratoin"), "utf-8")
    home = tmp_path / "home"
    with pytest.raises(DataError):
        prepare(home, made, {})
    assert not home.exists() or not any(path.is_file() for path in home.rglob("*"))


def test_bad_sensors_are_zero_in_the_store(tmp_path: Path, made: Path) -> None:
    import mne

    raw = mne.io.read_raw_fif(tmp_path / "run1_raw.fif", preload=True, verbose="ERROR")
    raw.info["bads"] = ["MEG0242"]
    save(raw, tmp_path / "run1_raw.fif")
    result = prepare(tmp_path, made, {})
    dead = [not rows.any() for rows in parts(tmp_path, result)["train"].transpose(1, 0, 2)]
    assert [name for name, zero in zip(NAMES, dead, strict=True) if zero] == ["MEG0242"]
    meta = json.loads((tmp_path / result["stores"][0] / "meta.json").read_text("utf-8"))
    assert [name for name in NAMES if meta["layout"][name] == [-0.1, -0.1]] == ["MEG0242"]


def test_warnings_of_the_reader_reach_the_result(tmp_path: Path, made: Path) -> None:
    result = prepare(tmp_path, made, {"window_s": (-0.6, 0.3), "outside_events": "drop"})
    assert any("1 of 56 Keystroke events have a window" in text for text in result["warnings"])
