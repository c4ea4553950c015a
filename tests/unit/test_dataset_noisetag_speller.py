from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from _dataset_maker import write_speller_log

from neurodecode.checks import check_recording, spectral_fall
from neurodecode.datasets import _noisetag_log, noisetag_speller
from neurodecode.datasets.noisetag_speller import Config
from neurosweep.core.config import validate
from neurosweep.core.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def included():
    return noisetag_speller.read(Config())


def test_included_recordings_have_the_known_trials(included):
    main, other = included
    assert (main.name, main.data_CT.shape) == ("s01/exampledata", (4, 44406))
    assert (other.name, other.data_CT.shape) == ("s02/rc5x5", (4, 25165))
    assert (main.meta["log_hits"], main.meta["log_selections"]) == (9, 10)
    cued = [trial["cued"] for trial in main.meta["trials"]]
    assert cued == [2, 7, 9, 5, 8, 1, 3, 5, 9, 5, 5, 3, 19, 16, 18, 20, 19, 21, 22, 20]
    for recording in included:
        check_recording(recording)
        assert 1.0 < spectral_fall(recording, [0, 1, 2, 3]) < 1.6


def test_official_split_is_by_mode_and_by_recording(included):
    windows = noisetag_speller.windows(Config(), included)
    parts = [item.part for item in windows.items]
    assert parts == ["train"] * 10 + ["val"] * 10 + ["test"] * 15
    assert [len(item.symbols) for item in windows.items] == [9] * 10 + [25] * 25
    assert windows.chance_acc == pytest.approx(0.04)
    assert "sealed test" in windows.split
    spelled = "".join(item.reference for item in windows.items if item.part == "val")
    logged = "".join(item.typed for item in windows.items if item.part == "val")
    assert spelled == "ecsprtsuvt"
    assert sum(a == b for a, b in zip(spelled, logged, strict=True)) == 9


def test_second_recording_can_be_a_second_subject_or_left_out(included):
    windows = noisetag_speller.windows(Config(rc5x5="split"), included)
    parts = [item.part for item in windows.items if item.subject == "s02"]
    assert parts == ["train"] * 8 + ["val"] * 4 + ["test"] * 3
    assert len(noisetag_speller.sources(Config(rc5x5="none"))) == 1


@pytest.mark.parametrize("target", ["transition", "edge", "level"])
def test_labels_are_the_code_of_the_reference(included, target):
    windows = noisetag_speller.windows(Config(target=target), included)
    for item in windows.items:
        column = item.symbols.index(item.reference)
        assert np.array_equal(item.codes_WS[:, column], item.labels)
        matches = (item.codes_WS == np.array(item.labels)[:, None]).all(axis=0)
        assert matches.sum() == 1, "another symbol has the same code"
        assert max(item.labels) == len(windows.classes) - 1


def test_codes_follow_from_states():
    states = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=np.uint8)
    codes = {t: noisetag_speller._codes(states, t).T.tolist() for t in ("transition", "edge")}
    assert codes["transition"] == [[1, 3, 2, 0], [0, 1, 3, 2]]
    assert codes["edge"] == [[1, 0, 2, 0], [0, 1, 0, 2]]
    assert np.array_equal(noisetag_speller._codes(states, "level"), states)


def test_clock_is_exact_though_packets_arrive_late(tmp_path):
    log = _noisetag_log.read_log(write_speller_log(tmp_path / "a.txt"))
    numbers = np.round(log.data_TC[:, 0] * 1000)
    assert np.array_equal(log.sample_ms, 1_000_000 + 5 * (numbers + 1))


def test_clock_recovers_after_lost_samples(tmp_path):
    log = _noisetag_log.read_log(write_speller_log(tmp_path / "a.txt", lost_at=900))
    numbers = np.round(log.data_TC[:, 0] * 1000)
    error_ms = log.sample_ms - (1_000_000 + 5 * (numbers + 1))
    assert error_ms[:896].max() == 0
    assert set(error_ms[904:].tolist()) == {0}
    flash = log.trials[-1].flash_ms[5]
    assert log.sample_ms[log.sample_of(flash)] >= flash > log.sample_ms[log.sample_of(flash) - 1]


def test_own_log_without_online_trials_is_a_pool(tmp_path):
    path = write_speller_log(tmp_path / "mine.txt.gz", modes=["Calibration.supervised"] * 4)
    config = Config(log=str(path))
    recordings = noisetag_speller.read(config)
    windows = noisetag_speller.windows(config, recordings)
    assert [item.part for item in windows.items] == ["pool"] * 4
    assert [item.item for item in windows.items] == [f"s01/mine/t{i:02d}" for i in range(4)]
    assert "".join(item.reference for item in windows.items) == "abca"


def test_windows_that_do_not_fit_are_dropped_with_their_codes(tmp_path):
    config = Config(log=str(write_speller_log(tmp_path / "a.txt")), window_stop_s=2.0)
    recordings = noisetag_speller.read(config)
    for item in noisetag_speller.windows(config, recordings).items:
        assert len(item.onsets_s) == len(item.labels) == len(item.codes_WS)
        assert item.onsets_s[-1] + 2.0 <= recordings[0].duration_s


def test_last_line_that_was_cut_is_dropped(tmp_path):
    path = write_speller_log(tmp_path / "a.txt")
    whole = _noisetag_log.read_log(path)
    text = path.read_text()
    path.write_text(text[: text.rindex("[") + 5])
    cut = _noisetag_log.read_log(path)
    assert 0 < len(whole.data_TC) - len(cut.data_TC) <= 4
    assert np.array_equal(cut.data_TC, whole.data_TC[: len(cut.data_TC)])


def test_clock_of_another_rate_or_running_back_is_refused(tmp_path):
    steady = np.arange(2000) * 5
    _noisetag_log._check_clock(tmp_path, steady)
    with pytest.raises(DataError, match=r"samples are 2\.50 ms apart, 5 ms \(200 Hz\)"):
        _noisetag_log._check_clock(tmp_path, steady // 2)
    back = steady - 120 * (np.arange(2000) >= 1000)
    with pytest.raises(DataError, match=r"within 5 s after 4\.9 s, 115 ms more samples arrive"):
        _noisetag_log._check_clock(tmp_path, back)


def packets(text, times):
    """Repeat every packet as often as a function of its number says."""
    kept, number = [], 0
    for line in text.splitlines(keepends=True):
        kept += [line] * (int(times(number)) if "DATAPACKET" in line else 1)
        number += "DATAPACKET" in line
    return "".join(kept)


def shifted(text, by_ms):
    """Move all flashes on the shared clock."""
    lines = text.splitlines(keepends=True)
    return "".join(
        re.sub(r"^sts:(\d+)", lambda m: f"sts:{int(m[1]) + by_ms}", line)
        if "STIMULUSEVENT" in line
        else line
        for line in lines
    )


@pytest.mark.parametrize(
    ("by_ms", "message"),
    [
        (3_600_000, r"trial 1 flashes up to 359\d\.\d+ s after the last sample"),
        (-3_600_000, r"trial 1 flashes up to 3599\.\d+ s before the first sample"),
        (-800, r"trial 1 flashes up to 0\.\d+ s before the first sample"),
        (6_000, r"trial 4 flashes up to [12]\.\d+ s after the last sample"),
    ],
)
def test_flashes_on_another_clock_are_refused(tmp_path, by_ms, message):
    path = write_speller_log(tmp_path / "a.txt")
    path.write_text(shifted(path.read_text(), by_ms))
    with pytest.raises(DataError, match=f"events outside the recording: {message}"):
        noisetag_speller.read(Config(log=str(path)))


def test_flashes_after_the_last_sample_of_a_cut_log_are_told(tmp_path):
    path = write_speller_log(tmp_path / "a.txt")
    lines = path.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if "STIMULUSEVENT" in line)
    flashes = [i for i, line in enumerate(lines) if "STIMULUSEVENT" in line][-10:]
    path.write_text("".join(x for i, x in enumerate(lines) if i < flashes[0] or i in flashes))
    assert last in flashes
    (recording,) = noisetag_speller.read(Config(log=str(path)))
    (warning,) = recording.meta["warnings"]
    assert re.fullmatch(r"trial 5: \d+ flashes after the last sample left out", warning)


def test_no_window_crosses_a_place_where_samples_were_lost(tmp_path):
    path = write_speller_log(tmp_path / "a.txt", flashes=200)
    path.write_text(packets(path.read_text(), lambda i: not 120 <= i < 140))
    config = Config(log=str(path))
    (recording,) = noisetag_speller.read(config)
    (_, cut), (again, _) = recording.segments
    assert cut == again == pytest.approx(480, abs=8)
    first = noisetag_speller.windows(config, (recording,)).items[0]
    onsets = np.array(first.onsets_s)
    assert 150 < len(onsets) < 180
    assert not ((onsets < cut / 200.0) & (onsets + 0.3 > cut / 200.0)).any()
    numbers = np.round(recording.data_CT[0] * 1000)
    at = np.round(onsets * 200).astype(int)
    assert (numbers[at + 59] - numbers[at] == 59).all()
    flash = (numbers[at] - 99) / 4
    assert np.array_equal(flash, np.unique(flash.astype(int)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("[0.4,", "[0.4,x", 1), "line .*DATAPACKET cannot be read"),
        (lambda text: text.replace("[0.4,", "[", 1), "does not have 4 values"),
        (lambda text: text.replace("DATAPACKET", "OTHER"), "holds no EEG packets"),
        (lambda text: text.replace("NEWTARGET", "OTHER"), "holds no trials with flashes"),
        (lambda text: text.replace("{0,", "{9,"), "no single symbol follows the cue"),
        (lambda text: text.replace("{4,1}", "", 1), "set of flashing symbols changes"),
        (lambda text: text.replace("{4,1}", "{4,7}", 1), "trial 1: a symbol has the state 7, only"),
        (lambda text: text.replace("{4,1}", "{4,300}", 1), "trial 1: a symbol has the state 300"),
        (lambda text: text.replace(" id:1 ", " id:99 "), "trial 4: SELECTION has id 99, the 4 sym"),
        (lambda text: text.replace(" id:1 ", " id:0 "), "that flashed are 1 to 4"),
        (lambda text: text.replace(" id:1 ", " id:-1 "), "SELECTION has id -1"),
        (lambda text: packets(text, lambda i: i % 2), r"samples are \d+\.\d\d ms apart, 5 ms"),
        (lambda text: packets(text, lambda i: 1 + (i == 200)), "the same packet is there twice"),
        (lambda text: packets(text, lambda i: i < 10), "holds 40 samples, at least 200"),
    ],
)
def test_damaged_log_is_one_clear_error(tmp_path, damage, message):
    path = write_speller_log(tmp_path / "a.txt")
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=message) as caught:
        _noisetag_log.read_log(path)
    assert str(path) in str(caught.value)


def test_cut_archive_is_one_clear_error(tmp_path):
    path = write_speller_log(tmp_path / "a.txt.gz")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match="cannot be read as a speller log"):
        _noisetag_log.read_log(path)
    path.write_bytes(gzip.compress(b"\xff\xfe\x00"))
    with pytest.raises(DataError, match="cannot be read as a speller log"):
        _noisetag_log.read_log(path)


def test_missing_log_and_wrong_options_are_errors(tmp_path, included):
    with pytest.raises(DataError, match=r"data\.log: .*nowhere.* is not a file"):
        noisetag_speller.sources(Config(log=str(tmp_path / "nowhere.txt")))
    with pytest.raises(ConfigError, match="did you mean 'target'"):
        validate(Config, {"traget": "level"}, "here")
    narrow = Config(window_start_s=0.5, window_stop_s=0.4)
    with pytest.raises(DataError, match="window_stop_s"):
        noisetag_speller.windows(narrow, included)


def test_every_source_carries_its_licence():
    folder = Path(noisetag_speller.__file__).parent / "files" / "noisetag"
    text = (folder / "README.md").read_text()
    for path in noisetag_speller.sources(Config()):
        assert path.name in text
    assert "MIT License" in text
