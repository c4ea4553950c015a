"""Cross entropy with class weights and smoothed targets.

Array names carry their axes: B batch, K class.
"""

from __future__ import annotations

import torch
from torch import Tensor


def class_weights(target_B: Tensor, num_classes: int) -> Tensor:
    """Return a weight for each class, so that every class present counts alike.

    The weights average 1 over the windows; a class without windows has weight 0.

    Parameters
    ----------
    target_B
        Class index of every window.
    num_classes
        Number of classes K.
    """
    count_K = torch.bincount(target_B, minlength=num_classes).to(torch.float32)
    present = int((count_K > 0).sum())
    weight_K = target_B.numel() / (max(present, 1) * count_K.clamp(min=1.0))
    return torch.where(count_K > 0, weight_K, torch.zeros_like(weight_K))


def smoothed_cross_entropy(
    logits_BK: Tensor, target_B: Tensor, weight_K: Tensor, smoothing: float
) -> Tensor:
    """Return the mean cross entropy, each window weighted by its class.

    Parameters
    ----------
    logits_BK
        Logits (batch, class).
    target_B
        Class index of every window.
    weight_K
        Weight of every class, see `class_weights`.
    smoothing
        Share of the target that is spread over all classes, in [0, 1).
    """
    log_p_BK = torch.log_softmax(logits_BK, dim=-1)
    hit_B = log_p_BK.gather(1, target_B.unsqueeze(1)).squeeze(1)
    loss_B = -((1.0 - smoothing) * hit_B + smoothing * log_p_BK.mean(dim=-1))
    weight_B = weight_K[target_B]
    return (weight_B * loss_B).sum() / weight_B.sum().clamp(min=1e-12)
