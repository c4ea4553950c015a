"""Options of decoding."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neurosweep.core.config import Searchable, StrictModel


class DecodingConfig(StrictModel):
    """How class probabilities become text."""

    temperature: Annotated[float, Searchable(0.25, 16.0, log=True)] = Field(
        1.0, description="divides log-likelihoods: above 1, a less sure posterior"
    )
    nbest: Annotated[int, Searchable(1, 25)] = Field(
        5, description="hypotheses that are written for every item"
    )


class CtcDecodingConfig(StrictModel):
    """How frame probabilities of a sentence become text."""

    beam: Annotated[int, Searchable(1, 200, log=True)] = Field(
        1, description="prefixes kept by the beam search; 1 takes the best class of every frame"
    )
    nbest: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="hypotheses that are written for every item"
    )
