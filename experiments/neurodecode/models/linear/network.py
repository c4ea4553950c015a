"""The linear classifier and its closed-form start.

Array names carry their axes: B batch, C channel, D feature, K class, T sample, W window.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodecode.contracts import DataFacts
from neurodecode.models.linear import Config

FloatArray = npt.NDArray[np.float64]


class Linear(nn.Module):
    """Map averaged samples of all channels to the logits of a class.

    Parameters
    ----------
    config
        Features and regularisation.
    facts
        Shape (C, T) of a window and number of classes.
    """

    def __init__(self, config: Config, facts: DataFacts) -> None:
        super().__init__()
        self.shrinkage = config.shrinkage
        self.average = nn.AvgPool1d(config.samples_per_feature, ceil_mode=True)
        places = -(-facts.num_samples // config.samples_per_feature)
        self.dropout = nn.Dropout(config.dropout)
        self.classes = nn.Linear(facts.num_channels * places, facts.num_classes)
        nn.init.zeros_(self.classes.weight)
        nn.init.zeros_(self.classes.bias)

    def forward(self, x_BCT: Tensor, subject_B: Tensor) -> Tensor:  # noqa: ARG002
        """Return logits (batch, class); all subjects share the weights."""
        logits_BK: Tensor = self.classes(self.dropout(self.average(x_BCT).flatten(1)))
        return logits_BK

    def initialise(self, x_WCT: npt.NDArray[np.float32], target_W: npt.NDArray[np.int64]) -> None:
        """Set the weights to the linear discriminant of the training windows.

        Classes are taken as equally frequent; the covariance within classes is shrunk as
        Ledoit and Wolf (2004) derive.

        Parameters
        ----------
        x_WCT
            Windows (window, channel, time).
        target_W
            Class index of every window.
        """
        with torch.no_grad():
            features_WD = self.average(torch.from_numpy(np.ascontiguousarray(x_WCT))).flatten(1)
        z_WD = features_WD.numpy().astype(np.float64)
        present = np.unique(target_W)
        mean_KD = np.stack([z_WD[target_W == label].mean(axis=0) for label in present])
        within_WD = z_WD - mean_KD[np.searchsorted(present, target_W)]
        weight_KD = np.linalg.solve(shrunk_covariance(within_WD, self.shrinkage), mean_KD.T).T
        bias_K = -0.5 * (weight_KD * mean_KD).sum(axis=1)
        with torch.no_grad():
            rows = torch.from_numpy(present)
            self.classes.weight.zero_()
            self.classes.bias.fill_(-1e4 if len(present) < len(self.classes.bias) else 0.0)
            self.classes.weight[rows] = torch.from_numpy(weight_KD).to(self.classes.weight)
            self.classes.bias[rows] = torch.from_numpy(bias_K).to(self.classes.bias)


def shrunk_covariance(z_WD: FloatArray, factor: float = 1.0) -> FloatArray:
    """Return the covariance, shrunk towards a multiple of the identity.

    Parameters
    ----------
    z_WD
        Rows with mean zero.
    factor
        Multiplies the amount of shrinkage that Ledoit and Wolf estimate; the result is kept
        in [1e-6, 1].
    """
    num_rows, num_features = z_WD.shape
    covariance_DD = z_WD.T @ z_WD / num_rows
    scale = float(np.trace(covariance_DD)) / num_features
    distance = float((covariance_DD**2).sum()) / num_features - scale**2
    fourth = float(((z_WD**2).sum(axis=1) ** 2).sum()) / num_rows
    noise = (fourth - float((covariance_DD**2).sum())) / (num_rows * num_features)
    amount = min(noise, distance) / distance if distance > 0 else 1.0
    amount = min(1.0, max(1e-6, factor * amount))
    floor = amount * scale + 1e-12
    shrunk_DD: FloatArray = (1.0 - amount) * covariance_DD + floor * np.eye(num_features)
    return shrunk_DD
