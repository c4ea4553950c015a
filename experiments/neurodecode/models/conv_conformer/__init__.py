"""Asynchronous encoder: a whole typed sentence to CTC probabilities of its characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from neurosweep.core.config import Searchable, StrictModel

if TYPE_CHECKING:
    from neurodecode.contracts import SentenceFacts
    from neurodecode.models.conv_conformer.network import ConvConformer

KIND = "sentences"


class Config(StrictModel):
    """Sizes and regularisation of the encoder.

    Notes
    -----
    The form is that of the encoder of Brain2Qwerty v2; its sizes suit 90 hours and GPUs, the
    defaults here half an hour and two cores.
    """

    family: Literal["conv_conformer"] = Field("conv_conformer", description="model family")
    merger_channels: Annotated[int, Searchable(8, 512, log=True)] = Field(
        32, description="channels that the sensors are merged into"
    )
    fourier_grid: Annotated[int, Searchable(choices=(4, 8, 12, 16, 24, 32))] = Field(
        16, description="frequencies of each axis of the flat map: the finest detail of a merger"
    )
    merger_dropout: Annotated[float, Searchable(0.0, 0.5)] = Field(
        0.1, description="radius on the flat map in which sensors are left out of a step"
    )
    merger_sharpness: Annotated[float, Searchable(0.5, 8.0, log=True)] = Field(
        1.0, description="initial spread of the merger's scores: more picks fewer sensors"
    )
    mixed_channels: Annotated[int, Searchable(8, 1024, log=True)] = Field(
        48, description="outputs of the mix of merged channels"
    )
    conv_width: Annotated[int, Searchable(16, 2048, log=True)] = Field(
        64, description="features of the subject layer and of every convolution but the last"
    )
    num_convs: Annotated[int, Searchable(1, 12)] = Field(
        4, description="dilated convolutions, the last without norm and residual"
    )
    conv_kernel: Annotated[int, Searchable(choices=(3, 5, 7, 9))] = Field(
        5, description="taps of every dilated convolution"
    )
    dilation_period: Annotated[int, Searchable(1, 5)] = Field(
        3, description="dilation doubles from convolution to convolution, restarts after so many"
    )
    layer_scale: Annotated[float, Searchable(0.01, 1.0, log=True)] = Field(
        0.1, description="initial factor of every residual convolution"
    )
    dropout_input: Annotated[float, Searchable(0.0, 0.6)] = Field(
        0.1, description="share of values dropped before the convolutions"
    )
    dropout_conv: Annotated[float, Searchable(0.0, 0.7)] = Field(
        0.1, description="share of values dropped in every residual convolution"
    )
    width: Annotated[int, Searchable(16, 2048, log=True)] = Field(
        64, description="features of a frame; a multiple of the heads"
    )
    downsample_taps: Annotated[int, Searchable(choices=(4, 8, 16, 32))] = Field(
        16, description="samples under the filter that makes frames"
    )
    downsample_stride: Annotated[int, Searchable(choices=(1, 2, 4, 8))] = Field(
        4, description="samples between frames"
    )
    num_layers: Annotated[int, Searchable(0, 12)] = Field(2, description="Conformer layers")
    num_heads: Annotated[int, Searchable(choices=(1, 2, 4, 8))] = Field(
        4, description="attention heads of a Conformer layer"
    )
    ffn_width: Annotated[int, Searchable(16, 4096, log=True)] = Field(
        128, description="hidden features of the feed-forward parts"
    )
    conformer_kernel: Annotated[int, Searchable(choices=(5, 9, 17, 31))] = Field(
        17, description="taps of the depthwise convolution of a Conformer layer"
    )
    dropout: Annotated[float, Searchable(0.0, 0.6)] = Field(
        0.1, description="share of values dropped in every part of a Conformer layer"
    )
    dropout_attention: Annotated[float, Searchable(0.0, 0.6)] = Field(
        0.0, description="share of attention weights dropped"
    )
    spare_classes: Annotated[int, Field(ge=0, le=100)] = Field(
        0, description="outputs beyond blank and symbols, never a target"
    )


def build(config: Config, facts: SentenceFacts) -> ConvConformer:
    """Return the encoder for data of this shape, with fresh weights.

    Raises
    ------
    neurosweep.core.errors.ConfigError
        When sizes do not fit one another.
    neurosweep.core.errors.DataError
        When no sensor has a place.
    """
    from neurodecode.models.conv_conformer.network import ConvConformer

    return ConvConformer(config, facts)
