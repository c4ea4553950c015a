"""Where a study stands, in the few numbers and words that decide what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from neurosweep.records.cost import budget_hours
from neurosweep.records.state import Phase, StudyState
from neurosweep.records.trial import Purpose


class DriveState(StrEnum):
    """How a driver's run ended."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class DriveResult:
    """Say how a driver's run ended.

    Attributes
    ----------
    state
        ``complete`` and ``incomplete`` are for good; the others can be resumed.
    reason
        Why, in words.
    planned, done, failed
        Search trials: the budget, those scored, those that failed for good.
    mirrored
        Whether the mirror caught up.
    """

    state: DriveState
    reason: str
    planned: int
    done: int
    failed: int
    mirrored: bool = True


def counts_of(state: StudyState) -> dict[str, int]:
    """Return planned, done and failed search trials; planned is the whole budget."""
    budget = state.spec["budget"]
    phases = [trial.phase for trial in state.of(Purpose.SEARCH)]
    return {
        "planned": budget["rounds"] * budget["trials_per_round"],
        "done": phases.count(Phase.SCORED),
        "failed": phases.count(Phase.FAILED),
    }


def hours_used(state: StudyState, now: float) -> float:
    """Return the hours that count against the budget, those of running attempts included.

    A task with GPUs counts its time once per GPU, another one once per core; restarts and
    attempts that failed count like all others.
    """
    return budget_hours(state, now)


def is_cancelled(state: StudyState) -> bool:
    """Return whether the study was told to close early."""
    return any(control.get("action") == "cancel" for control in state.controls)


def is_paused(state: StudyState) -> bool:
    """Return whether the last word on pausing was to pause."""
    return last_switch(state).get("action") == "pause"


def last_switch(state: StudyState) -> dict[str, Any]:
    """Return the last control that paused or resumed the study; empty when there is none."""
    for control in reversed(state.controls):
        if control.get("action") in ("pause", "resume"):
            return dict(control)
    return {}


def cancel_reason(state: StudyState) -> str:
    """Return why the study was told to close early."""
    for control in state.controls:
        if control.get("action") == "cancel":
            return str(control.get("reason") or "cancelled on request")
    return "cancelled on request"


def closed_as(state: StudyState) -> tuple[DriveState, str]:
    """Return how a closed study ended, and why."""
    assert state.closed is not None
    reason = str(state.closed["reason"])
    return (DriveState.COMPLETE if reason == "complete" else DriveState.INCOMPLETE), reason
