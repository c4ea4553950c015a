"""Layers that never look beyond the end of an item: padding changes nothing.

Sequences are (batch, time, feature) with zeros beyond the end of an item; a mask (batch, time, 1)
is 1.0 inside the items. Array names carry their axes: B batch, D feature, T sample or frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_BYTES_PER_WORD = 8
_LEVELS = 256


def length_mask(length_B: Tensor, num_samples: int) -> Tensor:
    """Return (batch, time, 1): 1.0 inside an item, 0.0 beyond its end."""
    time_T = torch.arange(num_samples, device=length_B.device)
    return (time_T < length_B.unsqueeze(1)).unsqueeze(2).to(torch.float32)


class TimeConv(nn.Module):
    """Convolve over time, keeping the length; zeros lie beyond both ends.

    Parameters
    ----------
    num_inputs, num_outputs
        Sizes of the feature axis.
    kernel_size
        Odd number of taps.
    dilation
        Samples between taps.
    groups
        Groups of features that are convolved apart.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        kernel_size: int,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            num_inputs,
            num_outputs,
            (1, kernel_size),
            padding=(0, dilation * (kernel_size // 2)),
            dilation=(1, dilation),
            groups=groups,
        )
        # (batch, time, feature) is an image of one line with channels last: weights that lie in
        # memory like it halve the time of a step.
        weight = self.conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.conv.weight = nn.Parameter(weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (batch, time, output)."""
        image_BD1T = x_BTD.transpose(1, 2).unsqueeze(2)
        convolved: Tensor = self.conv(image_BD1T).squeeze(2).transpose(1, 2)
        return convolved


class MaskedBatchNorm(nn.Module):
    """Normalise every feature over the valid samples of the batch.

    Parameters
    ----------
    num_features
        Size of the feature axis.
    momentum
        Weight of a new batch in the running statistics that evaluation uses.
    eps
        Added to variances.
    """

    running_mean_D: Tensor
    running_var_D: Tensor

    def __init__(self, num_features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight_D = nn.Parameter(torch.ones(num_features))
        self.bias_D = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean_D", torch.zeros(num_features))
        self.register_buffer("running_var_D", torch.ones(num_features))
        self.momentum = momentum
        self.eps = eps

    def forward(self, x_BTD: Tensor, mask_BT1: Tensor) -> Tensor:
        """Return normalised features; what lies beyond an end is arbitrary."""
        if not self.training:
            scale_D = self.weight_D * torch.rsqrt(self.running_var_D + self.eps)
            return x_BTD * scale_D + (self.bias_D - self.running_mean_D * scale_D)
        flat_ND = x_BTD.reshape(-1, x_BTD.shape[2])
        mask_N = mask_BT1.reshape(-1).to(flat_ND.dtype)
        count = mask_N.sum()
        mean_D = (mask_N @ flat_ND) / count
        centred_ND = flat_ND - mean_D
        var_D = (mask_N @ centred_ND.square()) / count
        self._remember(mean_D, var_D, count)
        scale_D = self.weight_D * torch.rsqrt(var_D + self.eps)
        return torch.addcmul(self.bias_D, centred_ND, scale_D).view_as(x_BTD)

    @torch.no_grad()
    def _remember(self, mean_D: Tensor, var_D: Tensor, count: Tensor) -> None:
        unbiased_D = var_D * (count / (count - 1).clamp(min=1))
        self.running_mean_D.lerp_(mean_D.to(self.running_mean_D), self.momentum)
        self.running_var_D.lerp_(unbiased_D.to(self.running_var_D), self.momentum)


class MaskedGroupNorm(nn.Module):
    """Normalise each item over all features and valid frames, as one group.

    Parameters
    ----------
    num_features
        Size of the feature axis.
    eps
        Added to variances.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight_D = nn.Parameter(torch.ones(num_features))
        self.bias_D = nn.Parameter(torch.zeros(num_features))
        self.eps = eps

    def forward(self, x_BTD: Tensor, mask_BT1: Tensor) -> Tensor:
        """Return normalised features; what lies beyond an end is arbitrary."""
        count_B11 = mask_BT1.sum(dim=(1, 2), keepdim=True) * x_BTD.shape[2]
        mean_B11 = (x_BTD * mask_BT1).sum(dim=(1, 2), keepdim=True) / count_B11
        centred_BTD = (x_BTD - mean_B11) * mask_BT1
        var_B11 = centred_BTD.square().sum(dim=(1, 2), keepdim=True) / count_B11
        normed_BTD = centred_BTD * torch.rsqrt(var_B11 + self.eps)
        return torch.addcmul(self.bias_D, normed_BTD, self.weight_D)


class Dropout(nn.Module):
    """Drop values at random and scale the others up, a random byte deciding each.

    Parameters
    ----------
    probability
        Share of values dropped, in steps of 1/256.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the same shape; the same values outside of training."""
        dropped = round(self.probability * _LEVELS)
        if not self.training or dropped == 0:
            return x
        if x.is_cuda:
            return functional.dropout(x, self.probability)
        # One draw gives eight values: an ordinary dropout costs as much as half a convolution.
        words = torch.empty(-(-x.numel() // _BYTES_PER_WORD), dtype=torch.int64)
        words.random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * (kept.to(x.dtype) * (_LEVELS / (_LEVELS - dropped)))

    def extra_repr(self) -> str:
        """Return the probability, for the printed module."""
        return f"probability={self.probability}"
