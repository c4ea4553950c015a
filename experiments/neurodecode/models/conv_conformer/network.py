"""The network of the asynchronous encoder.

Array names carry their axes: B batch, C sensor, D feature, F frame, K class, T sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurodecode.contracts import SentenceFacts
from neurodecode.layers.channel_merger import ChannelMerger
from neurodecode.layers.conformer import ConformerLayer
from neurodecode.layers.dilated_convs import DilatedConvs
from neurodecode.layers.downsampling import Length, TemporalDownsampling
from neurodecode.layers.masked import length_mask
from neurodecode.layers.subject_projection import SubjectProjection
from neurodecode.models.conv_conformer import Config
from neurosweep.core.errors import ConfigError


class EncoderOutput(NamedTuple):
    """Hold what the encoder says about a batch; frames beyond an item's are arbitrary.

    Attributes
    ----------
    logits_BFK
        CTC logits; class 0 is the blank.
    aux_logits_BFK
        CTC logits before the Conformer.
    feature_BFD
        What the final logits are made of, before normalisation.
    frames_B
        Valid frames of every item.
    """

    logits_BFK: Tensor
    aux_logits_BFK: Tensor
    feature_BFD: Tensor
    frames_B: Tensor


class ConvConformer(nn.Module):
    """Map the signals of whole sentences to CTC logits of characters.

    Sensors are merged by their places, mixed, projected for each subject, convolved over
    samples, taken down to frames, and passed through Conformer layers. Auxiliary CTC logits
    before these are fed back into the stream (self-conditioning) and share norm and head with
    the final ones. What an item gives depends neither on padding nor on the batch around it.

    Parameters
    ----------
    config
        Sizes.
    facts
        Sensors and their places, subjects, symbols.

    Raises
    ------
    ConfigError
        When sizes do not fit one another.
    neurosweep.core.errors.DataError
        When no sensor has a place.

    Notes
    -----
    Brain2Qwerty v2, encoder.
    """

    def __init__(self, config: Config, facts: SentenceFacts) -> None:
        super().__init__()
        if config.width % config.num_heads:
            msg = f"model.width: is {config.width}, must be a multiple of model.num_heads"
            raise ConfigError(f"{msg}, {config.num_heads}")
        self.merger = ChannelMerger(
            facts.positions_C2,
            facts.num_subjects,
            config.merger_channels,
            config.fourier_grid,
            config.merger_dropout,
            config.merger_sharpness,
        )
        self.mix = nn.Linear(config.merger_channels, config.mixed_channels)
        self.subject = SubjectProjection(
            facts.num_subjects, config.mixed_channels, config.conv_width
        )
        self.convs = DilatedConvs(
            config.conv_width,
            config.width,
            config.num_convs,
            config.conv_kernel,
            config.dilation_period,
            config.layer_scale,
            dropout_input=config.dropout_input,
            dropout=config.dropout_conv,
        )
        self.downsampling = TemporalDownsampling(
            config.width, config.downsample_taps, config.downsample_stride
        )
        self.layers = nn.ModuleList(
            ConformerLayer(
                config.width,
                config.num_heads,
                config.ffn_width,
                config.conformer_kernel,
                config.dropout,
                config.dropout_attention,
            )
            for _ in range(config.num_layers)
        )
        num_classes = 1 + len(facts.symbols) + config.spare_classes
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, num_classes)
        self.feedback = nn.Linear(num_classes, config.width)

    def num_frames(self, length: Length) -> Length:
        """Return the valid frames of an item of so many samples, at least 1."""
        return self.downsampling.num_frames(length)

    def forward(self, x_BTC: Tensor, length_B: Tensor, subject_B: Tensor) -> EncoderOutput:
        """Return logits and features of every frame.

        Parameters
        ----------
        x_BTC
            Signals (batch, time, sensor), robust z-scores; arbitrary beyond an item's end.
        length_B
            Valid samples of every item, at least 1.
        subject_B
            Index of every item's subject.
        """
        mask_BT1 = length_mask(length_B, x_BTC.shape[1]).to(x_BTC.dtype)
        x_BTD = self.subject(self.mix(self.merger(x_BTC, subject_B)), subject_B) * mask_BT1
        x_BFD = self.downsampling(self.convs(x_BTD, mask_BT1) * mask_BT1)
        frames_B = self.num_frames(length_B)
        mask_BF1 = length_mask(frames_B, x_BFD.shape[1]).to(x_BTC.dtype)
        aux_logits_BFK = self.head(self.norm(x_BFD))
        x_BFD = x_BFD + self.feedback(torch.softmax(aux_logits_BFK, dim=-1))
        for layer in self.layers:
            x_BFD = layer(x_BFD, mask_BF1)
        logits_BFK = self.head(self.norm(x_BFD))
        return EncoderOutput(logits_BFK, aux_logits_BFK, x_BFD, frames_B)
