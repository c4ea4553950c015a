"""The unchanged recipe again and again: what a search has to beat, and how much seeds matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuroagents._space import check_options
from neurosweep.core.errors import ConfigError
from neurosweep.core.schema import Schema
from neurosweep.records.agent_api import Proposal, TrialRecord


class Default:
    """Propose the recipe's own values; the trials differ in their training seeds only."""

    name = "default"
    repeats = True

    def propose(
        self,
        history: Sequence[TrialRecord],  # noqa: ARG002 - results change nothing here
        n: int,
        schema: Schema,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> list[Proposal]:
        """Return the default configuration `n` times.

        Raises
        ------
        ConfigError
            When a field has no default, or the study's range leaves it out.
        """
        problems = [
            f"{path}: has no default" if field.default is None else field.check(field.default)
            for path, field in schema.items()
        ]
        found = [problem for problem in problems if problem is not None]
        if found:
            msg = (
                "the unchanged recipe lies outside the exposed ranges; widen the overrides under "
                "[search.override] or expose fewer fields\n  "
            )
            raise ConfigError(msg + "\n  ".join(found))
        config = schema.defaults()
        return [Proposal(config, "the unchanged recipe") for _ in range(n)]


def create(options: Mapping[str, Any], seed: int) -> Default:
    """Return the agent; it has no options.

    Parameters
    ----------
    options
        Must be empty.
    seed
        Not used: training seeds belong to the study's plan.

    Raises
    ------
    ConfigError
        When an option is given.
    """
    del seed
    check_options("default", options, ())
    return Default()
