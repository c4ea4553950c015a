"""Linear classifier that starts at the shrinkage discriminant: the baseline to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from neurosweep.core.config import Searchable, StrictModel

if TYPE_CHECKING:
    from torch import nn

    from neurodecode.contracts import DataFacts

KIND = "windows"


class Config(StrictModel):
    """Features and regularisation of the linear classifier."""

    family: Literal["linear"] = Field("linear", description="model family")
    samples_per_feature: Annotated[int, Searchable(choices=(1, 2, 4, 5, 8, 10))] = Field(
        2, description="neighbouring samples that are averaged into one feature"
    )
    shrinkage: Annotated[float, Searchable(0.1, 10.0, log=True)] = Field(
        1.0, description="factor on the Ledoit-Wolf shrinkage of the covariance"
    )
    dropout: Annotated[float, Searchable(0.0, 0.7)] = Field(
        0.0, description="share of features dropped in training"
    )


def build(config: Config, facts: DataFacts) -> nn.Module:
    """Return the classifier for data of this shape, with zero weights."""
    from neurodecode.models.linear.network import Linear

    return Linear(config, facts)
