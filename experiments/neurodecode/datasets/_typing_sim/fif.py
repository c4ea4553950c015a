"""Write recordings as FIF files that are equal, byte by byte, whenever they are written."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct(">iIii")
_ID_TYPE = 31
_ID_SIZE = 20
_FULL_SCALE = 32_000


def write_fif(path: Path, info: Any, data_CT: NDArray[np.float32]) -> None:
    """Write samples in 16 bits, every sensor with its own scale.

    Parameters
    ----------
    path
        File to write.
    info
        MNE's measurement information; its calibrations are set.
    data_CT
        (sensor, sample), tesla and tesla per metre.

    Notes
    -----
    A step is 1/32000 of the sensor's largest value, far below its noise.
    """
    import mne

    for channel, samples in zip(info["chs"], data_CT, strict=True):
        largest = float(np.abs(samples).max()) or 1.0
        channel["cal"], channel["range"] = largest / _FULL_SCALE, 1.0
    raw = mne.io.RawArray(data_CT, info, verbose="ERROR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        raw.save(path, fmt="short", overwrite=True, verbose="ERROR")
    _forget_when_and_where(path)


def _forget_when_and_where(path: Path) -> None:
    """Set the identifiers in a FIF file to zero: they hold the machine and the time of writing."""
    with path.open("r+b") as file:
        position = 0
        while header := file.read(_HEADER.size):
            _, data_type, size, following = _HEADER.unpack(header)
            if data_type == _ID_TYPE and size == _ID_SIZE:
                file.seek(4, 1)
                file.write(bytes(_ID_SIZE - 4))
            position = following if following > 0 else position + _HEADER.size + size
            if following == -1:
                return
            file.seek(position)
