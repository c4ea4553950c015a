"""What an agent is given and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from neurosweep.core.schema import Schema, Value
from neurosweep.records.trial import Kind


@dataclass(frozen=True)
class Proposal:
    """Propose one configuration.

    Attributes
    ----------
    config
        A value for every exposed path of the schema.
    idea
        One sentence on what is tried, for people.
    priority
        Higher is submitted first.
    """

    config: Mapping[str, Value]
    idea: str = ""
    priority: float = 0.0


@dataclass(frozen=True)
class TrialRecord:
    """Tell an agent how one search trial of its own study ended.

    Attributes
    ----------
    trial
        Id of the trial.
    round
        Round, from 1.
    config
        Exposed path to value.
    value
        Objective, lower is better unless the study says otherwise; None when it failed.
    kind
        Why it failed, or ``none``.
    metrics
        Validation metrics.
    minimize
        Direction of the objective.
    pending
        Whether it still runs, or waits to: only where a slot is refilled at once.
    """

    trial: str
    round: int
    config: Mapping[str, Value]
    value: float | None
    kind: Kind = Kind.NONE
    metrics: Mapping[str, float] = field(default_factory=dict)
    minimize: bool = True
    pending: bool = False


class Agent(Protocol):
    """Propose the trials of a round.

    Attributes
    ----------
    name
        Name shown in records.
    repeats
        Whether it may propose one configuration more than once.
    """

    name: str
    repeats: bool

    def propose(
        self,
        history: Sequence[TrialRecord],
        n: int,
        schema: Schema,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """Return exactly `n` proposals.

        Parameters
        ----------
        history
            Every ended search trial of this study, in order; with asynchronous rounds also
            those that still run.
        n
            Number of proposals wanted.
        schema
            The exposed fields with their ranges.
        rng
            Randomness, seeded from the study and the round.
        """
        ...
