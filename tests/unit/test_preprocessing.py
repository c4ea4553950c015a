from __future__ import annotations

import mne
import numpy as np
import pytest
from _dataset_maker import brown_noise, make_recording
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.contracts import Item
from neurodecode.preprocessing.cache import prepare_recordings
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.preprocessing.cutting import cut_windows
from neurodecode.preprocessing.pipeline import preprocess
from neurodecode.preprocessing.spectral import filter_and_resample
from neurosweep.core.errors import DataError

SFREQ = 200.0
OFF = PreprocessingConfig(
    notch_hz=0, highpass_hz=0, lowpass_hz=0, resample_hz=0, scale="none", clamp=0
)


def tone(hz, seconds=40.0, sfreq=SFREQ, channels=2):
    times = np.arange(round(seconds * sfreq)) / sfreq
    return np.tile(np.sin(2 * np.pi * hz * times), (channels, 1))


def strength(data_CT):
    return float(np.sqrt((data_CT[:, 1000:-1000] ** 2).mean() * 2))


def change(config, **values):
    return config.model_copy(update=values)


def test_everything_off_changes_nothing():
    recording = make_recording()
    done = preprocess(recording, OFF)
    assert np.array_equal(done.data_CT, recording.data_CT)
    assert (done.sfreq_hz, done.segments) == (SFREQ, ((0, 4000),))


@pytest.mark.parametrize(
    ("hz", "values", "gain"),
    [
        (50.0, {"notch_hz": 50.0}, 0.0),
        (45.0, {"notch_hz": 50.0}, 1.0),
        (0.1, {"highpass_hz": 1.0}, 0.0),
        (10.0, {"highpass_hz": 1.0, "lowpass_hz": 30.0}, 1.0),
        (45.0, {"lowpass_hz": 30.0}, 0.0),
    ],
)
def test_filters_pass_and_stop_the_right_tones(hz, values, gain):
    done = preprocess(make_recording(tone(hz)), change(OFF, **values))
    assert strength(done.data_CT) == pytest.approx(gain, abs=0.05)


@pytest.mark.parametrize("seconds", [40.0, 2.0])
def test_filters_do_not_delay(seconds):
    pulse = np.zeros((1, round(seconds * SFREQ)))
    middle = pulse.shape[1] // 2
    pulse[0, middle] = 1.0
    done = preprocess(make_recording(pulse), change(OFF, highpass_hz=1.0, lowpass_hz=30.0))
    assert int(np.argmax(done.data_CT[0])) == middle


def test_resampling_keeps_time():
    recording = make_recording(tone(7.0))
    done = preprocess(recording, change(OFF, lowpass_hz=40.0, resample_hz=100.0))
    assert done.data_CT.shape == (2, 4000)
    times = np.arange(4000) / 100.0
    error = done.data_CT[0] - np.sin(2 * np.pi * 7.0 * times)
    assert np.abs(error[200:-200]).max() < 0.02


def test_scaling_is_robust_and_per_channel():
    data = brown_noise(3, 8000, SFREQ) * np.array([[1e-6], [1.0], [1e6]]) + 5.0
    data[:, 100] *= 1e4
    done = preprocess(make_recording(data), change(OFF, scale="robust", clamp=5.0))
    low, middle, high = np.percentile(done.data_CT, [25, 50, 75], axis=1)
    assert np.allclose(middle, 0.0, atol=1e-3)
    assert np.allclose(high - low, 1.349, atol=1e-3)
    assert np.abs(done.data_CT).max() <= 5.0


def test_average_reference_is_over_eeg_channels_only():
    recording = make_recording(brown_noise(4, 4000, SFREQ), units=("V", "V", "V", "T"))
    done = preprocess(recording, change(OFF, reference="average"))
    assert np.allclose(done.data_CT[:3].sum(axis=0), 0.0, atol=1e-4)
    assert np.array_equal(done.data_CT[3], recording.data_CT[3])


def test_epochs_are_filtered_one_by_one():
    data = brown_noise(2, 1000, 100.0)
    segments = tuple((i, i + 50) for i in range(0, 1000, 50))
    config = change(OFF, lowpass_hz=7.0)
    alone = preprocess(make_recording(data, 100.0, segments=segments), config)
    data[:, 50:] += 1000.0
    beside = preprocess(make_recording(data, 100.0, segments=segments), config)
    assert np.array_equal(alone.data_CT[:, :50], beside.data_CT[:, :50])


def test_epochs_too_short_for_the_high_pass_lose_their_mean_and_say_so():
    segments = tuple((i, i + 50) for i in range(0, 1000, 50))
    recording = make_recording(brown_noise(2, 1000, 100.0) + 9.0, 100.0, segments=segments)
    done = preprocess(recording, change(OFF, highpass_hz=0.5))
    assert len(done.warnings) == 1
    assert "no high-pass at 0.5 Hz" in done.warnings[0]
    assert np.allclose(done.data_CT.reshape(2, 20, 50).mean(axis=-1), 0.0, atol=1e-5)


def test_baseline_is_the_start_of_every_epoch():
    segments = tuple((i, i + 50) for i in range(0, 1000, 50))
    recording = make_recording(brown_noise(2, 1000, 100.0), 100.0, segments=segments)
    done = preprocess(recording, change(OFF, baseline_s=0.1))
    assert np.allclose(done.data_CT.reshape(2, 20, 50)[..., :10].mean(axis=-1), 0.0, atol=1e-5)


def test_segments_of_unequal_length_keep_their_borders():
    recording = make_recording(segments=((0, 1000), (1000, 1500), (1500, 4000)))
    done = preprocess(recording, change(OFF, lowpass_hz=40.0, resample_hz=100.0))
    assert done.segments == ((0, 500), (500, 750), (750, 2000))
    assert done.segment_onsets_s == (0.0, 5.0, 7.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"highpass_hz": 40.0, "lowpass_hz": 30.0}, "must be below lowpass_hz"),
        ({"highpass_hz": 100.0}, "must be below 100"),
        ({"resample_hz": 50.0, "lowpass_hz": 40.0}, "at most 25 when resampling to 50 Hz"),
        ({"resample_hz": 50.0, "lowpass_hz": 0.0}, "above 0 and at most 25"),
    ],
)
def test_impossible_bands_are_errors(values, message):
    with pytest.raises(DataError, match=message):
        preprocess(make_recording(), change(OFF, **values))


def item(*onsets, name="s01/r1/t0"):
    return Item(name, "train", onsets, (0,) * len(onsets), "a", "a")


@settings(max_examples=40)
@given(st.floats(0.2, 19.0), st.floats(-0.2, 0.1), st.floats(0.15, 0.9))
def test_windows_hold_the_samples_around_their_onset(onset, start, stop):
    data = np.arange(4000.0)[None].repeat(2, axis=0)
    prepared = {"s01/r1": preprocess(make_recording(data), OFF)}
    cut = cut_windows(prepared, [item(onset)], (start, stop))
    assert cut.shape == (1, 2, max(1, round((stop - start) * SFREQ)))
    assert cut[0, 0, 0] == round((onset + start) * SFREQ)
    assert np.array_equal(np.diff(cut[0, 1]), np.ones(cut.shape[2] - 1))


@pytest.mark.parametrize("onset", [0.05, 19.99, 25.0, -1.0])
def test_windows_beyond_the_recording_are_errors(onset):
    prepared = {"s01/r1": preprocess(make_recording(), OFF)}
    with pytest.raises(DataError, match=r"1 of 2 windows reach beyond .*shorten the window"):
        cut_windows(prepared, [item(5.0, onset)], (-0.1, 0.2))


def test_windows_never_cross_segments():
    recording = make_recording(segments=((0, 1000), (1000, 4000)))
    prepared = {"s01/r1": preprocess(recording, OFF)}
    assert cut_windows(prepared, [item(4.8)], (0.0, 0.2)).shape == (1, 4, 40)
    with pytest.raises(DataError, match="or its segment"):
        cut_windows(prepared, [item(4.9)], (0.0, 0.2))


def test_recordings_that_differ_are_an_error():
    prepared = {
        "s01/r1": preprocess(make_recording(), OFF),
        "s01/r2": preprocess(make_recording(sfreq=100.0), OFF),
    }
    with pytest.raises(DataError, match="4 channels at 100 Hz, 4 channels at 200 Hz"):
        cut_windows(prepared, [item(1.0)], (0.0, 0.2))


def test_cache_is_made_once_and_mapped(tmp_path, monkeypatch):
    recording = make_recording()
    folder = tmp_path / "cache" / "abc"
    first = prepare_recordings([recording], OFF, folder)
    monkeypatch.setattr("neurodecode.preprocessing.cache.preprocess", None)
    second = prepare_recordings([recording], OFF, folder)
    assert isinstance(second["s01/r1"].data_CT, np.memmap)
    assert np.array_equal(second["s01/r1"].data_CT, recording.data_CT)
    assert first["s01/r1"].segments == second["s01/r1"].segments


def test_failed_preprocessing_leaves_no_cache(tmp_path):
    folder = tmp_path / "cache" / "abc"
    with pytest.raises(DataError):
        prepare_recordings([make_recording()], change(OFF, highpass_hz=150.0), folder)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("told", "notch", "warned"), [(60.0, 50.0, 1), (50.0, 50.0, 0), (60, 0, 0)]
)
def test_notch_at_another_mains_frequency_is_told(told, notch, warned):
    recording = make_recording(meta={"line_hz": told})
    done = preprocess(recording, change(OFF, notch_hz=notch))
    assert len(done.warnings) == warned
    assert all("mains have 60 Hz" in text and "notch_hz is 50" in text for text in done.warnings)


def test_channels_do_not_depend_on_how_many_are_processed_at_once():
    data = brown_noise(70, 2400, SFREQ)
    whole = preprocess(make_recording(data), PreprocessingConfig(reference="none"))
    alone = preprocess(make_recording(data[64:66]), PreprocessingConfig(reference="none"))
    assert np.allclose(whole.data_CT[64:66], alone.data_CT, atol=1e-5)


STEPS = [
    (200.0, 8000, 2.0, 40.0, (50.0,)),
    (250.0, 9001, 0.5, 45.0, (50.0, 100.0)),
    (128.0, 4000, None, 10.0, ()),
    (200.0, 2000, 0.5, None, (50.0,)),
]


@pytest.mark.parametrize(("sfreq", "num", "low", "high", "lines"), STEPS)
def test_filters_at_once_are_those_one_after_the_other(sfreq, num, low, high, lines):
    block = brown_noise(3, num, sfreq)[None] + 300.0
    wanted = block
    if lines:
        wanted = mne.filter.notch_filter(wanted, sfreq, list(lines), verbose="error")
    wanted = mne.filter.filter_data(wanted, sfreq, low, high, verbose="error")
    done = filter_and_resample(block, sfreq, sfreq, (low, high), lines)
    assert np.abs(done - wanted).max() < 1e-9 * np.abs(block).max()


@pytest.mark.parametrize(
    ("sfreq", "new", "num"),
    [(200.0, 100.0, 8001), (500.0, 100.0, 30001), (1000.0, 50.0, 25000), (128.0, 64.0, 3000)],
)
def test_resampling_at_once_takes_the_samples_of_the_filtered_signal(sfreq, new, num):
    block = brown_noise(2, num, sfreq)[None] - 50.0
    band = (0.5, new / 4)
    every = filter_and_resample(block, sfreq, sfreq, band, (50.0,))[..., :: round(sfreq / new)]
    done = filter_and_resample(block, sfreq, new, band, (50.0,))
    assert done.shape[-1] == round(num * new / sfreq)
    error = np.abs(done - every[..., : done.shape[-1]]).max()
    assert error < 5e-3 * every.std()


@pytest.mark.parametrize("sfreq", [250.0, 600.615, 1017.25])
def test_resampling_at_odd_rates_keeps_time(sfreq):
    times = np.arange(round(40 * sfreq)) / sfreq
    block = np.sin(2 * np.pi * 7.0 * times)[None]
    done = filter_and_resample(block, sfreq, 100.0, (None, 40.0), ())
    wanted = np.sin(2 * np.pi * 7.0 * np.arange(done.shape[-1]) / 100.0)
    assert np.abs(done[0] - wanted)[100:-100].max() < 0.01


def test_nothing_to_do_changes_nothing():
    block = brown_noise(2, 3000, 200.0)
    assert filter_and_resample(block, 200.0, 200.0, (None, None), ()) is block
