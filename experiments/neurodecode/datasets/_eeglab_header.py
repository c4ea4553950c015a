"""Headers of EEGLAB, read in a process of their own: a damaged one can end the reader's process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode.datasets._damage import READ_ERRORS
from neurosweep.core.entry import call_entry
from neurosweep.core.errors import DataError, NeurosweepError

_FIELDS = ("nbchan", "pnts", "trials", "srate", "data", "event", "chanlocs")
_TIMEOUT_S = 120.0
_WHOLE = "get a whole copy"


@dataclass(frozen=True)
class Header:
    """Content of a header.

    Attributes
    ----------
    samples
        Number of samples a channel.
    sfreq_hz
        Sampling rate.
    channels
        Name of every channel.
    places
        Place of every channel on EEGLAB's unit sphere, x to the nose, y to the left; None for
        one without a place.
    events
        Type of every event, and its latency in samples from 1.
    """

    samples: int
    sfreq_hz: float
    channels: tuple[str, ...]
    places: tuple[tuple[float, float, float] | None, ...]
    events: tuple[tuple[str, float], ...]


def read_header(path: Path) -> Header:
    """Read a header.

    Raises
    ------
    DataError
        When the file is damaged, holds no continuous recording, or a value is not possible.
    """
    try:
        answer = call_entry(f"{__name__}:facts", {"path": str(path)}, timeout_s=_TIMEOUT_S)
    except NeurosweepError as error:
        if type(error) is not NeurosweepError:
            raise
        why = str(error).partition("\n")[0].rstrip(":")
        msg = f"{path}: cannot be read as an EEGLAB header ({why}); the file is damaged, {_WHOLE}"
        raise DataError(msg) from error
    return Header(
        samples=answer["samples"],
        sfreq_hz=answer["sfreq_hz"],
        channels=tuple(answer["channels"]),
        places=tuple(None if p is None else (p[0], p[1], p[2]) for p in answer["places"]),
        events=tuple((kind, latency) for kind, latency in answer["events"]),
    )


def facts(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `Header` as JSON data; runs in the process of its own.

    Raises
    ------
    DataError
        As `read_header` does.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = Path(payload["path"])
    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False)
    except (MatReadError, *READ_ERRORS) as error:
        msg = f"{path}: cannot be read as an EEGLAB header ({error}); a .set file of MATLAB"
        raise DataError(f"{msg} version 5 to 7 is expected, {_WHOLE}") from error
    eeg = content.get("EEG")
    missing = [name for name in _FIELDS if not hasattr(eeg, name)]
    if missing:
        raise DataError(f"{path}: has no EEG structure with {', '.join(missing)}")
    if _number(path, "trials", eeg.trials) != 1:
        raise DataError(f"{path}: holds {eeg.trials} epochs; a continuous recording is expected")
    locations = np.atleast_1d(eeg.chanlocs)
    channels = [_text(path, "chanlocs.labels", getattr(at, "labels", None)) for at in locations]
    if len(channels) != _count(path, "nbchan", eeg.nbchan):
        raise DataError(f"{path}: names {len(channels)} channels, but has {eeg.nbchan}; {_WHOLE}")
    return {
        "samples": _count(path, "pnts", eeg.pnts),
        "sfreq_hz": _positive(path, "srate", eeg.srate),
        "channels": channels,
        "places": [_place(path, location) for location in locations],
        "events": [
            (
                _text(path, f"event({number}).type", getattr(event, "type", None)),
                _number(path, f"event({number}).latency", getattr(event, "latency", None)),
            )
            for number, event in enumerate(np.atleast_1d(eeg.event), start=1)
        ],
    }


def _number(path: Path, field: str, value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf" or not math.isfinite(array.item()):
        msg = f"{path}: {field} is {_shown(value)}, one finite number is expected; {_WHOLE}"
        raise DataError(f"{msg} or correct it in EEGLAB")
    return float(array.item())


def _positive(path: Path, field: str, value: Any) -> float:
    number = _number(path, field, value)
    if number <= 0:
        msg = f"{path}: {field} is {number:g}, must be above 0; {_WHOLE} or correct it in EEGLAB"
        raise DataError(msg)
    return number


def _count(path: Path, field: str, value: Any) -> int:
    number = _positive(path, field, value)
    if number != int(number):
        raise DataError(f"{path}: {field} is {number:g}, a whole number is expected; {_WHOLE}")
    return int(number)


def _text(path: Path, field: str, value: Any) -> str:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "Ubiuf" or not str(array.item()).strip():
        msg = f"{path}: {field} is {_shown(value)}, a name is expected; {_WHOLE}"
        raise DataError(f"{msg} or correct it in EEGLAB")
    return str(array.item())


def _place(path: Path, location: Any) -> Sequence[float] | None:
    axes = [getattr(location, axis, None) for axis in "XYZ"]
    if any(axis is None or not np.size(axis) for axis in axes):
        return None
    return [_number(path, f"chanlocs.{name}", v) for name, v in zip("XYZ", axes, strict=True)]


def _shown(value: Any) -> str:
    return "empty" if value is None or not np.size(value) else repr(value)[:60]
