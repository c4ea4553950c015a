"""Read one Neuromag recording: 306 sensors in canonical order, tesla and tesla per metre."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._neuromag.bads import check_scale, flat_sensors, marked_bad, treat_bads
from neurodecode.datasets._neuromag.files import MNE_ERRORS, check_files, open_raw
from neurodecode.datasets._neuromag.helmet import NUM_SENSORS, reference_helmet
from neurodecode.datasets._neuromag.options import ReadOptions
from neurodecode.datasets._neuromag.sensors import SensorMap, map_sensors, moved_sensors, named
from neurosweep.core.errors import DataError

_CHUNK_S = 30.0
_RATE_TOLERANCE = 1e-3
_GAP = "BAD_ACQ_SKIP"


@dataclass(frozen=True)
class Signal:
    """A recording in canonical form.

    Attributes
    ----------
    data_CT
        (306, samples), tesla for magnetometers and tesla per metre for gradiometers.
    sfreq_hz
        Sampling rate.
    segments
        Sample ranges without a gap of the acquisition.
    bads
        Sensors without a signal of their own: marked bad, flat or missing.
    facts
        JSON data: bads, missing, flat, zeroed, sss, maxshield, filters, place of the head,
        warnings.
    files
        Every file that was read.
    """

    data_CT: NDArray[np.float32]
    sfreq_hz: float
    segments: tuple[tuple[int, int], ...]
    bads: tuple[str, ...]
    facts: dict[str, Any]
    files: tuple[Path, ...]


def read_signal(path: Path, options: ReadOptions, sfreq_hz: float | None = None) -> Signal:
    """Read a recording with its continuations.

    Parameters
    ----------
    path
        FIF file; of a split recording the first one.
    options
        What is accepted.
    sfreq_hz
        The rate that the recording must have; None accepts any.

    Raises
    ------
    DataError
        When the recording is damaged, not of this system, or not accepted by the options.
    """
    files = check_files(path, options.allow_maxshield)
    where = str(path)
    raw = open_raw(path)
    sfreq = float(raw.info["sfreq"])
    _check_rate(sfreq, sfreq_hz, where)
    sensors = map_sensors(raw.info["chs"], where)
    notes = _check_sensors(raw.info["chs"], sensors, options, where)
    segments = _segments(raw)
    marked = marked_bad(raw.info["bads"], sensors)
    data = _read_data(raw, sensors, segments, marked, where)
    flat = flat_sensors(data, sensors, segments)
    bads = tuple(n for n in reference_helmet().names if n in {*marked, *flat, *sensors.missing})
    check_scale(data, bads, where)
    treat_bads(data, raw.info["chs"], sensors, {*marked, *flat}, options, where)
    if flat:
        notes.append(f"{named(flat)}: flat, so taken as bad")
    missing = set(sensors.missing)
    facts = _facts(raw.info, notes) | {
        "bads": list(marked),
        "flat": list(flat),
        "missing": list(sensors.missing),
        "zeroed": [name for name in bads if options.bad_channels == "zero" or name in missing],
    }
    return Signal(data, sfreq, segments, bads, facts, files)


def _check_rate(sfreq: float, expected: float | None, where: str) -> None:
    if not np.isfinite(sfreq) or sfreq <= 0:
        msg = f"{where}: its sampling rate is {sfreq:g} Hz; correct the file's information"
        raise DataError(msg)
    if expected is not None and abs(sfreq - expected) > _RATE_TOLERANCE * expected:
        msg = f"{where}: is sampled at {sfreq:g} Hz, {expected:g} Hz was expected; correct the"
        raise DataError(f"{msg} rate in the options or the events table, or give another file")


def _check_sensors(
    channels: Any, sensors: SensorMap, options: ReadOptions, where: str
) -> list[str]:
    """Return warnings about sensors that the options accept; raise about all others."""
    notes: list[str] = []
    if sensors.missing:
        what = f"{len(sensors.missing)} of 306 sensors are missing: {named(sensors.missing)}"
        if options.missing_sensors == "refuse":
            msg = f"{where}: {what}; give the whole recording, or take them as zeros with"
            raise DataError(f"{msg} missing_sensors = 'zero'")
        notes.append(f"{what}; taken as zeros")
    moved = moved_sensors(channels, sensors, options.moved_mm)
    if moved:
        what = f"{len(moved)} sensors are not where the reference helmet has them: {named(moved)}"
        if options.moved_sensors == "refuse":
            msg = f"{where}: {what}; allowed are {options.moved_mm:g} mm. Is this another system,"
            msg += " or did a transformation of the head go into the device? Accept it with"
            raise DataError(f"{msg} moved_sensors = 'warn' or a larger moved_mm")
        notes.append(what)
    return notes


def _segments(raw: Any) -> tuple[tuple[int, int], ...]:
    """Return the sample ranges between the gaps of the acquisition."""
    sfreq, total = raw.info["sfreq"], int(raw.n_times)
    gaps = []
    for note in raw.annotations:
        if note["description"] == _GAP:
            first = round((note["onset"] - raw.first_time) * sfreq)
            gaps.append((first, first + round(note["duration"] * sfreq)))
    ranges, start = [], 0
    for first, stop in [*sorted(gaps), (total, total)]:
        if first > start:
            ranges.append((start, min(first, total)))
        start = max(start, stop)
    return tuple(ranges)


def _chunks(raw: Any, segments: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    step = max(1, int(_CHUNK_S * raw.info["sfreq"]))
    for start, stop in segments:
        for first in range(start, stop, step):
            yield first, min(first + step, stop)


def _read_data(
    raw: Any,
    sensors: SensorMap,
    segments: tuple[tuple[int, int], ...],
    marked: tuple[str, ...],
    where: str,
) -> NDArray[np.float32]:
    """Return (306, samples); gaps, missing sensors and broken samples of bad sensors are zero."""
    names = reference_helmet().names
    present = np.flatnonzero(sensors.rows >= 0)
    bad = np.array([names[index] in marked for index in present])
    data = np.zeros((NUM_SENSORS, int(raw.n_times)), dtype=np.float32)
    for start, stop in _chunks(raw, segments):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                chunk = raw.get_data(sensors.rows[present], start, stop, verbose="ERROR")
        except MNE_ERRORS as error:
            first, last = start / raw.info["sfreq"], stop / raw.info["sfreq"]
            msg = f"{where}: the data from {first:g} s to {last:g} s is damaged ({error})"
            raise DataError(f"{msg}; copy it again from its source") from error
        broken = ~np.isfinite(chunk)
        if broken[~bad].any():
            row, column = np.argwhere(broken & ~bad[:, None])[0]
            msg = f"{where}: {names[present[row]]} is NaN or infinite at"
            msg += (
                f" {(start + column) / raw.info['sfreq']:.3f} s ({broken[~bad].sum()} such samples"
            )
            msg += f" up to {stop / raw.info['sfreq']:g} s); cut that stretch out, or mark the"
            raise DataError(f"{msg} sensor as bad, and save the file again")
        data[present, start:stop] = np.where(broken, 0.0, chunk)
    return data


def _facts(info: Any, notes: list[str]) -> dict[str, Any]:
    sss = any((entry.get("max_info") or {}).get("sss_info") for entry in info["proc_history"])
    shift = info["dev_head_t"]
    head_mm = None if shift is None else np.round(shift["trans"][:3, 3] * 1e3, 2).tolist()
    return {
        "sss": bool(sss),
        "maxshield": bool(info.get("maxshield")),
        "highpass_hz": float(info["highpass"]),
        "lowpass_hz": float(info["lowpass"]),
        "line_hz": None if info["line_freq"] is None else float(info["line_freq"]),
        "head_mm": head_mm,
        "warnings": notes,
    }
