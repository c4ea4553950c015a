"""A projection of each subject.

Array names carry their axes: B batch, D input, E output, N subject, T sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SubjectProjection(nn.Module):
    """Map features by a matrix and an offset of each subject; all subjects start alike.

    Parameters
    ----------
    num_subjects
        Subjects N.
    num_inputs, num_outputs
        Sizes of the feature axis.

    Notes
    -----
    The subject layer of Brain2Qwerty v2, 512 to 1,500 features there.
    """

    def __init__(self, num_subjects: int, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        start_DE = torch.randn(num_inputs, num_outputs) / math.sqrt(num_inputs)
        self.weight_NDE = nn.Parameter(start_DE.repeat(num_subjects, 1, 1))
        self.bias_NE = nn.Parameter(torch.zeros(num_subjects, num_outputs))

    def forward(self, x_BTD: Tensor, subject_B: Tensor) -> Tensor:
        """Return the features under the map of each item's subject, (batch, time, output)."""
        if len(self.weight_NDE) == 1:
            return x_BTD @ self.weight_NDE[0] + self.bias_NE[0]
        bias_B1E = self.bias_NE[subject_B].unsqueeze(1)
        return torch.baddbmm(bias_B1E, x_BTD, self.weight_NDE[subject_B])
