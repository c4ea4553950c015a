from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np
import pytest
from _neuromag_maker import REAL, save
from _sentence_maker import TEXTS, make_opm, trial_events, typed, write_study
from hypothesis import given
from hypothesis import strategies as st

from neurodecode.datasets._neuromag.helmet import reference_helmet
from neurodecode.datasets._sentences import sensors
from neurodecode.datasets._sentences.flat_map import flat_map
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._sentences.reader import read_recording, read_sentence_recordings
from neurodecode.datasets._sentences.together import check_together
from neurodecode.events import write_events
from neurosweep.core.errors import DataError

OPTIONS = SentenceReadOptions()
SECONDS = 12.0


def write(folder, raw):
    return write_study(folder, {"r1": ("S01", typed(TEXTS[:3]))}, raws={"r1": raw})


def test_helmets_of_other_makers_keep_the_order_of_their_file(tmp_path):
    raw = make_opm(SECONDS, 64)
    (recording,) = read_sentence_recordings(write(tmp_path, raw), OPTIONS)
    assert recording.channels == tuple(raw.ch_names)
    assert set(recording.units) == {"T"}
    assert np.allclose(recording.data_CT, raw.get_data(), rtol=1e-6)
    flat = np.array([recording.meta["layout"][name] for name in recording.channels])
    assert (flat.min(), flat.max()) == (0.0, 1.0)
    for name, channel in zip(raw.ch_names, raw.info["chs"], strict=True):
        assert recording.positions[name] == pytest.approx(channel["loc"][:3])


def test_bad_and_flat_sensors_are_zeroed_and_lose_their_place(tmp_path):
    raw = make_opm(SECONDS)
    raw.info["bads"] = ["OPM003"]
    raw._data[5] = 1e-12
    table = write(tmp_path, raw)
    (recording,) = read_sentence_recordings(table, OPTIONS)
    assert not recording.data_CT[[3, 5]].any()
    assert recording.meta["zeroed"] == ["OPM003", "OPM005"]
    assert recording.meta["layout"]["OPM003"] == [-0.1, -0.1]
    assert recording.meta["layout"]["OPM005"] == [-0.1, -0.1]
    assert "OPM005: flat" in recording.meta["warnings"][0]
    for choice, hint in (("refuse", "clean the recording"), ("interpolate", "306-sensor helmet")):
        with pytest.raises(DataError, match=hint):
            read_sentence_recordings(table, SentenceReadOptions(bad_channels=choice))


def test_sensor_without_a_place_is_off_the_map(tmp_path):
    raw = make_opm(SECONDS)
    raw.info["chs"][4]["loc"][:] = 0.0
    (recording,) = read_sentence_recordings(write(tmp_path, raw), OPTIONS)
    assert recording.meta["layout"]["OPM004"] == [-0.1, -0.1]
    assert "OPM004" not in recording.positions


def test_wrong_units_are_refused(tmp_path, monkeypatch):
    raw = make_opm(SECONDS)
    path = save(raw, tmp_path / "a_raw.fif")
    for change in ({"unit": 107}, {"unit_mul": -12}):
        raw.info["chs"][2].update(change)
        with monkeypatch.context() as patch:
            patch.setattr(sensors, "open_recording", lambda _: raw)
            with pytest.raises(DataError, match=r"1 MEG channels are neither in tesla.*OPM002"):
                sensors.read_any_layout(path, OPTIONS, None)


def test_recordings_without_meg_are_refused(tmp_path):
    info = mne.create_info(["Cz", "Pz"], 100.0, "eeg")
    raw = mne.io.RawArray(np.ones((2, 1200)) * 1e-5, info, verbose="ERROR")
    with pytest.raises(DataError, match=r"has no MEG channel \(2 channels, first Cz, Pz\)"):
        read_recording(save(raw, tmp_path / "a_raw.fif"), None, OPTIONS)


def test_files_that_are_no_recordings_are_one_clear_error(tmp_path):
    path = tmp_path / "notes.con"
    path.write_text("nothing")
    with pytest.raises(DataError, match="MNE cannot read it"):
        sensors.open_recording(path)
    with pytest.raises(DataError, match=r"gone\.ds: is missing"):
        read_recording(tmp_path / "gone.ds", None, OPTIONS)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real Neuromag recordings are not here")
@pytest.mark.parametrize(
    ("name", "num"),
    [("sample_audvis_trunc_raw_sss.fif", 301), ("triux_bmlhus_erm_raw_sss.fif", 1000)],
)
def test_real_neuromag_recordings_are_read_in_the_order_of_the_helmet(name, num):
    recording = read_recording(REAL / name, None, OPTIONS)
    assert recording.data_CT.shape == (306, num)
    assert recording.channels == reference_helmet().names
    magnetometers = recording.data_CT[[unit == "T" for unit in recording.units]]
    assert 1e-14 < np.median(magnetometers.std(axis=1)) < 1e-11
    with pytest.raises(DataError, match="MaxShield"):
        read_recording(REAL / "test_move_anon_erm_raw.fif", None, OPTIONS)


def test_recording_without_a_table_is_named_after_its_file(tmp_path):
    path = save(make_opm(SECONDS), tmp_path / "visit2.fif")
    recording = read_recording(path, None, OPTIONS)
    assert recording.name == "unknown/visit2"
    assert recording.events == ()
    assert list(recording.source_sha256) == ["visit2.fif"]


def test_gaps_of_the_acquisition_cut_segments_and_drop_sentences(tmp_path):
    raw = make_opm(SECONDS)
    raw.set_annotations(mne.Annotations([4.5], [1.0], ["BAD_ACQ_SKIP"]))
    table = tmp_path / "events.tsv"
    save(raw, tmp_path / "r1_raw.fif")
    write_events(table, trial_events(typed(TEXTS[:3])))
    (recording,) = read_sentence_recordings(table, OPTIONS)
    assert recording.segments == ((0, 450), (550, 1200))
    kept = [event.trial_id for event in recording.events if event.type == "Sentence"]
    assert kept == ["t00", "t02"]
    assert "1 sentences lie on a gap" in recording.meta["warnings"][-1]


def test_recordings_of_two_helmets_are_no_study(tmp_path):
    three = typed(TEXTS[:3])
    table = write_study(
        tmp_path,
        {"r1": ("S01", three), "r2": ("S02", three)},
        raws={"r1": make_opm(SECONDS, 60), "r2": make_opm(SECONDS, 55)},
    )
    with pytest.raises(DataError, match=r"one study needs one helmet"):
        read_sentence_recordings(table, OPTIONS)


def test_head_that_moved_far_is_refused(tmp_path):
    raws = {"r1": make_opm(SECONDS, seed=1), "r2": make_opm(SECONDS, seed=2)}
    three = typed(TEXTS[:3])
    table = write_study(tmp_path, {"r1": ("S01", three), "r2": ("S01", three)}, raws=raws)
    one, two = (replace(r, source_sha256={}) for r in read_sentence_recordings(table, OPTIONS))
    one.meta["head_mm"], two.meta["head_mm"] = [0.0, 0.0, 0.0], [0.0, 30.0, 0.0]
    with pytest.raises(DataError, match=r"30\.0 mm from where it is in"):
        check_together([one, two], OPTIONS, "here")
    one.meta["sss"] = True
    with pytest.raises(DataError, match="SSS changes scale"):
        check_together([one, two], OPTIONS, "here")


@given(st.integers(8, 80), st.floats(0.05, 0.2), st.floats(-0.05, 0.05))
def test_flat_map_keeps_the_order_of_distances_from_the_top(number, radius, shift):
    height = np.linspace(0.99, -0.2, number)
    around = 2.4 * np.arange(number)
    ring = np.sqrt(1 - height**2)
    offset = np.array([shift, -shift, 2 * shift])
    xyz = radius * np.stack([ring * np.cos(around), ring * np.sin(around), height], axis=1)
    places = {f"c{k}": tuple(place) for k, place in enumerate(xyz + offset)}
    flat = np.array(list(flat_map(places).values()))
    assert flat.min() >= 0.0
    assert flat.max() <= 1.0
    assert np.ptp(flat, axis=0) == pytest.approx([1.0, 1.0], abs=1e-4)
    assert len(np.unique(flat.round(4), axis=0)) == number


def test_flat_map_of_few_or_no_sensors():
    assert flat_map({}) == {}
    assert flat_map({"a": (0.0, 0.0, 0.1)}) == {"a": (0.5, 0.5)}
