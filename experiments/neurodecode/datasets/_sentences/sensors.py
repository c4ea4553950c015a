"""MEG recordings of any sensor layout: samples in tesla, and where the sensors are.

C channels, T samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.contracts import Unit
from neurodecode.datasets._damage import READ_ERRORS
from neurodecode.datasets._neuromag.files import MNE_ERRORS, check_files, open_raw
from neurodecode.datasets._neuromag.reading import Signal
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurosweep.core.errors import DataError

_MEG = 1
_UNITS: Mapping[int, Unit] = {112: "T", 201: "T/m"}
_SANE_SD: Mapping[Unit, tuple[float, float]] = {"T": (1e-15, 1e-7), "T/m": (1e-14, 1e-6)}
_CHUNK_S = 30.0
_RATE_TOLERANCE = 1e-3
_GAP = "BAD_ACQ_SKIP"


def recording_files(path: Path) -> tuple[Path, ...]:
    """Return every file of a recording: FIF parts, one file, or all files of a folder.

    Raises
    ------
    DataError
        When it is absent, or a FIF file is cut or damaged.
    """
    if path.name.endswith((".fif", ".fif.gz")):
        return check_files(path, allow_maxshield=True)
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    if not path.is_file():
        raise DataError(f"{path}: is missing; give the path of a recording that MNE reads")
    return (path,)


def open_recording(path: Path) -> Any:
    """Open a recording lazily, whatever format MNE reads.

    Raises
    ------
    DataError
        When MNE cannot make sense of it.
    """
    if path.name.endswith((".fif", ".fif.gz")):
        return open_raw(path)
    import mne

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mne.io.read_raw(path, verbose="ERROR")
    except READ_ERRORS as error:
        msg = f"{path}: MNE cannot read it ({type(error).__name__}: {str(error)[:200]}); give a"
        raise DataError(f"{msg} whole MEG recording, for example a FIF file") from error


def read_any_layout(
    path: Path, options: SentenceReadOptions, sfreq_hz: float | None
) -> tuple[Signal, dict[str, tuple[float, float, float]], tuple[Unit, ...]]:
    """Read the MEG channels of a recording in the order of the file.

    Parameters
    ----------
    path
        Recording.
    options
        What is accepted.
    sfreq_hz
        The rate that the table states; None accepts any.

    Returns
    -------
    signal, places, units
        Samples; channel name to (x, y, z) metres; physical unit of every channel.

    Raises
    ------
    DataError
        When the recording has no MEG channel, other units than tesla, samples that are no
        numbers, or sensors that the options do not accept.
    """
    raw = open_recording(path)
    sfreq = float(raw.info["sfreq"])
    if sfreq_hz is not None and abs(sfreq - sfreq_hz) > _RATE_TOLERANCE * sfreq_hz:
        msg = f"{path}: is sampled at {sfreq:g} Hz, the events table says {sfreq_hz:g} Hz; correct"
        raise DataError(f"{msg} the table or give another file")
    kinds = np.array([int(channel["kind"]) for channel in raw.info["chs"]])
    picks = np.flatnonzero(kinds == _MEG)
    if not len(picks):
        msg = f"{path}: has no MEG channel ({len(raw.ch_names)} channels, first"
        raise DataError(f"{msg} {', '.join(raw.ch_names[:4])}); give an MEG recording")
    channels = [raw.info["chs"][pick] for pick in picks]
    names = [str(channel["ch_name"]) for channel in channels]
    units = _units(channels, path)
    marked = {name for name in raw.info["bads"] if name in names}
    segments = _segments(raw)
    data = _read(raw, picks, segments, [name in marked for name in names], path)
    flat = {n for n, row in zip(names, data, strict=True) if n not in marked and np.ptp(row) == 0}
    bads = tuple(name for name in names if name in marked | flat)
    _treat_bads(data, [names.index(name) for name in bads], bads, options, path)
    _check_scale(data, units, [name not in bads for name in names], path)
    notes = [f"{', '.join(sorted(flat)[:6])}: flat, so taken as bad"] if flat else []
    line = raw.info["line_freq"]
    facts: dict[str, Any] = {
        "sss": False,
        "line_hz": None if line is None else float(line),
        "head_mm": None,
        "warnings": notes,
        "bads": sorted(marked),
        "flat": sorted(flat),
        "zeroed": list(bads),
        "names": names,
    }
    return (
        Signal(data, sfreq, segments, bads, facts, recording_files(path)),
        _places(channels),
        units,
    )


def _units(channels: Sequence[Any], path: Path) -> tuple[Unit, ...]:
    wrong = [
        f"{channel['ch_name']} (unit {int(channel['unit'])}, times 10^{int(channel['unit_mul'])})"
        for channel in channels
        if int(channel["unit"]) not in _UNITS or int(channel["unit_mul"]) != 0
    ]
    if wrong:
        msg = f"{path}: {len(wrong)} MEG channels are neither in tesla nor in tesla per metre:"
        raise DataError(f"{msg} {', '.join(wrong[:4])}; convert them and save the file again")
    return tuple(_UNITS[int(channel["unit"])] for channel in channels)


def _segments(raw: Any) -> tuple[tuple[int, int], ...]:
    """Return the sample ranges between the gaps of the acquisition."""
    total = int(raw.n_times)
    gaps = sorted(
        (round((note["onset"] - raw.first_time) * raw.info["sfreq"]), note["duration"])
        for note in raw.annotations
        if note["description"] == _GAP
    )
    ranges, start = [], 0
    for first, duration in [*gaps, (total, 0.0)]:
        if first > start:
            ranges.append((start, min(first, total)))
        start = max(start, first + round(duration * raw.info["sfreq"]))
    return tuple(ranges)


def _read(
    raw: Any,
    picks: NDArray[np.int64],
    segments: Sequence[tuple[int, int]],
    bad: Sequence[bool],
    path: Path,
) -> NDArray[np.float32]:
    data = np.zeros((len(picks), int(raw.n_times)), dtype=np.float32)
    good = ~np.asarray(bad)
    step = max(1, int(_CHUNK_S * raw.info["sfreq"]))
    for start, stop in ((a, min(a + step, e)) for s, e in segments for a in range(s, e, step)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                chunk = raw.get_data(picks, start, stop, verbose="ERROR")
        except MNE_ERRORS as error:
            when = f"{start / raw.info['sfreq']:g} s to {stop / raw.info['sfreq']:g} s"
            msg = f"{path}: the data from {when} is damaged ({error}); copy it again"
            raise DataError(f"{msg} from its source") from error
        broken = ~np.isfinite(chunk)
        if broken[good].any():
            row, column = np.argwhere(broken & good[:, None])[0]
            msg = f"{path}: {raw.ch_names[picks[row]]} is NaN or infinite at"
            msg += f" {(start + column) / raw.info['sfreq']:.3f} s; cut that stretch out, or mark"
            raise DataError(f"{msg} the sensor as bad, and save the file again")
        data[:, start:stop] = np.where(broken, 0.0, chunk)
    return data


def _treat_bads(
    data: NDArray[np.float32],
    rows: Sequence[int],
    bads: Sequence[str],
    options: SentenceReadOptions,
    path: Path,
) -> None:
    if bads and options.bad_channels != "zero":
        msg = f"{path}: {len(bads)} sensors are bad or flat: {', '.join(bads[:6])};"
        if options.bad_channels == "interpolate":
            msg += " bad_channels = 'interpolate' needs the 306-sensor helmet;"
        raise DataError(f"{msg} use bad_channels = 'zero', or clean the recording")
    data[list(rows)] = 0.0


def _check_scale(
    data: NDArray[np.float32], units: Sequence[Unit], good: Sequence[bool], path: Path
) -> None:
    if not any(good):
        raise DataError(f"{path}: all sensors are bad or flat; there is nothing to decode")
    for unit, (low, high) in _SANE_SD.items():
        rows = [i for i, (u, g) in enumerate(zip(units, good, strict=True)) if u == unit and g]
        sds = [float(data[row].std(dtype=np.float64)) for row in rows]
        if rows and not low <= (sd := float(np.median(sds))) <= high:
            msg = f"{path}: the median standard deviation of its sensors in {unit} is {sd:.2g}"
            msg += f" {unit}, {low:g} to {high:g} are expected; are the values in another unit"
            raise DataError(f"{msg} (fT, pT, volts)? Convert them and save the file again")


def _places(channels: Sequence[Any]) -> dict[str, tuple[float, float, float]]:
    places: dict[str, tuple[float, float, float]] = {}
    for channel in channels:
        x, y, z = (float(v) for v in channel["loc"][:3])
        if np.isfinite([x, y, z]).all() and any((x, y, z)):
            places[str(channel["ch_name"])] = (x, y, z)
    return places
