"""The dataset: recordings joined with an events table, labelled windows, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from _neuromag_maker import make_raw, save, table

from neurodecode.datasets import neuromag_fif
from neurodecode.datasets.neuromag_fif import Config
from neurosweep.core.config import fields_of, validate
from neurosweep.core.errors import ConfigError, DataError

KEYS = [(0.5, "a"), (0.9, "b"), (1.4, " "), (2.0, "a"), (2.6, "b"), (3.1, " ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(make_raw(4.0), tmp_path / "run1_raw.fif")
    table(tmp_path / "events.tsv", {"run1": "run1_raw.fif"}, KEYS)
    return tmp_path


def config(place: Path, **options: Any) -> Config:
    values = {"events": str(place / "events.tsv"), "test_fraction": 0.0, **options}
    return validate(Config, values, "data")


def refusal(folder: Path, **options: Any) -> str:
    chosen = config(folder, **options)
    with pytest.raises(DataError) as caught:
        neuromag_fif.windows(chosen, neuromag_fif.read(chosen))
    assert str(folder) in str(caught.value)
    return str(caught.value)


def rewrite(folder: Path, old: str, new: str) -> None:
    path = folder / "events.tsv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_recording_has_canonical_channels_units_and_facts(folder: Path) -> None:
    (recording,) = neuromag_fif.read(config(folder))
    assert (recording.name, recording.sfreq_hz) == ("S01/run1", 100.0)
    assert recording.data_CT.shape == (306, 400)
    assert recording.channels[:3] == ("MEG0113", "MEG0112", "MEG0111")
    assert recording.units[:3] == ("T/m", "T/m", "T")
    assert recording.positions["MEG0113"] == pytest.approx((-0.1066, 0.0464, -0.0604))
    assert set(recording.source_sha256) == {"run1_raw.fif", "events.tsv"}
    assert recording.meta["sss"] is False
    assert recording.meta["layout"]["MEG0113"] == pytest.approx([0.0445, 0.7759], abs=1e-3)


def test_every_key_press_is_one_item_in_order_of_time(folder: Path) -> None:
    recordings = neuromag_fif.read(config(folder))
    windows = neuromag_fif.windows(config(folder), recordings)
    assert windows.classes == ("a", "b", "space")
    assert windows.symbols == ("a", "b", " ")
    assert [item.item for item in windows.items] == [f"S01/run1/k{i:05d}" for i in range(6)]
    assert [item.onsets_s[0] for item in windows.items] == [moment for moment, _ in KEYS]
    assert [item.reference for item in windows.items] == [key for _, key in KEYS]
    assert {item.part for item in windows.items} == {"pool"}


def test_end_of_every_recording_is_the_test_and_nothing_touches_it(folder: Path) -> None:
    save(make_raw(20.0), folder / "run1_raw.fif")
    keys = [(0.5 + 0.25 * i, "ab"[i % 2]) for i in range(76)]
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, keys)
    chosen = config(folder, test_fraction=0.25)
    items = neuromag_fif.windows(chosen, neuromag_fif.read(chosen)).items
    test = [item for item in items if item.part == "test"]
    pool = [item for item in items if item.part == "pool"]
    assert [item.item for item in test] == [f"S01/run1/k{i:05d}" for i in range(57, 76)]
    gap = (test[0].onsets_s[0] - 0.2) - (pool[-1].onsets_s[0] + 0.3)
    assert 0.5 <= gap < 0.5 + 0.25
    assert [item.item for item in pool] == [f"S01/run1/k{i:05d}" for i in range(len(pool))]


def test_order_of_rows_in_the_table_does_not_matter(folder: Path) -> None:
    chosen = config(folder)
    before = neuromag_fif.windows(chosen, neuromag_fif.read(chosen))
    path = folder / "events.tsv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    assert neuromag_fif.windows(chosen, neuromag_fif.read(chosen)) == before


def test_start_of_the_recording_row_is_the_zero_of_its_events(folder: Path) -> None:
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, KEYS, start=120.0)
    windows = neuromag_fif.windows(config(folder), neuromag_fif.read(config(folder)))
    assert [item.onsets_s[0] for item in windows.items] == pytest.approx([m for m, _ in KEYS])


def test_long_labels_get_one_character_each(folder: Path) -> None:
    keys = [(0.5, "left"), (1.0, "right"), (1.5, "l"), (2.0, "left"), (2.5, "right"), (3.0, "l")]
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, keys)
    windows = neuromag_fif.windows(config(folder), neuromag_fif.read(config(folder)))
    assert windows.classes == ("l", "left", "right")
    assert windows.symbols == ("l", "e", "r")
    assert windows.items[0].reference == "e"


def test_two_runs_keep_their_own_events(folder: Path) -> None:
    save(make_raw(4.0, seed=1), folder / "run2_raw.fif")
    table(folder / "events.tsv", {"run1": "run1_raw.fif", "run2": "run2_raw.fif"}, KEYS)
    recordings = neuromag_fif.read(config(folder))
    assert [r.name for r in recordings] == ["S01/run1", "S01/run2"]
    windows = neuromag_fif.windows(config(folder), recordings)
    assert [item.recording for item in windows.items] == ["run1"] * 6 + ["run2"] * 6
    assert len(neuromag_fif.sources(config(folder))) == 3


def test_sources_name_continuations_too(folder: Path) -> None:
    path = folder / "run1_raw.fif"
    path.unlink()
    save(make_raw(12.0), path, split_size="2MB", buffer_size_sec=1.0)
    names = [file.name for file in neuromag_fif.sources(config(folder))]
    assert names == ["events.tsv", "run1_raw.fif", "run1_raw-1.fif", "run1_raw-2.fif"]


def test_paths_can_come_from_the_options(folder: Path) -> None:
    rewrite(folder, "run1_raw.fif", "")
    assert "timeline 'run1' has no recording; add a row of type Meg" in refusal(folder)
    chosen = config(folder, recordings={"run1": "run1_raw.fif"})
    assert neuromag_fif.read(chosen)[0].data_CT.shape == (306, 400)
    (folder / "elsewhere").mkdir()
    (folder / "run1_raw.fif").rename(folder / "elsewhere" / "run1_raw.fif")
    chosen = config(folder, recordings={"run1": "run1_raw.fif"}, folder=str(folder / "elsewhere"))
    assert neuromag_fif.read(chosen)[0].data_CT.shape == (306, 400)
    with pytest.raises(DataError, match=r"has no timeline 'run9'; it has run1"):
        neuromag_fif.read(config(folder, recordings={"run9": "x.fif"}))


def test_absent_recording_is_refused_by_sources_and_read(folder: Path) -> None:
    (folder / "run1_raw.fif").unlink()
    assert "run1_raw.fif: cannot be read (No such file" in refusal(folder)
    with pytest.raises(DataError, match="No such file"):
        neuromag_fif.sources(config(folder))


@pytest.mark.parametrize("moment", [-3.0, 0.1, 3.8, 900.0])
def test_events_outside_the_recording_are_refused_or_left_out(folder: Path, moment: float) -> None:
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, [*KEYS, (moment, "a")])
    text = refusal(folder)
    assert "1 of 7 Keystroke events have a window (-0.2 to 0.3 s) that is not wholly" in text
    assert f"first at {moment:g} s of 4 s" in text
    assert "outside_events = 'drop'" in text
    (recording,) = neuromag_fif.read(config(folder, outside_events="drop"))
    assert [event.start for event in recording.events] == [m for m, _ in KEYS]
    assert recording.meta["warnings"][0].endswith("left out")


def test_windows_that_just_fit_are_kept(folder: Path) -> None:
    keys = [(0.2, "a"), (1.0, "b"), (2.0, "a"), (3.7, "b")]
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, keys)
    assert len(neuromag_fif.read(config(folder))[0].events) == 4


def test_events_in_a_gap_of_the_acquisition_are_outside(folder: Path) -> None:
    raw = make_raw(4.0)
    raw.set_annotations(mne.Annotations(1.2, 0.3, "BAD_ACQ_SKIP"))
    save(raw, folder / "run1_raw.fif")
    text = refusal(folder)
    assert "1 of 6 Keystroke events" in text
    assert "(1 gaps)" in text


def test_table_of_another_recording_is_refused_by_its_length_or_rate(folder: Path) -> None:
    rewrite(folder, "Meg\t0.0\t0\t", "Meg\t0.0\t600\t")
    text = refusal(folder)
    assert "lasts 4.0 s, the events table says 600.0 s for timeline 'run1'" in text
    rewrite(folder, "Meg\t0.0\t600\t", "Meg\t0.0\t4\t")
    assert len(neuromag_fif.read(config(folder))) == 1
    path = folder / "events.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    rates = ["frequency", "1000", *[""] * 6]
    rows = [f"{line}\t{rate}" for line, rate in zip(lines, rates, strict=True)]
    path.write_text("\n".join(rows), encoding="utf-8")
    assert "is sampled at 100 Hz, 1000 Hz was expected" in refusal(folder)


def test_events_to_decode_must_be_there(folder: Path) -> None:
    text = refusal(folder, event_type="Word")
    assert "has no event of type 'Word' (it has Keystroke, Meg); set event_type" in text


def test_recordings_of_another_modality_are_refused(folder: Path) -> None:
    rewrite(folder, "Meg\t", "Eeg\t")
    assert "timeline 'run1' is of type Eeg; this dataset reads" in refusal(folder)


def test_labels_must_be_there(folder: Path) -> None:
    text = refusal(folder, class_column="text")
    assert "no Keystroke event has a value in column 'text'" in text
    assert "columns with values: type, start" in text
    rewrite(folder, "\t\tb\n", "\t\t\n")
    assert "2 of 6 Keystroke events have no 'button', first at 0.9 s" in refusal(folder)


def test_rare_labels_are_left_out_and_named(folder: Path) -> None:
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, [*KEYS, (3.5, "q")])
    recordings = neuromag_fif.read(config(folder))
    assert "q" not in neuromag_fif.windows(config(folder), recordings).classes
    note = "labels with fewer than 2 events are left out: 'q' (1)"
    assert recordings[0].meta["warnings"] == [note]
    assert (
        "q"
        in neuromag_fif.windows(
            config(folder, min_per_class=1), neuromag_fif.read(config(folder, min_per_class=1))
        ).classes
    )


def test_one_label_is_not_enough(folder: Path) -> None:
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, [(m, "a") for m, _ in KEYS])
    assert "events have 1 label (a) in column 'button'" in refusal(folder)


def test_names_that_cannot_be_part_of_an_item_are_refused(folder: Path) -> None:
    rewrite(folder, "\trun1\t", "\tday1/run1\t")
    with pytest.raises(DataError, match=r"timeline 'day1/run1' cannot be part of an item's name"):
        neuromag_fif.read(config(folder))


def test_one_recording_under_two_names_is_refused(folder: Path) -> None:
    (folder / "copy_raw.fif").write_bytes((folder / "run1_raw.fif").read_bytes())
    table(folder / "events.tsv", {"run1": "run1_raw.fif", "run2": "copy_raw.fif"}, KEYS)
    with pytest.raises(DataError, match=r"S01/run2: its file copy_raw.fif has the content of"):
        neuromag_fif.read(config(folder))


def shifted(folder: Path, millimetres: float) -> None:
    for number, shift in ((1, 0.0), (2, millimetres / 1e3)):
        raw = make_raw(4.0, seed=number)
        place = np.eye(4)
        place[:3, 3] = [0.0, 0.0, 0.04 + shift]
        raw.info["dev_head_t"] = mne.Transform("meg", "head", place)
        save(raw, folder / f"run{number}_raw.fif")
    table(folder / "events.tsv", {"run1": "run1_raw.fif", "run2": "run2_raw.fif"}, KEYS)


def test_head_that_moved_between_recordings_is_refused(folder: Path) -> None:
    shifted(folder, 40.0)
    with pytest.raises(DataError, match=r"S01/run2: the head is 40.0 mm from where it is in S01"):
        neuromag_fif.read(config(folder))
    assert len(neuromag_fif.read(config(folder, head_shift_mm=50.0))) == 2


def test_head_of_another_subject_may_be_elsewhere(folder: Path) -> None:
    shifted(folder, 40.0)
    path = folder / "events.tsv"
    text = path.read_text(encoding="utf-8").replace("run2\tS01", "run2\tS02")
    path.write_text(text, encoding="utf-8")
    assert [r.subject for r in neuromag_fif.read(config(folder))] == ["S01", "S02"]


@pytest.mark.parametrize("window_s", [(0.3, -0.2), (0.1, 0.1), (0.0, 31.0)])
def test_impossible_windows_are_refused(folder: Path, window_s: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"data.window_s: is .* the start must come before"):
        neuromag_fif.read(config(folder, window_s=window_s))


def test_misspelt_options_are_refused_with_a_near_miss(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"event_typ: unknown key; did you mean 'event_type'"):
        config(folder, event_typ="Word")
    with pytest.raises(ConfigError, match=r"bad_channels: Input should be 'zero', 'interpolate'"):
        config(folder, bad_channels="drop")


def test_every_option_is_explained() -> None:
    assert all(field.doc for field in fields_of(Config))


def with_triggers(folder: Path) -> None:
    moments = {moment: 97 + "ab ".index(key) for moment, key in KEYS}
    save(make_raw(4.0, triggers=moments), folder / "run1_raw.fif")
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, [])


CODES = {"97": "a", "98": "b", "99": " "}


@pytest.mark.parametrize("channel", ["STI101", "STI 101"])
def test_events_can_come_from_the_trigger_channel(folder: Path, channel: str) -> None:
    with_triggers(folder)
    chosen = config(folder, trigger_channel=channel, trigger_codes=CODES)
    windows = neuromag_fif.windows(chosen, neuromag_fif.read(chosen))
    assert [item.onsets_s[0] for item in windows.items] == pytest.approx([m for m, _ in KEYS])
    assert [item.reference for item in windows.items] == [key for _, key in KEYS]


def test_triggers_count_from_the_first_sample_of_a_later_start(folder: Path) -> None:
    with_triggers(folder)
    raw = mne.io.read_raw_fif(folder / "run1_raw.fif", preload=True, verbose="ERROR").crop(0.3)
    save(raw, folder / "late_raw.fif")
    table(folder / "events.tsv", {"run1": "late_raw.fif"}, [])
    chosen = config(folder, trigger_channel="STI101", trigger_codes=CODES)
    (recording,) = neuromag_fif.read(chosen)
    assert [e.start for e in recording.events] == pytest.approx([m - 0.3 for m, _ in KEYS])


def test_trigger_problems_are_named(folder: Path) -> None:
    with_triggers(folder)
    text = refusal(folder, trigger_channel="STI102", trigger_codes=CODES)
    assert "has no trigger channel 'STI102'; did you mean 'STI101'? It has STI101" in text
    text = refusal(folder, trigger_channel="STI101", trigger_codes={"7": "a"})
    assert "none of the codes 7 occurs in 'STI101'; it has 97, 98, 99" in text
    with pytest.raises(
        ConfigError, match=r"trigger_codes: has '0x61'; expected whole numbers with"
    ):
        neuromag_fif.read(config(folder, trigger_channel="STI101", trigger_codes={"0x61": "a"}))
    with pytest.raises(ConfigError, match="give both or neither"):
        neuromag_fif.read(config(folder, trigger_codes=CODES))
    with pytest.raises(ConfigError, match="have labels in 'button'"):
        neuromag_fif.read(
            config(folder, trigger_channel="S", trigger_codes=CODES, class_column="text")
        )
    table(folder / "events.tsv", {"run1": "run1_raw.fif"}, KEYS)
    text = refusal(folder, trigger_channel="STI101", trigger_codes=CODES)
    assert "trigger_channel is set too; events come from one of them" in text
