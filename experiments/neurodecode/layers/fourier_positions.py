"""Places of sensors as waves over the plane.

Array names carry their axes: C sensor, G frequency of one axis, P position feature.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fourier_positions(positions_C2: Tensor, grid: int, margin: float = 0.2) -> Tensor:
    """Return cosines and sines of plane waves at the places of sensors, (C, 2 grid^2).

    Parameters
    ----------
    positions_C2
        Places, both axes in [0, 1].
    grid
        Frequencies of each axis: 0 to ``grid - 1`` waves over the plane and its margins.
    margin
        Width of the border around the plane, so that opposite edges do not look alike.

    Notes
    -----
    Brain2Qwerty v2 uses a grid of 32, hence 2,048 features; the form is that of Defossez et al.
    2023.
    """
    wave_G = 2 * math.pi * torch.arange(grid, dtype=positions_C2.dtype) / (1 + 2 * margin)
    wave_G = wave_G.to(positions_C2.device)
    phase_CG = (positions_C2[:, :1] + margin) * wave_G, (positions_C2[:, 1:] + margin) * wave_G
    phase_CP = (phase_CG[0].unsqueeze(2) + phase_CG[1].unsqueeze(1)).flatten(1)
    return torch.cat([phase_CP.cos(), phase_CP.sin()], dim=1)


def has_place(positions_C2: Tensor) -> Tensor:
    """Return whether a sensor has a place (C,): both coordinates lie in [0, 1]."""
    return ((positions_C2 >= 0.0) & (positions_C2 <= 1.0)).all(dim=1)
