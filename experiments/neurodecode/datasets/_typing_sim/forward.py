"""What sensors see of sources: dipoles in a spherical head, and fields from far away.

All results are per sensor of an MNE measurement information: tesla for magnetometers, tesla per
metre for planar gradiometers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._typing_sim.layouts import HEAD_CENTRE_M

_MU0_OVER_4PI = 1e-7
_TESLA_PER_METRE = 201
_HALF_BASELINE_M = 8.4e-3
_GRADIENTS = np.array(
    [
        [[1, 0, 0], [0, -1, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, -2]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]],
        [[0, 0, 1], [0, 0, 0], [1, 0, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]],
    ],
    dtype=np.float64,
)


def lead_field(info: Any, place_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a current dipole of 1 Am looks like, (sensor, dipole, axis).

    Parameters
    ----------
    info
        Sensors with the place of the head.
    place_m
        (dipole, 3) places in head coordinates, metres.

    Notes
    -----
    Sphere model of MNE-Python, centred at (0, 0, 40) mm; radial dipoles are silent.
    """
    import mne

    along = np.tile([0.0, 0.0, 1.0], (len(place_m), 1))
    source = mne.setup_volume_source_space(pos={"rr": place_m, "nn": along}, verbose="ERROR")
    sphere = mne.make_sphere_model(HEAD_CENTRE_M, None, verbose="ERROR")
    identity = mne.Transform("head", "mri")
    solution = mne.make_forward_solution(
        info, identity, source, sphere, meg=True, eeg=False, verbose="ERROR"
    )
    assert solution["nsource"] == len(place_m)
    assert solution["sol"]["row_names"] == info["ch_names"]
    return np.asarray(solution["sol"]["data"]).reshape(len(info["ch_names"]), len(place_m), 3)


def tangential(place_m: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return directions (dipole, 3) without their part along the radius, as unit vectors."""
    outward = place_m - HEAD_CENTRE_M
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    flat = direction - outward * (direction * outward).sum(axis=1, keepdims=True)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


def rotated(
    place_m: NDArray[np.float64], direction: NDArray[np.float64], degrees: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return tangential directions turned about the radius."""
    outward = place_m - HEAD_CENTRE_M
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    angle = np.deg2rad(degrees)[:, None]
    return np.asarray(np.cos(angle) * direction + np.sin(angle) * np.cross(outward, direction))


def far_fields(info: Any) -> NDArray[np.float64]:
    """Return what uniform fields of 1 T and gradients of 1 T/m look like, (sensor, 8)."""
    place, along, normal, planar = _coils(info)
    uniform = np.where(planar[:, None], 0.0, normal)
    at_place = np.einsum("ci,kij,cj->ck", normal, _GRADIENTS, place)
    across = np.einsum("ci,kij,cj->ck", normal, _GRADIENTS, along)
    return np.hstack([uniform, np.where(planar[:, None], across, at_place)])


def magnetic_dipole(
    info: Any, place_m: NDArray[np.float64], moment: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what a magnetic dipole outside the helmet looks like, (sensor,).

    Parameters
    ----------
    info
        Sensors.
    place_m
        (3,) place in device coordinates, metres.
    moment
        (3,) moment, ampere square metres.
    """
    place, along, normal, planar = _coils(info)

    def normal_field(at: NDArray[np.float64]) -> NDArray[np.float64]:
        away = at - place_m
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        unit = away / distance
        field = _MU0_OVER_4PI * (3.0 * unit * (unit @ moment)[:, None] - moment) / distance**3
        return np.asarray((field * normal).sum(axis=1))

    step = _HALF_BASELINE_M * along
    difference = (normal_field(place + step) - normal_field(place - step)) / (2 * _HALF_BASELINE_M)
    return np.where(planar, difference, normal_field(place))


def _coils(
    info: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    locs = np.array([channel["loc"] for channel in info["chs"]])
    planar = np.array([int(channel["unit"]) == _TESLA_PER_METRE for channel in info["chs"]])
    return locs[:, :3], locs[:, 3:6], locs[:, 9:12], planar
