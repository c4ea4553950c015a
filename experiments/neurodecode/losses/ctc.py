"""Connectionist temporal classification with an auxiliary head.

Array names carry their axes: B batch, F frame, K class, L target character.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from neurodecode.decoding.alphabet import BLANK

if TYPE_CHECKING:
    from neurodecode.models.conv_conformer.network import EncoderOutput


def ctc_loss(
    output: EncoderOutput, target_BL: Tensor, target_lengths_B: Tensor, aux_weight: float
) -> Tensor:
    """Return the mean negative log-likelihood of a target character.

    Parameters
    ----------
    output
        Logits of both heads.
    target_BL
        Classes of the characters, any value beyond an item's end.
    target_lengths_B
        Characters of every item.
    aux_weight
        Share of the auxiliary head in the loss, in [0, 1].

    Notes
    -----
    Each item's loss is divided by its characters before the mean over items. An item with fewer
    frames than its target needs counts as 0. Brain2Qwerty v2 weighs the auxiliary head by 0.7.
    """
    final = _ctc(output.logits_BFK, output.frames_B, target_BL, target_lengths_B)
    if aux_weight == 0:
        return final
    aux = _ctc(output.aux_logits_BFK, output.frames_B, target_BL, target_lengths_B)
    return (1.0 - aux_weight) * final + aux_weight * aux


def frames_needed(target_BL: Tensor, target_lengths_B: Tensor) -> Tensor:
    """Return the fewest frames a target fits in: its characters, and a blank in each double."""
    place_L = torch.arange(1, target_BL.shape[1], device=target_BL.device)
    doubles_BL = (target_BL[:, 1:] == target_BL[:, :-1]) & (place_L < target_lengths_B.unsqueeze(1))
    return target_lengths_B + doubles_BL.sum(dim=1)


def _ctc(
    logits_BFK: Tensor, frames_B: Tensor, target_BL: Tensor, target_lengths_B: Tensor
) -> Tensor:
    log_p_FBK = torch.log_softmax(logits_BFK, dim=-1).transpose(0, 1)
    return functional.ctc_loss(
        log_p_FBK,
        target_BL,
        frames_B,
        target_lengths_B,
        blank=BLANK,
        reduction="mean",
        zero_infinity=True,
    )
