"""The vocabulary of trials: purposes, outcomes, kinds of ending, and what each kind means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from neurosweep.core.schema import Value


class Purpose(StrEnum):
    """Why a trial is run; only search trials count against a round."""

    SEARCH = "search"
    FLOOR = "floor"
    CANARY = "canary"
    SENTINEL = "sentinel"
    CONFIRM = "confirm"


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    FAILED = "failed"


class Kind(StrEnum):
    """Why an attempt ended; `NONE` for a good end."""

    NONE = "none"
    USER_ERROR = "user_error"
    OOM_HOST = "oom_host"
    OOM_GPU = "oom_gpu"
    TIME_LIMIT = "time_limit"
    HANG = "hang"
    DIVERGED = "diverged"
    NODE_FAILURE = "node_failure"
    PREEMPTED = "preempted"
    CANCELLED_USER = "cancelled_user"
    CANCELLED_ADMIN = "cancelled_admin"
    LOST = "lost"
    WRONG_CODE = "wrong_code"
    BROKEN_PREDICTIONS = "broken_predictions"
    STOPPED = "stopped"


@dataclass(frozen=True)
class KindPolicy:
    """State what an ending means.

    Attributes
    ----------
    refill
        Whether the same trial gets a new attempt; otherwise its place in the round is spent.
    sampler
        ``bad``: the configuration is told to samplers as a bad one; ``ignore``: the ending says
        nothing about the configuration.
    meaning
        One sentence for reports.
    advice
        What a person can do about it; empty where there is nothing.
    """

    refill: bool
    sampler: str
    meaning: str
    advice: str = ""

    def attempts(self, max_attempts: int) -> int:
        """Return how often a trial is tried that always ends so.

        Parameters
        ----------
        max_attempts
            The budget's limit for failures of the infrastructure.
        """
        return max_attempts if self.refill else 1


POLICY: Mapping[Kind, KindPolicy] = {
    Kind.NONE: KindPolicy(False, "ignore", "ended well"),
    Kind.USER_ERROR: KindPolicy(
        False,
        "ignore",
        "the training code raised an error",
        "read the end of its log and mend the code or the configuration",
    ),
    Kind.OOM_HOST: KindPolicy(
        False,
        "bad",
        "needed more memory than it was given",
        "raise mem_gb of the profile or memory_mb of the study, or search smaller batches",
    ),
    Kind.OOM_GPU: KindPolicy(
        False,
        "bad",
        "needed more GPU memory than there is",
        "search smaller batches or models, or take a larger GPU",
    ),
    Kind.TIME_LIMIT: KindPolicy(
        False,
        "bad",
        "ran longer than its limit",
        "raise trial_minutes of the budget, or search less work per trial",
    ),
    Kind.HANG: KindPolicy(
        False,
        "ignore",
        "lived but made no progress",
        "read where its log ends; raise stall_minutes where a step may take that long",
    ),
    Kind.DIVERGED: KindPolicy(
        False,
        "bad",
        "its loss was no longer a number",
        "search smaller learning rates, or a longer warm-up",
    ),
    Kind.NODE_FAILURE: KindPolicy(
        True,
        "ignore",
        "its machine failed",
        "tell the administrator when one machine fails again; its name is with the attempt",
    ),
    Kind.PREEMPTED: KindPolicy(
        True,
        "ignore",
        "was pushed aside by other work",
        "choose a partition or qos that is not preempted, or let it be started again there",
    ),
    Kind.CANCELLED_USER: KindPolicy(False, "ignore", "was cancelled by its user"),
    Kind.CANCELLED_ADMIN: KindPolicy(
        True,
        "ignore",
        "was cancelled by the administrator",
        "ask the administrator why before more is submitted",
    ),
    Kind.LOST: KindPolicy(
        True,
        "ignore",
        "its process vanished and left no result",
        "see whether somebody killed it, or whether its folder can be written on that machine",
    ),
    Kind.WRONG_CODE: KindPolicy(
        False,
        "ignore",
        "imported other code than its commit",
        "look for another copy of the package on PYTHONPATH or in the profile's setup",
    ),
    Kind.BROKEN_PREDICTIONS: KindPolicy(
        False,
        "ignore",
        "its predictions cannot be scored",
        "the message names the line; the job must yield every item once, as text",
    ),
    Kind.STOPPED: KindPolicy(False, "ignore", "was stopped on request"),
}


@dataclass(frozen=True)
class TrialPlan:
    """Fix what one trial is, before it is submitted.

    Attributes
    ----------
    trial
        Id, for example ``r03t017``.
    purpose
        Why it is run.
    round
        Round, from 1; 0 for trials outside the rounds.
    index
        Place in its round, from 0.
    overrides
        Dotted path to value, on top of the study's configuration.
    seed
        Training seed.
    idea
        What the agent says it tries.
    source
        ``agent``, ``fallback``, ``clone``, or ``default`` outside the search.
    """

    trial: str
    purpose: Purpose
    round: int
    index: int
    overrides: Mapping[str, Value]
    seed: int
    idea: str = ""
    source: str = "agent"

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON data."""
        return {
            "trial": self.trial,
            "purpose": self.purpose.value,
            "round": self.round,
            "index": self.index,
            "overrides": dict(self.overrides),
            "seed": self.seed,
            "idea": self.idea,
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrialPlan:
        """Read a plan that `to_dict` wrote."""
        return cls(**{**data, "purpose": Purpose(data["purpose"])})
