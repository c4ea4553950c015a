"""Mixing of channels.

Array names carry their axes: B batch, C channel, D feature, N subject, T sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SpatialProjection(nn.Module):
    """Mix channels by one learned matrix: (batch, channel, time) to (batch, feature, time)."""

    def __init__(self, num_channels: int, num_features: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(num_channels, num_features, kernel_size=1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return the mixed channels, (batch, feature, time)."""
        mixed: Tensor = self.mix(x_BCT)
        return mixed


class SubjectAffine(nn.Module):
    """Mix features by a matrix and an offset of each subject.

    Every subject starts at the identity, and weight decay draws it back there: a subject with
    few windows stays close to the others.

    Notes
    -----
    The subject layer of Brain2Qwerty v1 (Levy et al. 2025), with an equal number of inputs and
    outputs.
    """

    def __init__(self, num_subjects: int, num_features: int) -> None:
        super().__init__()
        self.change_NDD = nn.Parameter(torch.zeros(num_subjects, num_features, num_features))
        self.bias_ND = nn.Parameter(torch.zeros(num_subjects, num_features))

    def forward(self, x_BDT: Tensor, subject_B: Tensor) -> Tensor:
        """Return the features, mixed by the matrix of each window's subject."""
        change_BDT = torch.einsum("bdt,bde->bet", x_BDT, self.change_NDD[subject_B])
        return x_BDT + change_BDT + self.bias_ND[subject_B].unsqueeze(-1)
