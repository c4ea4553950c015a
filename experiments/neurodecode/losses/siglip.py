"""Pairwise sigmoid loss that aligns predicted word vectors with those of a language model.

Array names carry their axes: H hidden, W word.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

INIT_LOG_TAU = math.log(10.0)
INIT_BIAS = -10.0
SAME_COSINE = 0.999

_TINY_NORM = 1e-6


def siglip_loss(
    p_WH: Tensor,
    g_WH: Tensor,
    log_tau: Tensor,
    bias: Tensor,
    mask_W: Tensor | None = None,
) -> Tensor:
    """Return the loss of matched pairs: row i of both arguments belongs together.

    Every pair (i, j) is a binary decision, ``tau * cos(p_i, g_j) + bias``. Two rows with the same
    target vector are the same word: their cross pairs are neither pulled together nor pushed
    apart.

    Parameters
    ----------
    p_WH
        Predicted vectors (word, hidden), of any length.
    g_WH
        Target vectors (word, hidden), of any length.
    log_tau, bias
        Scalars: logarithm of the scale of the cosines, and offset.
    mask_W
        Whether a row counts; None for all. Without any row the loss is 0 and has zero gradients.

    Notes
    -----
    Zhai et al. 2023, equation 1; with weights ``1 - y_ij + delta_ij`` where ``y_ij`` says that
    the cosine of two targets is at least 0.999, as in Brain2Qwerty v2.
    """
    if mask_W is not None:
        p_WH, g_WH = p_WH[mask_W], g_WH[mask_W]
    num_words = p_WH.shape[0]
    if num_words == 0:
        return p_WH.sum() + 0.0 * (log_tau + bias)
    p_WH = functional.normalize(p_WH, dim=-1, eps=_TINY_NORM)
    g_WH = functional.normalize(g_WH, dim=-1, eps=_TINY_NORM)
    own_WW = torch.eye(num_words, dtype=torch.bool, device=p_WH.device)
    same_WW = ((g_WH @ g_WH.T).detach() >= SAME_COSINE) | own_WW
    logit_WW = log_tau.exp() * (p_WH @ g_WH.T) + bias
    loss_WW = functional.binary_cross_entropy_with_logits(
        logit_WW, same_WW.to(logit_WW.dtype), reduction="none"
    )
    return loss_WW[own_WW | ~same_WW].sum() / num_words
