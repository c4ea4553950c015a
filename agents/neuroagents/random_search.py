"""Random search: every configuration is drawn independently of all results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuroagents._space import check_options, draw_new, key_of
from neurosweep.core.schema import Schema
from neurosweep.records.agent_api import Proposal, TrialRecord


class RandomSearch:
    """Draw uniformly from the ranges, on a logarithmic scale where the schema says so.

    No configuration is proposed twice as long as the space has unused ones.
    """

    name = "random_search"
    repeats = False

    def propose(
        self,
        history: Sequence[TrialRecord],
        n: int,
        schema: Schema,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """Return `n` drawn configurations."""
        used = {key_of(record.config, schema) for record in history}
        return [Proposal(draw_new(schema, rng, used), "drawn at random") for _ in range(n)]


def create(options: Mapping[str, Any], seed: int) -> RandomSearch:
    """Return the agent; it has no options.

    Parameters
    ----------
    options
        Must be empty.
    seed
        Not used: the generator that comes with every round is seeded from the study.

    Raises
    ------
    ConfigError
        When an option is given.
    """
    del seed
    check_options("random_search", options, ())
    return RandomSearch()
