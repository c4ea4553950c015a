"""Synchronous convolutional encoder: one window of signals to one class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from neurosweep.core.config import Searchable, StrictModel

if TYPE_CHECKING:
    from torch import nn

    from neurodecode.contracts import DataFacts

KIND = "windows"


class Config(StrictModel):
    """Sizes and regularisation of the encoder.

    Notes
    -----
    The form follows the convolutional encoder of Brain2Qwerty v1 (Levy et al. 2025): spatial
    projection, subject layer, residual dilated convolutions with normalisation, GELU and
    LayerScale, and attention over time; its widths (270, 512, 2048) suit 306 channels and 20
    hours, the defaults here a minute of EEG.
    """

    family: Literal["sync_conv"] = Field("sync_conv", description="model family")
    spatial_channels: Annotated[int, Searchable(0, 64)] = Field(
        8, description="outputs of the learned mix of channels; 0 leaves channels as they are"
    )
    subject_layer: bool = Field(
        True, description="a matrix for each subject, where there are several"
    )
    width: Annotated[int, Searchable(8, 256, log=True)] = Field(
        32, description="features of every convolution"
    )
    num_blocks: Annotated[int, Searchable(1, 8)] = Field(4, description="residual convolutions")
    kernel_size: Annotated[int, Searchable(choices=(3, 5, 7, 9))] = Field(
        5, description="taps of every residual convolution"
    )
    stem_kernel: Annotated[int, Searchable(choices=(3, 5, 9, 15, 25))] = Field(
        9, description="taps of the first convolution"
    )
    stride: Annotated[int, Searchable(choices=(1, 2, 4))] = Field(
        2, description="samples a frame: the first convolution keeps one in so many"
    )
    dilation_period: Annotated[int, Searchable(1, 4)] = Field(
        3, description="dilation doubles from block to block and restarts after so many"
    )
    norm: Annotated[Literal["batch", "layer"], Searchable(choices=("batch", "layer"))] = Field(
        "batch", description="normalisation over the batch or within a frame"
    )
    layer_scale: Annotated[float, Searchable(0.01, 1.0, log=True)] = Field(
        0.1, description="initial factor of every residual branch"
    )
    dropout_input: Annotated[float, Searchable(0.0, 0.6)] = Field(
        0.2, description="share of features dropped after the first convolution"
    )
    dropout: Annotated[float, Searchable(0.0, 0.7)] = Field(
        0.5, description="share of values dropped in every block and before the classes"
    )
    pooling: Annotated[
        Literal["attention", "mean", "flatten"],
        Searchable(choices=("attention", "mean", "flatten")),
    ] = Field("attention", description="from frames to one vector")
    pooling_heads: Annotated[int, Searchable(1, 8)] = Field(
        2, description="averages that attention takes"
    )


def build(config: Config, facts: DataFacts) -> nn.Module:
    """Return the encoder for data of this shape, with fresh weights."""
    from neurodecode.models.sync_conv.network import SyncConv

    return SyncConv(config, facts)
