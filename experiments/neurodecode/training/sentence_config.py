"""Options of training an encoder of whole sentences."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurosweep.core.config import Searchable, StrictModel


class EncoderTrainingConfig(StrictModel):
    """How the weights of an encoder are found."""

    learning_rate: Annotated[float, Searchable(1e-5, 1e-1, log=True)] = Field(
        3e-3, description="peak learning rate of AdamW"
    )
    weight_decay: Annotated[float, Searchable(1e-6, 1.0, log=True)] = Field(
        1e-2, description="decoupled weight decay of AdamW"
    )
    batch_size: Annotated[int, Searchable(1, 1024, log=True)] = Field(
        8, description="sentences in an optimiser step"
    )
    epochs: Annotated[int, Searchable(1, 1000, log=True)] = Field(
        40, description="passes over the training sentences at most"
    )
    patience: Annotated[int, Searchable(1, 1000, log=True)] = Field(
        20, description="epochs without a lower dev error before training ends"
    )
    warmup_steps: Annotated[int, Searchable(0, 5000)] = Field(
        100, description="optimiser steps in which the learning rate rises"
    )
    clip_norm: Annotated[float, Searchable(0.1, 100.0, log=True)] = Field(
        1.0, description="largest norm of a step's gradient"
    )
    aux_weight: Annotated[float, Searchable(0.0, 0.95)] = Field(
        0.7, description="share of the auxiliary CTC head in the loss"
    )
    jitter_s: Annotated[float, Searchable(0.0, 0.4)] = Field(
        0.3, description="longest start of a training sentence that is cut off, seconds"
    )
    stretch: Annotated[float, Searchable(0.0, 0.5)] = Field(
        0.2, description="a training sentence is stretched in time by 1 minus to 1 plus this"
    )
    offset_sd: Annotated[float, Searchable(0.0, 1.0)] = Field(
        0.3, description="constant offset added to each channel of a training sentence"
    )
    noise_sd: Annotated[float, Searchable(0.0, 1.0)] = Field(
        0.0, description="white noise added to training sentences, robust z-scores"
    )
    time_mask: Annotated[int, Searchable(0, 200)] = Field(
        50, description="longest stretch of samples silenced in a training sentence"
    )
    time_mask_share: Annotated[float, Searchable(0.0, 1.0)] = Field(
        0.2, description="largest share of a training sentence that is silenced"
    )
    channel_mask: Annotated[int, Searchable(0, 512)] = Field(
        0, description="most neighbouring channels silenced in a sentence, half of all at most"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes a CUDA device when there is one"
    )
