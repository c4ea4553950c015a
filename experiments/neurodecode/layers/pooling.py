"""From frames to one vector a window.

Array names carry their axes: B batch, D feature, F frame, H head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionPooling(nn.Module):
    """Average frames by learned weights, once a head, and join the heads.

    The score of a frame is additive attention over its features plus a learned bias of its
    place in the window: the latency of a response matters as much as its shape.

    Parameters
    ----------
    num_features, num_frames
        Shape (D, F) of one window.
    num_heads
        Number of averages H.
    hidden
        Size of the scoring layer.

    Notes
    -----
    Brain2Qwerty v1 (Levy et al. 2025) pools by one head of the same additive form, without the
    bias.
    """

    def __init__(self, num_features: int, num_frames: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, hidden)
        self.score = nn.Linear(hidden, num_heads, bias=False)
        self.place_FH = nn.Parameter(0.5 * torch.randn(num_frames, num_heads))
        self.num_outputs = num_features * num_heads

    def weights(self, x_BDF: Tensor) -> Tensor:
        """Return the weight of every frame, (batch, frame, head), summing to 1 over frames."""
        scores_BFH = self.score(torch.tanh(self.hidden(x_BDF.transpose(1, 2))))
        return torch.softmax(scores_BFH + self.place_FH, dim=1)

    def forward(self, x_BDF: Tensor) -> Tensor:
        """Return (batch, feature * head)."""
        return torch.einsum("bdf,bfh->bdh", x_BDF, self.weights(x_BDF)).flatten(1)


class MeanPooling(nn.Module):
    """Average all frames."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_outputs = num_features

    def forward(self, x_BDF: Tensor) -> Tensor:
        """Return (batch, feature)."""
        return x_BDF.mean(dim=-1)


class FlattenPooling(nn.Module):
    """Keep every frame: one weight for each feature at each place."""

    def __init__(self, num_features: int, num_frames: int) -> None:
        super().__init__()
        self.num_outputs = num_features * num_frames

    def forward(self, x_BDF: Tensor) -> Tensor:
        """Return (batch, feature * frame)."""
        return x_BDF.flatten(1)
