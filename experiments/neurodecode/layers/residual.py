"""Residual convolutions over time.

Array names carry their axes: B batch, D feature, F frame.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["batch", "layer"]


class FrameNorm(nn.Module):
    """Normalise features: over the batch, or within each frame.

    Parameters
    ----------
    norm
        ``batch`` for batch normalisation, ``layer`` for layer normalisation of each frame.
    num_features
        Size of the feature axis.
    """

    def __init__(self, norm: Norm, num_features: int) -> None:
        super().__init__()
        self.over_batch = norm == "batch"
        self.norm: nn.Module = (
            nn.BatchNorm1d(num_features) if self.over_batch else nn.LayerNorm(num_features)
        )

    def forward(self, x_BDF: Tensor) -> Tensor:
        """Return normalised features of the same shape."""
        if self.over_batch:
            normed: Tensor = self.norm(x_BDF)
            return normed
        framed: Tensor = self.norm(x_BDF.transpose(1, 2))
        return framed.transpose(1, 2)


class ResidualConv(nn.Module):
    """Add a scaled, dilated convolution of the input to the input.

    Parameters
    ----------
    num_features
        Size of the feature axis, kept.
    kernel_size
        Odd number of taps.
    dilation
        Frames between taps.
    norm
        See `FrameNorm`.
    layer_scale
        Initial factor of the convolution's branch, learned for each feature.
    dropout
        Probability of dropping a value of the branch.
    """

    def __init__(
        self,
        num_features: int,
        kernel_size: int,
        dilation: int,
        norm: Norm,
        layer_scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv1d(
            num_features, num_features, kernel_size, padding=padding, dilation=dilation
        )
        self.norm = FrameNorm(norm, num_features)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout1d(dropout)
        self.scale_D = nn.Parameter(torch.full((num_features,), layer_scale))

    def forward(self, x_BDF: Tensor) -> Tensor:
        """Return features of the same shape."""
        branch_BDF = self.dropout(self.activation(self.norm(self.conv(x_BDF))))
        summed: Tensor = x_BDF + self.scale_D.unsqueeze(-1) * branch_BDF
        return summed
