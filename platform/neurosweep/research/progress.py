"""Where a study stands, in the few numbers and words that decide what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from neurosweep.core.clock import Clock
from neurosweep.core.layout import StudyDir
from neurosweep.exec.heartbeat import held_seconds
from neurosweep.records.cost import budget_hours
from neurosweep.records.state import AttemptState, Phase, StudyState
from neurosweep.records.trial import Purpose

# Between two looks at what running jobs say of their use.
_LOOK_S = 10.0


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
    attempts that failed count like all others. Of running attempts the time since their start
    counts, but where `note_held` found that they waited for their place meanwhile.
    """
    return budget_hours(state, now)


def note_held(study: StudyDir, state: StudyState) -> None:
    """Take in for how long the running attempts of a study have held their places.

    Their jobs say it, with every sign of life; the ledger hears of it at their ends.
    """
    for name, attempt in _running(state):
        files = study.trial(name).attempt(attempt.number)
        attempt.held_s = held_seconds(files.heartbeat)


def _running(state: StudyState) -> Iterator[tuple[str, AttemptState]]:
    for name, trial in state.trials.items():
        attempt = trial.open_attempt
        if attempt is not None and attempt.started_t:
            yield name, attempt


class Spending:
    """Tell when the hours of a study are used up.

    Parameters
    ----------
    study
        Its folder.
    clock
        Source of time.
    """

    def __init__(self, study: StudyDir, clock: Clock) -> None:
        self._study, self._clock = study, clock
        self._looked = -math.inf

    def reached(self, state: StudyState, limit: float) -> bool:
        """Return whether a study has used so many hours.

        Files are read only where the time since the starts would be enough.
        """
        for _, attempt in _running(state):
            attempt.held_s = None  # what was said before is too little by now
        if hours_used(state, self._clock.now()) < limit:
            return False
        now = self._clock.monotonic()
        if now - self._looked < _LOOK_S:
            return False
        self._looked = now
        note_held(self._study, state)
        return hours_used(state, self._clock.now()) >= limit


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
