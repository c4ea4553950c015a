from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from _dataset_maker import FAKE_AMPLIFIER, brown_noise, make_recording

from neurodecode import checks
from neurodecode.datasets import noisetag_speller
from neurodecode.events import Event
from neurosweep.core.errors import DataError


def test_noise_like_eeg_passes_all_checks():
    checks.check_recording(make_recording())


def test_output_of_the_fake_amplifier_is_refused():
    config = noisetag_speller.Config(log=str(FAKE_AMPLIFIER))
    (recording,) = noisetag_speller.read(config)
    assert checks.spectral_fall(recording, [0, 1, 2, 3]) == pytest.approx(0.0, abs=0.02)
    with pytest.raises(DataError, match=r"cannot be EEG.*simulated amplifier"):
        checks.check_recording(recording)


def test_white_noise_is_judged_at_any_rate_and_in_epochs():
    white = np.random.default_rng(0).standard_normal((4, 6400))
    for sfreq in (100.0, 128.0, 200.0):
        epochs = tuple((i, i + 100) for i in range(0, 6400, 100))
        for segments in (((0, 6400),), epochs):
            with pytest.raises(DataError, match="cannot be EEG"):
                checks.check_brain_spectrum(make_recording(white, sfreq, segments=segments))


def test_magnetometers_of_an_empty_room_are_not_judged():
    white = np.random.default_rng(0).standard_normal((2, 4000)) * 1e-13
    checks.check_recording(make_recording(white, units=("T", "T/m")))


def test_nan_names_channel_and_time():
    data = brown_noise(3, 4000, 200.0)
    data[1, 500:503] = np.nan
    with pytest.raises(DataError, match=r"3 samples are NaN .* first at 2.5 s, in channels E1;"):
        checks.check_recording(make_recording(data))


def test_flat_channels_are_named():
    data = brown_noise(8, 4000, 200.0)
    data[1:7] = 3.0
    with pytest.raises(DataError, match=r"6 of 8 channels are flat \(E1, .*, E5 and 1 more\)"):
        checks.check_recording(make_recording(data))


@pytest.mark.parametrize("start", [-0.5, 20.5])
def test_events_outside_are_counted(start):
    inside = Event("Keystroke", 1.0, 0.1, "r1", "s01")
    outside = Event("Keystroke", start, 0.1, "r1", "s01")
    message = f"1 of 2 events lie outside the recording (0 to 20 s), first Keystroke at {start:g} s"
    with pytest.raises(DataError, match=re.escape(message)):
        checks.check_recording(make_recording(events=(inside, outside)))


@pytest.mark.parametrize("shift", [0, 28])
def test_channels_cut_at_wrong_columns_or_repeated_are_refused(shift):
    flat = brown_noise(1, 2000, 100.0)[0]
    data = np.stack([flat[shift * i : shift * i + 50] for i in range(4)])
    with pytest.raises(DataError, match="the file is scrambled or repeats a channel"):
        checks.check_channels_distinct(make_recording(data, 100.0))


def test_rounded_samples_and_pauses_are_no_repetition():
    data = np.round(brown_noise(6, 4000, 200.0))
    data[:, 1000:1100] = 0.0
    checks.check_channels_distinct(make_recording(data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ("A", "B", "C")}, "3 channel names and 4 units for 4 rows"),
        ({"channels": ("A", "B", "A", "C")}, "used twice: A"),
        ({"segments": ((0, 100), (50, 200))}, "segments are not ordered"),
        ({"segments": ((0, 5000),)}, "ranges within 4000 samples"),
        ({"segments": ()}, "segments are not ordered"),
        ({"sfreq_hz": 0.0}, "sampling rate is 0 Hz"),
        ({"sfreq_hz": float("nan")}, "sampling rate is nan Hz"),
        ({"data_CT": np.zeros((0, 9), "f4"), "channels": (), "units": ()}, "0 channels of 9 sam"),
        ({"data_CT": np.zeros((4, 0), "f4"), "segments": ((0, 0),)}, "4 channels of 0 samples"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        checks.check_recording(replace(make_recording(), **changes))


@pytest.mark.parametrize("size", [1e-12, 1e-2, 1e30])
def test_implausible_volts_are_refused(size):
    data = brown_noise(4, 4000, 200.0) * size
    volts = make_recording(data, units=("V",) * 4)
    with pytest.raises(DataError, match=r"standard deviation of 4 EEG channels is .* V \(E0, E1"):
        checks.check_recording(volts)
    checks.check_amplitude(replace(volts, units=("a.u.",) * 4))


def test_one_channel_of_another_size_is_named_and_zeroed_ones_are_not():
    data = brown_noise(4, 4000, 200.0) * 1e-6
    data[2] *= 1e6
    volts = make_recording(data, units=("V",) * 4)
    with pytest.raises(DataError, match=r"of 1 EEG channels is 9\.\d V \(E2\)"):
        checks.check_amplitude(volts)
    data[2] = 0.0
    checks.check_recording(make_recording(data, units=("V",) * 4, meta={"zeroed": ["E2"]}))
