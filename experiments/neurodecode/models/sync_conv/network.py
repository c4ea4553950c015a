"""The network of the synchronous convolutional encoder.

Array names carry their axes: B batch, C channel, D feature, F frame, K class, T sample.
"""

from __future__ import annotations

from torch import Tensor, nn

from neurodecode.contracts import DataFacts
from neurodecode.layers.pooling import AttentionPooling, FlattenPooling, MeanPooling
from neurodecode.layers.residual import FrameNorm, ResidualConv
from neurodecode.layers.spatial import SpatialProjection, SubjectAffine
from neurodecode.models.sync_conv import Config


class SyncConv(nn.Module):
    """Map a window of signals to the logits of its class.

    Parameters
    ----------
    config
        Sizes.
    facts
        Shape (C, T) of a window, number of classes and of subjects.
    """

    def __init__(self, config: Config, facts: DataFacts) -> None:
        super().__init__()
        features = config.spatial_channels or facts.num_channels
        self.spatial: nn.Module = (
            SpatialProjection(facts.num_channels, features)
            if config.spatial_channels
            else nn.Identity()
        )
        self.subject: SubjectAffine | None = None
        if config.subject_layer and facts.num_subjects > 1:
            self.subject = SubjectAffine(facts.num_subjects, features)
        self.stem = nn.Sequential(
            nn.Conv1d(
                features,
                config.width,
                config.stem_kernel,
                config.stride,
                padding=config.stem_kernel // 2,
            ),
            FrameNorm(config.norm, config.width),
            nn.GELU(),
            nn.Dropout1d(config.dropout_input),
        )
        self.blocks = nn.Sequential(
            *(
                ResidualConv(
                    config.width,
                    config.kernel_size,
                    2 ** (index % config.dilation_period),
                    config.norm,
                    config.layer_scale,
                    config.dropout,
                )
                for index in range(config.num_blocks)
            )
        )
        num_frames = (facts.num_samples - 1) // config.stride + 1
        self.pooling = _pooling(config, num_frames)
        self.dropout = nn.Dropout(config.dropout)
        self.classes = nn.Linear(self.pooling.num_outputs, facts.num_classes)

    def forward(self, x_BCT: Tensor, subject_B: Tensor) -> Tensor:
        """Return logits (batch, class).

        Parameters
        ----------
        x_BCT
            Windows (batch, channel, time), robust z-scores.
        subject_B
            Index of each window's subject.
        """
        x_BDT = self.spatial(x_BCT)
        if self.subject is not None:
            x_BDT = self.subject(x_BDT, subject_B)
        pooled_BD = self.pooling(self.blocks(self.stem(x_BDT)))
        logits_BK: Tensor = self.classes(self.dropout(pooled_BD))
        return logits_BK


def _pooling(config: Config, num_frames: int) -> AttentionPooling | MeanPooling | FlattenPooling:
    if config.pooling == "mean":
        return MeanPooling(config.width)
    if config.pooling == "flatten":
        return FlattenPooling(config.width, num_frames)
    return AttentionPooling(config.width, num_frames, config.pooling_heads, config.width)
