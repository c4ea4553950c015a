"""From samples to frames.

Array names carry their axes: B batch, D feature, F frame, T sample.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Length = TypeVar("Length", int, Tensor)


class TemporalDownsampling(nn.Module):
    """Filter all features with one kernel, keep one sample in so many, normalise each frame.

    Parameters
    ----------
    num_features
        Size of the feature axis.
    taps
        Samples under the kernel.
    stride
        Samples between frames.

    Notes
    -----
    Brain2Qwerty v2, encoder: 16 taps and a stride of 4 take 100 Hz to 25 Hz.
    """

    def __init__(self, num_features: int, taps: int, stride: int) -> None:
        super().__init__()
        self.taps = taps
        self.stride = stride
        self.filter = nn.Conv2d(1, 1, (taps, 1), (stride, 1))
        self.norm = nn.LayerNorm(num_features, eps=1e-8)

    def num_frames(self, length: Length) -> Length:
        """Return the frames whose samples all lie inside an item, at least 1."""
        whole = (length - self.taps) // self.stride + 1
        if isinstance(whole, Tensor):
            return whole.clamp(min=1)
        return max(1, whole)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (batch, frame, feature); an item shorter than the kernel gives one frame.

        Parameters
        ----------
        x_BTD
            Features, zero beyond the ends.
        """
        if x_BTD.shape[1] < self.taps:
            x_BTD = functional.pad(x_BTD, (0, 0, 0, self.taps - x_BTD.shape[1]))
        filtered_BFD = self.filter(x_BTD.unsqueeze(1)).squeeze(1)
        return torch.nn.functional.gelu(self.norm(filtered_BFD))
