"""Sensors: the 306 of the Neuromag helmet, or radial OPM magnetometers on a shell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._neuromag.helmet import reference_helmet
from neurodecode.datasets._typing_sim.bundle import read_room
from neurodecode.datasets._typing_sim.options import LayoutName

HEAD_CENTRE_M = np.array([0.0, 0.0, 0.04])
_COIL_OF_KIND = {"mag": 3024, "grad": 3012}
_OPM_COIL = 8002
_SHELL_RADIUS_M = 0.102
_SHELL_LOWEST = -0.35
_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


def sensor_info(layout: LayoutName, sfreq_hz: float, device_to_head: NDArray[np.float64]) -> Any:
    """Return MNE's measurement information: names, kinds, coils and places of all sensors.

    Parameters
    ----------
    layout
        Name of the helmet.
    sfreq_hz
        Sampling rate.
    device_to_head
        (4, 4) place of the head, metres.
    """
    import mne

    names, kinds, coils, locs = _neuromag() if layout == "neuromag306" else _opm(int(layout[3:]))
    info = mne.create_info(names, sfreq_hz, kinds, verbose="ERROR")
    for channel, coil, loc in zip(info["chs"], coils, locs, strict=True):
        channel["coil_type"] = coil
        channel["loc"] = loc
    with info._unlock():
        info["line_freq"] = 50.0
        info["dev_head_t"] = mne.Transform("meg", "head", device_to_head)
    return info


def resting_place(layout: LayoutName) -> NDArray[np.float64]:
    """Return the (4, 4) transform from device to head before any head moves, metres."""
    if layout == "neuromag306":
        return read_room().device_to_head.copy()
    place = np.eye(4)
    place[:3, 3] = HEAD_CENTRE_M
    return place


def _neuromag() -> tuple[list[str], list[str], list[int], NDArray[np.float64]]:
    helmet = reference_helmet()
    across = np.cross(helmet.normal, helmet.along)
    locs = np.hstack([helmet.place_mm / 1e3, helmet.along, across, helmet.normal])
    return list(helmet.names), list(helmet.kinds), [_COIL_OF_KIND[k] for k in helmet.kinds], locs


def _opm(num: int) -> tuple[list[str], list[str], list[int], NDArray[np.float64]]:
    """Return magnetometers that point outwards, evenly spread over a spherical cap."""
    index = np.arange(num)
    up = 1.0 - (1.0 - _SHELL_LOWEST) * (index + 0.5) / num
    around = index * _GOLDEN_ANGLE
    ring = np.sqrt(1.0 - up**2)
    normal = np.stack([ring * np.sin(around), ring * np.cos(around), up], axis=1)
    along = np.cross(normal, [0.0, 1.0, 0.0])
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    locs = np.hstack([_SHELL_RADIUS_M * normal, along, np.cross(normal, along), normal])
    names = [f"OPM{number + 1:03d}" for number in range(num)]
    return names, ["mag"] * num, [_OPM_COIL] * num, locs
