"""Refuse data that cannot be what it claims to be, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from neurodecode.contracts import Recording
from neurosweep.core.errors import DataError

_MIN_SLOPE = 0.4
_SLOW_HZ = (1.0, 4.0)
_FAST_HZ = (60.0, 90.0)
_FAST_FALLBACK_HZ = (25.0, 45.0)
_RUN = 8
_SHARED_SHARE = 0.1
_CHECKED_SAMPLES = 1024
_MAX_LISTED = 5
_USUAL_SD_V = (1e-8, 1e-2)
_LARGEST_SD_V = 0.1


def check_recording(recording: Recording) -> None:
    """Run every check on one recording.

    Raises
    ------
    DataError
        At the first that fails: what is wrong, where, what is expected and what to do.
    """
    check_shape(recording)
    check_finite(recording)
    check_flat(recording)
    check_amplitude(recording)
    check_events_inside(recording)
    check_channels_distinct(recording)
    check_brain_spectrum(recording)


def check_shape(recording: Recording) -> None:
    """Refuse a recording whose parts do not fit together.

    Raises
    ------
    DataError
        When there is no sample, the sampling rate is not possible, or channels, units or
        segments do not match the samples.
    """
    channels, samples = recording.data_CT.shape
    problems = []
    if not channels or not samples:
        problems.append(f"there are {channels} channels of {samples} samples")
    if not np.isfinite(recording.sfreq_hz) or recording.sfreq_hz <= 0:
        problems.append(f"the sampling rate is {recording.sfreq_hz:g} Hz, must be above 0")
    if len(recording.channels) != channels or len(recording.units) != channels:
        problems.append(
            f"{len(recording.channels)} channel names and {len(recording.units)} units"
            f" for {channels} rows of samples"
        )
    double = {name for name in recording.channels if recording.channels.count(name) > 1}
    if double:
        problems.append(f"channel names are used twice: {_listed(sorted(double))}")
    edges = [edge for segment in recording.segments for edge in segment]
    if not edges or edges != sorted(edges) or edges[0] < 0 or edges[-1] > samples:
        problems.append(f"segments are not ordered ranges within {samples} samples")
    if problems:
        raise DataError(f"{recording.name}: {'; '.join(problems)}; the reader must be corrected")


def check_finite(recording: Recording) -> None:
    """Refuse samples that are not numbers.

    Raises
    ------
    DataError
        Naming the channels and the first time.
    """
    broken = ~np.isfinite(recording.data_CT)
    if not broken.any():
        return
    channels = np.flatnonzero(broken.any(axis=1))
    first = int(np.flatnonzero(broken.any(axis=0))[0]) / recording.sfreq_hz
    names = _listed(recording.channels[i] for i in channels)
    msg = f"{recording.name}: {int(broken.sum())} samples are NaN or infinite, first at {first:g} s"
    raise DataError(f"{msg}, in channels {names}; cut them out or drop the channels")


def check_flat(recording: Recording) -> None:
    """Refuse channels that never change, but for those that the reader set to zero.

    Raises
    ------
    DataError
        Naming them.
    """
    zeroed = set(recording.meta.get("zeroed", ()))
    still = np.flatnonzero(np.ptp(recording.data_CT, axis=1) == 0)
    flat = [i for i in still if recording.channels[i] not in zeroed]
    if flat:
        names = _listed(recording.channels[i] for i in flat)
        msg = f"{recording.name}: {len(flat)} of {len(recording.channels)} channels are flat"
        raise DataError(f"{msg} ({names}); mark them as bad or drop them")


def check_amplitude(recording: Recording) -> None:
    """Refuse EEG in volts whose size can only come from a wrong unit or a damaged file.

    Notes
    -----
    Standard deviations of channels of real EEG are 4 to 400 microvolts. Drift of amplifiers
    without a high-pass can add millivolts.

    Raises
    ------
    DataError
        With the median standard deviation, the range that is accepted and the channels.
    """
    zeroed = set(recording.meta.get("zeroed", ()))
    eeg = [
        i
        for i, unit in enumerate(recording.units)
        if unit == "V" and recording.channels[i] not in zeroed
    ]
    if not eeg:
        return
    sd = np.array([recording.data_CT[i].std(dtype=np.float64) for i in eeg])
    low, high = _USUAL_SD_V
    wrong = sd > _LARGEST_SD_V
    if not low <= np.median(sd) <= high:
        wrong[:] = True
    if wrong.any():
        names = _listed(recording.channels[eeg[i]] for i in np.flatnonzero(wrong))
        msg = f"{recording.name}: the standard deviation of {int(wrong.sum())} EEG channels is"
        msg += f" {np.median(sd[wrong]):.2g} V ({names}), {low:g} to {high:g} V are expected;"
        raise DataError(f"{msg} check the unit of the samples, or get a whole copy")


def check_events_inside(recording: Recording) -> None:
    """Refuse events before the first or after the last sample.

    Raises
    ------
    DataError
        With the count, the first such event and the length of the recording.
    """
    outside = [e for e in recording.events if not 0 <= e.start <= recording.duration_s]
    if outside:
        first = outside[0]
        msg = f"{recording.name}: {len(outside)} of {len(recording.events)} events lie outside the"
        msg += f" recording (0 to {recording.duration_s:g} s), first {first.type} at"
        msg += f" {first.start:g} s; check that events and recording are of the same session"
        raise DataError(f"{msg} and on the same clock")


def check_channels_distinct(recording: Recording) -> None:
    """Refuse channels that repeat each other's samples, shifted in time or not.

    A table that was cut into channels at the wrong columns has this mark: the end of one
    channel is the start of the next.

    Raises
    ------
    DataError
        Naming two such channels.
    """
    start, stop = recording.segments[0]
    stop = min(stop, start + _CHECKED_SAMPLES)
    if stop - start < 2 * _RUN:
        return
    owner: dict[bytes, int] = {}
    shared: dict[tuple[int, int], int] = {}
    for channel in range(len(recording.channels)):
        for run in _runs(recording.data_CT[channel, start:stop]):
            other = owner.setdefault(run, channel)
            if other != channel:
                shared[other, channel] = shared.get((other, channel), 0) + 1
    limit = max(1.0, _SHARED_SHARE * (stop - start - _RUN + 1))
    worst = max(shared, key=lambda pair: shared[pair], default=None)
    if worst is None or shared[worst] < limit:
        return
    pairs = sum(count >= limit for count in shared.values())
    names = " and ".join(recording.channels[i] for i in worst)
    msg = f"{recording.name}: channels share the same runs of samples ({pairs} pairs, for example"
    msg += f" {names}): the file is scrambled or repeats a channel; channels must be"
    raise DataError(f"{msg} distinct, get the original file or drop the copies")


def _runs(samples: npt.NDArray[np.float32]) -> set[bytes]:
    view = np.lib.stride_tricks.sliding_window_view(samples, _RUN)
    return {row.tobytes() for row in view[np.ptp(view, axis=1) > 0]}


def check_brain_spectrum(recording: Recording) -> None:
    """Refuse EEG whose spectrum does not fall with frequency, as white noise does not.

    Notes
    -----
    log10 of the power at 1-4 Hz over the power at 60-90 Hz is 1.06 to 1.55 in real logs of
    the noise-tag speller and 0.00 in the output of its fake amplifier. Recordings below
    180 Hz use 25-45 Hz instead. Magnetometers and gradiometers are not judged: an empty room
    is a recording, too.

    Raises
    ------
    DataError
        With the measured fall and the least that is accepted.
    """
    eeg = [i for i, unit in enumerate(recording.units) if unit in ("V", "a.u.")]
    slope = spectral_fall(recording, eeg) if eeg else None
    if slope is not None and slope < _MIN_SLOPE:
        msg = f"{recording.name}: this cannot be EEG: its power at {_SLOW_HZ[0]:g}-{_SLOW_HZ[1]:g}"
        msg += f" Hz is 10^{slope:.2f} times that of high frequencies, at least 10^{_MIN_SLOPE:g}"
        raise DataError(f"{msg} is expected; was it made by a simulated amplifier?")


def spectral_fall(recording: Recording, channels: list[int]) -> float | None:
    """Return log10 of slow over fast power, the median over channels; None when too short."""
    from scipy import signal

    fast = _FAST_HZ if recording.sfreq_hz >= 2 * _FAST_HZ[1] else _FAST_FALLBACK_HZ
    length = min(stop - start for start, stop in recording.segments)
    size = min(length, round(2 * recording.sfreq_hz))
    if recording.sfreq_hz < 2 * fast[1] or size < recording.sfreq_hz / _SLOW_HZ[1] * 1.5:
        return None
    powers = []
    for start, stop in recording.segments:
        samples = recording.data_CT[channels, start:stop].astype(np.float64)
        frequencies, power = signal.welch(samples, recording.sfreq_hz, nperseg=size)
        powers.append(power)
    power_CF = np.mean(powers, axis=0)
    slow_C, fast_C = (
        power_CF[:, (frequencies >= low) & (frequencies <= high)].mean(axis=1)
        for low, high in (_SLOW_HZ, fast)
    )
    tiny = np.finfo(np.float64).tiny
    return float(np.median(np.log10((slow_C + tiny) / (fast_C + tiny))))


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return ", ".join(listed[:_MAX_LISTED]) + more
