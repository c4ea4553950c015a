"""Conformer layers that see no padding.

Array names carry their axes: B batch, D feature, F frame, H head, Q feature of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurodecode.layers.masked import Dropout, MaskedGroupNorm, TimeConv


class FeedForward(nn.Sequential):
    """Normalise, expand, SiLU, project back.

    Parameters
    ----------
    num_features
        Size of the feature axis, kept.
    hidden
        Size inside.
    dropout
        Share of values dropped inside and at the end.
    """

    def __init__(self, num_features: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(num_features),
            nn.Linear(num_features, hidden),
            nn.SiLU(),
            Dropout(dropout),
            nn.Linear(hidden, num_features),
            Dropout(dropout),
        )


class SelfAttention(nn.Module):
    """Let every frame attend to all valid frames of its item; places are not told.

    Parameters
    ----------
    num_features
        Size of the feature axis, kept; a multiple of the heads.
    num_heads
        Heads H.
    dropout, dropout_weights
        Share of outputs, and of attention weights, dropped.
    """

    def __init__(
        self, num_features: int, num_heads: int, dropout: float, dropout_weights: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(num_features)
        self.joint = nn.Linear(num_features, 3 * num_features)
        self.out = nn.Linear(num_features, num_features)
        self.dropout_weights = Dropout(dropout_weights)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.joint.weight)
        nn.init.zeros_(self.joint.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_BFD: Tensor, mask_BF1: Tensor) -> Tensor:
        """Return what the frames gather, (batch, frame, feature)."""
        size_B, size_F, size_D = x_BFD.shape
        joint = self.joint(self.norm(x_BFD))
        joint = joint.view(size_B, size_F, 3, self.num_heads, size_D // self.num_heads)
        query_BHFQ, key_BHFQ, value_BHFQ = joint.permute(2, 0, 3, 1, 4)
        key_mask_B11F = mask_BF1.bool().view(size_B, 1, 1, size_F)
        gathered_BHFQ = self._gather(query_BHFQ, key_BHFQ, value_BHFQ, key_mask_B11F)
        gathered_BFD = gathered_BHFQ.transpose(1, 2).reshape(size_B, size_F, size_D)
        mixed: Tensor = self.dropout(self.out(gathered_BFD))
        return mixed

    def _gather(
        self, query_BHFQ: Tensor, key_BHFQ: Tensor, value_BHFQ: Tensor, key_mask_B11F: Tensor
    ) -> Tensor:
        if not self.training or self.dropout_weights.probability == 0:
            return functional.scaled_dot_product_attention(
                query_BHFQ, key_BHFQ, value_BHFQ, attn_mask=key_mask_B11F
            )
        scores_BHFF = query_BHFQ @ key_BHFQ.transpose(2, 3) / math.sqrt(query_BHFQ.shape[3])
        weights_BHFF = scores_BHFF.masked_fill(~key_mask_B11F, -torch.inf).softmax(dim=-1)
        gathered_BHFQ: Tensor = self.dropout_weights(weights_BHFF) @ value_BHFQ
        return gathered_BHFQ


class ConvModule(nn.Module):
    """Mix neighbouring frames: gated pointwise, depthwise, group norm, SiLU, pointwise.

    Parameters
    ----------
    num_features
        Size of the feature axis, kept.
    kernel_size
        Odd number of taps of the depthwise convolution.
    dropout
        Share of outputs dropped.
    """

    def __init__(self, num_features: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_features)
        self.expand = nn.Linear(num_features, 2 * num_features)
        self.depthwise = TimeConv(num_features, num_features, kernel_size, groups=num_features)
        self.group_norm = MaskedGroupNorm(num_features)
        self.out = nn.Linear(num_features, num_features)
        self.dropout = Dropout(dropout)

    def forward(self, x_BFD: Tensor, mask_BF1: Tensor) -> Tensor:
        """Return mixed frames of the same shape."""
        gated_BFD = functional.glu(self.expand(self.norm(x_BFD)), dim=-1) * mask_BF1
        mixed_BFD = functional.silu(self.group_norm(self.depthwise(gated_BFD), mask_BF1))
        out: Tensor = self.dropout(self.out(mixed_BFD))
        return out


class ConformerLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, normalisation.

    Parameters
    ----------
    num_features
        Size of the feature axis, kept.
    num_heads, ffn_features, kernel_size
        Sizes of attention, feed-forward parts and depthwise convolution.
    dropout, dropout_attention
        Share of values dropped in every part, and of attention weights.

    Notes
    -----
    Gulati et al. 2020 in the layout of torchaudio with group norm, as in Brain2Qwerty v2:
    attention before convolution and no encoding of places, which the convolution tells.
    """

    def __init__(
        self,
        num_features: int,
        num_heads: int,
        ffn_features: int,
        kernel_size: int,
        dropout: float,
        dropout_attention: float,
    ) -> None:
        super().__init__()
        self.ffn_before = FeedForward(num_features, ffn_features, dropout)
        self.attention = SelfAttention(num_features, num_heads, dropout, dropout_attention)
        self.conv = ConvModule(num_features, kernel_size, dropout)
        self.ffn_after = FeedForward(num_features, ffn_features, dropout)
        self.norm = nn.LayerNorm(num_features)

    def forward(self, x_BFD: Tensor, mask_BF1: Tensor) -> Tensor:
        """Return frames of the same shape; what lies beyond an end is arbitrary."""
        x_BFD = x_BFD + 0.5 * self.ffn_before(x_BFD)
        x_BFD = x_BFD + self.attention(x_BFD, mask_BF1)
        x_BFD = x_BFD + self.conv(x_BFD, mask_BF1)
        normed: Tensor = self.norm(x_BFD + 0.5 * self.ffn_after(x_BFD))
        return normed
