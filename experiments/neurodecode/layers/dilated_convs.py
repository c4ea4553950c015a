"""Dilated convolutions over the samples of whole sentences.

Array names carry their axes: B batch, D feature, T sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurodecode.layers.masked import Dropout, MaskedBatchNorm, TimeConv

_BOOST = 5.0


class ConvBlock(nn.Module):
    """Add a normalised, dilated convolution to its input, scaled for each feature.

    Parameters
    ----------
    num_features
        Size of the feature axis, kept.
    kernel_size
        Odd number of taps.
    dilation
        Samples between taps.
    layer_scale
        Initial factor of the branch. It is stored divided by 5, so that it learns 5 times
        faster than other weights.
    dropout
        Share of the branch's values dropped.
    """

    def __init__(
        self,
        num_features: int,
        kernel_size: int,
        dilation: int,
        layer_scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.conv = TimeConv(num_features, num_features, kernel_size, dilation)
        self.norm = MaskedBatchNorm(num_features)
        self.dropout = Dropout(dropout)
        self.scale_D = nn.Parameter(torch.full((num_features,), layer_scale / _BOOST))

    def forward(self, x_BTD: Tensor, mask_BT1: Tensor) -> Tensor:
        """Return features of the same shape, zero beyond the ends."""
        branch_BTD = functional.gelu(self.norm(self.conv(x_BTD), mask_BT1))
        branch_BTD = self.dropout(branch_BTD) * (_BOOST * self.scale_D)
        return torch.addcmul(x_BTD, branch_BTD, mask_BT1)


class DilatedConvs(nn.Module):
    """Stack residual convolutions, and end with a plain one.

    Parameters
    ----------
    num_features, num_outputs
        Sizes of the feature axis before and after the last convolution.
    num_convs
        Convolutions, the last included.
    kernel_size
        Odd number of taps.
    dilation_period
        The dilation doubles from one convolution to the next and restarts at 1 after so many.
    layer_scale
        See `ConvBlock`.
    dropout_input, dropout
        Share of values dropped before the first convolution and in every block.

    Notes
    -----
    Brain2Qwerty v2, encoder: four convolutions of 5 taps with dilations 1, 2, 4, 1.
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        num_convs: int,
        kernel_size: int,
        dilation_period: int,
        layer_scale: float,
        *,
        dropout_input: float,
        dropout: float,
    ) -> None:
        super().__init__()
        dilations = [2 ** (index % dilation_period) for index in range(num_convs)]
        self.dropout = Dropout(dropout_input)
        self.blocks = nn.ModuleList(
            ConvBlock(num_features, kernel_size, dilation, layer_scale, dropout)
            for dilation in dilations[:-1]
        )
        self.last = TimeConv(num_features, num_outputs, kernel_size, dilations[-1])

    def forward(self, x_BTD: Tensor, mask_BT1: Tensor) -> Tensor:
        """Return (batch, time, output); what lies beyond an end is arbitrary.

        Parameters
        ----------
        x_BTD
            Features, zero beyond the ends.
        mask_BT1
            1.0 inside the items.
        """
        x_BTD = self.dropout(x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT1)
        convolved: Tensor = self.last(x_BTD)
        return convolved
