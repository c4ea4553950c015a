"""Options of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurosweep.core.config import Searchable, StrictModel


class TrainingConfig(StrictModel):
    """How weights are found."""

    learning_rate: Annotated[float, Searchable(1e-5, 1e-1, log=True)] = Field(
        3e-3, description="peak learning rate of AdamW"
    )
    weight_decay: Annotated[float, Searchable(1e-6, 1.0, log=True)] = Field(
        1e-2, description="decoupled weight decay of AdamW"
    )
    batch_size: Annotated[int, Searchable(choices=(32, 64, 128, 256))] = Field(
        64, description="windows in an optimiser step"
    )
    epochs: Annotated[int, Searchable(1, 300, log=True)] = Field(
        20, description="passes over the training windows at most"
    )
    patience: Annotated[int, Searchable(1, 100, log=True)] = Field(
        5, description="epochs without a better dev value before training ends"
    )
    monitor: Annotated[Literal["loss", "error"], Searchable(choices=("loss", "error"))] = Field(
        "loss", description="dev value that decides the best epoch"
    )
    warmup: Annotated[float, Searchable(0.0, 0.5)] = Field(
        0.1, description="share of the steps in which the learning rate rises"
    )
    label_smoothing: Annotated[float, Searchable(0.0, 0.3)] = Field(
        0.0, description="share of the target that is spread over all classes"
    )
    class_balance: Annotated[bool, Searchable(choices=(True, False))] = Field(
        True, description="whether every class counts alike in the loss"
    )
    clip_norm: Annotated[float, Searchable(0.1, 10.0, log=True)] = Field(
        1.0, description="largest norm of a step's gradient"
    )
    noise_sd: Annotated[float, Searchable(0.0, 1.0)] = Field(
        0.0, description="white noise added to training windows, robust z-scores"
    )
    offset_sd: Annotated[float, Searchable(0.0, 1.0)] = Field(
        0.0, description="constant offset added to each channel of a training window"
    )
    shift_s: Annotated[float, Searchable(0.0, 0.1)] = Field(
        0.0, description="largest shift in time of a training window, seconds"
    )
    channel_drop: Annotated[float, Searchable(0.0, 0.5)] = Field(
        0.0, description="probability of silencing a channel of a training window"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes a CUDA device when there is one"
    )
