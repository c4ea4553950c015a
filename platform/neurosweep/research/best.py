"""The running best, and the best few with their intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neurosweep.records.state import StudyState, TrialState
from neurosweep.records.trial import Purpose


@dataclass(frozen=True)
class Best:
    """Name a trial and its objective.

    Attributes
    ----------
    trial
        Id of the trial.
    value
        Its objective.
    low, high
        Its 95 % interval; None when none was recorded for the objective.
    """

    trial: str
    value: float
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return trial and value as JSON data."""
        return {"trial": self.trial, "value": self.value}


def improves(value: float, best: float | None, *, minimize: bool) -> bool:
    """Return whether a value is strictly better than the best so far."""
    if best is None:
        return True
    return value < best if minimize else value > best


def improvements(state: StudyState) -> Iterator[Best]:
    """Yield the search trials that set a new best, in planned order; ties change nothing."""
    best: float | None = None
    for trial in state.of(Purpose.SEARCH):
        value = state.value(trial)
        if value is not None and improves(value, best, minimize=state.minimize):
            best = value
            yield _best(state, trial, value)


def running_best(state: StudyState) -> Best | None:
    """Return the best search trial so far, or None before the first score."""
    last: Best | None = None
    for last in improvements(state):  # noqa: B007 - the last one is the answer
        pass
    return last


def top_trials(state: StudyState, count: int) -> list[Best]:
    """Return the best search trials, best first; of equals the earlier one comes first."""
    scored = [
        _best(state, trial, value)
        for trial in state.of(Purpose.SEARCH)
        if (value := state.value(trial)) is not None
    ]
    sign = 1.0 if state.minimize else -1.0
    return sorted(scored, key=lambda best: sign * best.value)[:count]


def _best(state: StudyState, trial: TrialState, value: float) -> Best:
    interval = trial.interval
    if interval.get("metric") != state.metric:
        return Best(trial.plan.trial, value)
    return Best(trial.plan.trial, value, interval.get("low"), interval.get("high"))
