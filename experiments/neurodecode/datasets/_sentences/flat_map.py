"""Sensors of a helmet on a flat map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

NO_PLACE = (-0.1, -0.1)


def flat_map(places: Mapping[str, tuple[float, float, float]]) -> dict[str, tuple[float, float]]:
    """Return sensors of a helmet on a flat map, both axes scaled to [0, 1].

    Parameters
    ----------
    places
        Channel name to (x, y, z) metres: right, front, up.

    Returns
    -------
    dict
        Channel name to (x, y): azimuthal equidistant projection around the top of the sphere
        that fits the sensors best, so that distances from the top are kept.
    """
    if not places:
        return {}
    xyz = np.array(list(places.values()))
    outward = xyz - _centre(xyz)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
    from_top = np.arccos(np.clip(outward[:, 2], -1.0, 1.0))
    around = np.arctan2(outward[:, 1], outward[:, 0])
    flat = from_top[:, None] * np.stack([np.cos(around), np.sin(around)], axis=1)
    low, high = flat.min(axis=0), flat.max(axis=0)
    spread = high - low
    scaled = np.where(spread > 1e-9, (flat - low) / np.where(spread > 1e-9, spread, 1.0), 0.5)
    return {
        name: (round(float(x), 5), round(float(y), 5))
        for name, (x, y) in zip(places, scaled, strict=True)
    }


def _centre(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centre of the sphere through the places, least squares; their mean if few."""
    if len(xyz) < 8:
        return np.asarray(xyz.mean(axis=0))
    shifted = xyz - xyz.mean(axis=0)
    system = np.hstack([2.0 * shifted, np.ones((len(xyz), 1))])
    solution, _, rank, _ = np.linalg.lstsq(system, (shifted**2).sum(axis=1), rcond=None)
    return np.asarray(xyz.mean(axis=0) + (solution[:3] if rank == 4 else 0.0))
