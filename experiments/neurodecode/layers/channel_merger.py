"""From the sensors of a helmet to a fixed number of channels, by where the sensors are.

Array names carry their axes: B batch, C sensor, M merged channel, N subject, P position feature,
T sample, U subject of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurodecode.layers.fourier_positions import fourier_positions, has_place
from neurosweep.core.errors import DataError


class ChannelMerger(nn.Module):
    """Average sensors by weights that are smooth functions of their places.

    Every merged channel of a subject is a softmax over the sensors; sensors without a place
    take no part. In training, sensors around one random point are left out of a step.

    Parameters
    ----------
    positions_C2
        Places of the sensors, both axes in [0, 1]; anything else is no place.
    num_subjects
        Subjects N, each with weights of their own.
    num_outputs
        Merged channels M.
    grid
        See `fourier_positions`.
    dropout_radius
        Radius around the random point; 0 leaves nothing out.
    sharpness
        Spread of the scores at the start: 1 averages nearly all sensors, more picks a few.

    Raises
    ------
    DataError
        When no sensor has a place.

    Notes
    -----
    Brain2Qwerty v2, encoder; the form is that of Defossez et al. 2023. Subjects start alike.
    """

    embedding_CP: Tensor
    placed_C: Tensor
    positions_C2: Tensor

    def __init__(
        self,
        positions_C2: Sequence[tuple[float, float]],
        num_subjects: int,
        num_outputs: int,
        grid: int,
        dropout_radius: float,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__()
        if not any(0 <= x <= 1 and 0 <= y <= 1 for x, y in positions_C2):
            msg = f"none of {len(positions_C2)} sensors has a place on the flat map; the encoder"
            raise DataError(f"{msg} needs a dataset that gives a layout of its sensors")
        places_C2 = torch.tensor(positions_C2, dtype=torch.float32)
        embedding_CP = fourier_positions(places_C2, grid)
        self.register_buffer("positions_C2", places_C2, persistent=False)
        self.register_buffer("placed_C", has_place(places_C2), persistent=False)
        self.register_buffer("embedding_CP", embedding_CP, persistent=False)
        # The squares of an embedding's features sum to grid^2: scores have this spread.
        start_MP = torch.randn(num_outputs, embedding_CP.shape[1]) * (sharpness / grid)
        self.heads_NMP = nn.Parameter(start_MP.repeat(num_subjects, 1, 1))
        self.dropout_radius = dropout_radius

    def weights(self, subject_U: Tensor) -> Tensor:
        """Return the weight of every sensor, (subject, merged channel, sensor), summing to 1."""
        scores_UMC = self.heads_NMP[subject_U] @ self.embedding_CP.T
        return torch.softmax(scores_UMC.masked_fill(~self._used(), -torch.inf), dim=-1)

    def forward(self, x_BTC: Tensor, subject_B: Tensor) -> Tensor:
        """Return merged channels, (batch, time, merged channel)."""
        subject_U, place_B = torch.unique(subject_B, return_inverse=True)
        weights_UMC = self.weights(subject_U)
        if len(subject_U) == 1:
            return x_BTC @ weights_UMC[0].T
        return torch.bmm(x_BTC, weights_UMC[place_B].transpose(1, 2))

    def _used(self) -> Tensor:
        if not self.training or self.dropout_radius == 0:
            return self.placed_C
        point_2 = torch.rand(2).to(self.positions_C2)
        far_C = (self.positions_C2 - point_2).square().sum(dim=1) > self.dropout_radius**2
        used_C = self.placed_C & far_C
        return torch.where(used_C.any(), used_C, self.placed_C)
