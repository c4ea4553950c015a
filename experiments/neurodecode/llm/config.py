"""Options of the language-model stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurodecode.contracts import Location
from neurosweep.core.config import Searchable, StrictModel

BACKENDS = "neurodecode.llm.backends"


class EncoderSection(StrictModel):
    """Which encoder reads the sentences; it is frozen before any language model is tuned."""

    checkpoint: Annotated[str, Location()] = Field(
        "", description="folder that an encoder job saved; empty: train one from this recipe"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the encoder's training")
    cross_fit: Annotated[int, Field(ge=0, le=20)] = Field(
        0,
        description="folds of encoders that read their held-out training sentences; 0 or 1: none",
    )


class ProjectorConfig(StrictModel):
    """How frames become vectors of words in the space of the language model."""

    hidden: Annotated[int, Field(ge=4, le=8192)] = Field(
        128, description="features of the per-frame layers"
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.2, description="share of features dropped"
    )
    feature_noise: Annotated[float, Field(ge=0.0, le=5.0)] = Field(
        0.3, description="noise on training frames, in standard deviations of each feature"
    )
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        2e-3, description="peak learning rate of AdamW"
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        1e-2, description="decoupled weight decay of AdamW"
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="sentences a step")
    epochs: Annotated[int, Field(ge=1, le=1000)] = Field(30, description="passes at most")
    patience: Annotated[int, Field(ge=1, le=1000)] = Field(
        8, description="epochs without a better dev loss before training ends"
    )


class LlmConfig(StrictModel):
    """Language model, adapter, and how the adapter is trained."""

    backend: str = Field("shipped", description="a file of the folder neurodecode/llm/backends")
    folder: Annotated[str, Location()] = Field(
        "", description="transformers folder of the backend 'folder'"
    )
    learning_rate: Annotated[float, Searchable(1e-5, 3e-2, log=True)] = Field(
        2e-3, description="peak learning rate of AdamW on the adapter"
    )
    weight_decay: Annotated[float, Searchable(1e-6, 1.0, log=True)] = Field(
        1e-2, description="decoupled weight decay of AdamW on the adapter"
    )
    lora_rank: Annotated[int, Searchable(choices=(1, 2, 4, 8, 16, 32, 64, 128, 256))] = Field(
        8, description="rank of the adapter's matrices"
    )
    batch_size: Annotated[int, Searchable(choices=(2, 4, 8, 16, 32, 64))] = Field(
        8, description="sentences in an optimiser step"
    )
    lora_alpha: Annotated[float, Searchable(0.25, 8.0, log=True)] = Field(
        2.0, description="scale of the adapter, in multiples of its rank"
    )
    lora_targets: Annotated[
        Literal["attention", "all-linear"], Searchable(choices=("attention", "all-linear"))
    ] = Field("all-linear", description="layers that get an adapter")
    lora_dropout: Annotated[float, Searchable(0.0, 0.5)] = Field(
        0.0, description="share of values dropped before the adapter"
    )
    epochs: Annotated[int, Searchable(1, 300, log=True)] = Field(
        1, description="passes over the training sentences at most"
    )
    patience: Annotated[int, Searchable(1, 100, log=True)] = Field(
        3, description="looks at dev without a better loss before training ends"
    )
    warmup: Annotated[float, Searchable(0.0, 0.5)] = Field(
        0.1, description="share of the steps in which the learning rate rises"
    )
    clip_norm: Annotated[float, Searchable(0.1, 10.0, log=True)] = Field(
        1.0, description="largest norm of a step's gradient"
    )
    label_smoothing: Annotated[float, Searchable(0.0, 0.3)] = Field(
        0.02, description="share of the target that is spread over all tokens"
    )
    meg_tokens: Annotated[bool, Searchable(choices=(True, False))] = Field(
        True, description="whether the model is given word vectors beside the CTC text"
    )
    meg_dropout: Annotated[float, Searchable(0.0, 0.9)] = Field(
        0.1, description="share of word vectors zeroed in training"
    )
    ctc_dropout: Annotated[float, Searchable(0.0, 0.9)] = Field(
        0.1, description="share of CTC tokens zeroed in training"
    )
    noise: Annotated[Literal["confusion", "none"], Searchable(choices=("confusion", "none"))] = (
        Field(
            "confusion",
            description="training inputs: typed text with the encoder's errors on dev, or its own"
            " outputs (honest when they are cross-fitted)",
        )
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes a CUDA device when there is one"
    )


class LlmDecodingConfig(StrictModel):
    """How sentences are read from the language model."""

    beam: Annotated[int, Searchable(1, 32, log=True)] = Field(4, description="hypotheses kept")
    max_new_tokens: Annotated[int, Field(ge=1, le=1000)] = Field(
        60, description="tokens of a sentence at most"
    )
    length_penalty: Annotated[float, Searchable(-2.0, 2.0)] = Field(
        0.2, description="above 0 favours longer sentences"
    )
    nbest: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="hypotheses written for an item"
    )
    variants: bool = Field(
        True, description="also decode without word vectors, and keep the encoder's own text"
    )
