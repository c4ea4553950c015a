"""From a recording to what models see: reference, notch, band-pass, resample, scale, clamp.

C channels, T samples, N segments. All filters have zero phase. Filters never cross the border
of a segment; segments too short for a windowed FIR filter are extended by reflection and
filtered by a short recursive filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from neurodecode.contracts import FloatArray, Recording
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.preprocessing.spectral import filter_and_resample
from neurosweep.core.errors import DataError

_MIN_FIR_S = 10.0
_IQR_OF_NORMAL = 1.349
_IIR_ORDER = 4
_SAMPLES_AT_ONCE = 8_000_000
_MIN_PERIODS = 1.0

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prepared:
    """A preprocessed recording.

    Attributes
    ----------
    data_CT
        Scaled samples, no unit.
    sfreq_hz
        New sampling rate.
    segments
        Contiguous sample ranges of `data_CT`.
    segment_onsets_s
        When each segment starts, seconds from sample 0 of the recording as it was read.
    warnings
        Steps that could not be done, in sentences.
    """

    data_CT: FloatArray
    sfreq_hz: float
    segments: tuple[tuple[int, int], ...]
    segment_onsets_s: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def preprocess(recording: Recording, config: PreprocessingConfig) -> Prepared:
    """Filter, resample and scale a recording.

    Statistics are per channel over the whole recording; they use no label. Channels are
    processed in groups, so that a long recording of hundreds of channels fits in memory.

    Raises
    ------
    DataError
        When a band is empty or above half the sampling rate.
    """
    _check_band(recording, config)
    sfreq = new_rate(recording, config)
    warnings = _mains_warnings(recording, config)
    mean_T = _reference(recording) if config.reference == "average" else None
    scaled_CT: FloatArray = np.empty((0, 0), dtype=np.float32)
    lengths: list[int] = []
    at_once = max(1, _SAMPLES_AT_ONCE // recording.data_CT.shape[1])
    for first in range(0, len(recording.channels), at_once):
        rows = slice(first, first + at_once)
        data = recording.data_CT[rows].astype(np.float64)
        if mean_T is not None:
            data[_eeg_rows(recording)[rows]] -= mean_T
        blocks = [_process(b, recording, config, warnings) for b in _blocks(recording, data)]
        lengths = [block.shape[-1] for block in blocks for _ in range(len(block))]
        if not first:
            scaled_CT = np.empty((len(recording.channels), sum(lengths)), dtype=np.float32)
        scaled_CT[rows] = _scale(_join(blocks), config)
    edges = np.concatenate([[0], np.cumsum(lengths)])
    return Prepared(
        data_CT=scaled_CT,
        sfreq_hz=sfreq,
        segments=tuple((int(a), int(b)) for a, b in pairwise(edges)),
        segment_onsets_s=tuple(start / recording.sfreq_hz for start, _ in recording.segments),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _mains_warnings(recording: Recording, config: PreprocessingConfig) -> list[str]:
    told = recording.meta.get("line_hz")
    if not told or not config.notch_hz or abs(float(told) - config.notch_hz) < 1.0:
        return []
    return [
        f"{recording.name}: the file says that the mains have {float(told):g} Hz, but"
        f" preprocessing.notch_hz is {config.notch_hz:g}"
    ]


def _process(
    block: Samples, recording: Recording, config: PreprocessingConfig, warnings: list[str]
) -> Samples:
    sfreq = new_rate(recording, config)
    block = _filter_and_resample(block, recording, config, warnings)
    if config.baseline_s > 0:
        head = max(1, round(config.baseline_s * sfreq))
        block = block - block[..., :head].mean(axis=-1, keepdims=True)
    return block


def _check_band(recording: Recording, config: PreprocessingConfig) -> None:
    nyquist = recording.sfreq_hz / 2
    where = f"preprocessing of {recording.name} ({recording.sfreq_hz:g} Hz)"
    problems = []
    if config.lowpass_hz and config.highpass_hz >= config.lowpass_hz:
        problems.append(
            f"highpass_hz: is {config.highpass_hz:g}, must be below lowpass_hz"
            f" ({config.lowpass_hz:g})"
        )
    if config.highpass_hz >= nyquist:
        problems.append(f"highpass_hz: is {config.highpass_hz:g}, must be below {nyquist:g}")
    resampled = config.resample_hz or recording.sfreq_hz
    if resampled < recording.sfreq_hz and not 0 < config.lowpass_hz <= resampled / 2:
        problems.append(
            f"lowpass_hz: is {config.lowpass_hz:g}, must be above 0 and at most"
            f" {resampled / 2:g} when resampling to {resampled:g} Hz"
        )
    if problems:
        raise DataError(f"{where}: " + "; ".join(problems))


def _eeg_rows(recording: Recording) -> npt.NDArray[np.bool_]:
    return np.array([unit in ("V", "a.u.") for unit in recording.units])


def _reference(recording: Recording) -> Samples | None:
    rows = _eeg_rows(recording)
    if rows.sum() < 2:
        return None
    mean_T: Samples = recording.data_CT[rows].mean(axis=0, dtype=np.float64)
    return mean_T


def _blocks(recording: Recording, data: Samples) -> list[Samples]:
    """Return (N, C, T) arrays: one for all segments when they are equally long."""
    lengths = {stop - start for start, stop in recording.segments}
    parts = [data[:, start:stop] for start, stop in recording.segments]
    if len(lengths) == 1:
        return [np.stack(parts)]
    return [part[None] for part in parts]


def _join(blocks: list[Samples]) -> Samples:
    return np.concatenate([np.concatenate(list(block), axis=-1) for block in blocks], axis=-1)


def new_rate(recording: Recording, config: PreprocessingConfig) -> float:
    """Return the sampling rate after preprocessing, which is never raised."""
    if config.resample_hz and config.resample_hz < recording.sfreq_hz:
        return config.resample_hz
    return recording.sfreq_hz


def _filter_and_resample(
    block: Samples, recording: Recording, config: PreprocessingConfig, warnings: list[str]
) -> Samples:
    sfreq = recording.sfreq_hz
    length_s = block.shape[-1] / sfreq
    low = config.highpass_hz or None
    high = config.lowpass_hz if 0 < config.lowpass_hz < sfreq / 2 else None
    if low is not None and length_s * low < _MIN_PERIODS:
        warnings.append(
            f"{recording.name}: no high-pass at {low:g} Hz, segments last only {length_s:g} s;"
            " the mean of each is subtracted instead"
        )
        block = block - block.mean(axis=-1, keepdims=True)
        low = None
    new_hz = new_rate(recording, config)
    if length_s >= _MIN_FIR_S:
        lines = tuple(_notches(sfreq, config.notch_hz, high))
        return filter_and_resample(block, sfreq, new_hz, (low, high), lines)
    block = _filter_short(block, sfreq, low, high, config.notch_hz)
    return _resample(block, sfreq, new_hz)


def _notches(sfreq: float, notch: float, high: float | None) -> list[float]:
    if not notch:
        return []
    limit = min(sfreq / 2 - 2.0, high + notch / 2 if high is not None else sfreq)
    return [float(f) for f in np.arange(notch, limit, notch)]


def _filter_short(
    block: Samples, sfreq: float, low: float | None, high: float | None, notch: float
) -> Samples:
    from scipy import signal

    pad = min(block.shape[-1] - 1, round(sfreq))
    for line in _notches(sfreq, notch, high):
        b, a = signal.iirnotch(line, 30.0, fs=sfreq)
        block = signal.filtfilt(b, a, block, axis=-1, padtype="odd", padlen=pad)
    for edge, kind in ((low, "highpass"), (high, "lowpass")):
        if edge is not None:
            sos = signal.butter(_IIR_ORDER // 2, edge, kind, fs=sfreq, output="sos")
            block = signal.sosfiltfilt(sos, block, axis=-1, padtype="odd", padlen=pad)
    return np.asarray(block, dtype=np.float64)


def _resample(block: Samples, old_hz: float, new_hz: float) -> Samples:
    if new_hz == old_hz:
        return block
    import mne

    resampled = mne.filter.resample(
        block, up=new_hz, down=old_hz, pad="reflect_limited", verbose="error"
    )
    return np.asarray(resampled, dtype=np.float64)


def _scale(data: Samples, config: PreprocessingConfig) -> FloatArray:
    if config.scale == "robust":
        low, median, high = np.percentile(data, [25, 50, 75], axis=-1)
        spread = (high - low) / _IQR_OF_NORMAL
        spread[spread == 0] = 1.0
        data = (data - median[:, None]) / spread[:, None]
    if config.clamp and config.scale == "robust":
        data = np.clip(data, -config.clamp, config.clamp)
    return np.ascontiguousarray(data, dtype=np.float32)
