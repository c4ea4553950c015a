"""What became of trials: the last failures, every point of a grid, and the cost of rounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from neurosweep.core.layout import StudyDir
from neurosweep.records.cost import round_cost
from neurosweep.records.endings import ended_why, error_type, meaning, said
from neurosweep.records.log_tail import log_path
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.records.trial import POLICY, Kind, Purpose

_TYPES_SHOWN = 3


def last_failures(study: StudyDir, state: StudyState) -> list[dict[str, Any]]:
    """Return the last failed trial of every kind and error: what it said, and what to do.

    What failed last comes first. Of a kind with many different errors the latest three are shown.
    """
    last: dict[tuple[Kind, str], TrialState] = {}
    counts: Counter[tuple[Kind, str]] = Counter()
    failed = (t for t in state.trials.values() if t.phase is Phase.FAILED and t.attempts)
    for trial in sorted(failed, key=_ended_t):
        attempt = trial.attempts[-1]
        last[found := (attempt.kind, error_type(attempt))] = trial
        counts[found] += 1
    rows: list[dict[str, Any]] = []
    shown: Counter[Kind] = Counter()
    for (kind, type_), trial in sorted(last.items(), key=lambda o: _ended_t(o[1]), reverse=True):
        shown[kind] += 1
        if shown[kind] <= _TYPES_SHOWN:
            rows.append(_failure(study, state, trial, counts[kind, type_]))
    return rows


def _ended_t(trial: TrialState) -> str:
    return trial.attempts[-1].ended_t


def _failure(study: StudyDir, state: StudyState, trial: TrialState, count: int) -> dict[str, Any]:
    attempt, name = trial.attempts[-1], trial.plan.trial
    policy = POLICY[attempt.kind]
    return {
        "kind": attempt.kind.value,
        "type": error_type(attempt),
        "count": count,
        "trial": name,
        "attempt": attempt.number,
        "text": ended_why(state, name, attempt.number) or said(attempt, study.root),
        "meaning": meaning(attempt),
        "advice": policy.advice,
        "refilled": policy.refill,
        "log": str(log_path(study, name, attempt)),
    }


def grid_rows(state: StudyState) -> list[dict[str, Any]]:
    """Return every combination of a grid with its result, the best first and failures last."""
    trials = list(state.of(Purpose.SEARCH))
    sign = 1.0 if state.minimize else -1.0

    def order(trial: TrialState) -> tuple[bool, float]:
        value = state.value(trial)
        return (value is None, 0.0 if value is None else sign * value)

    return [
        {
            "trial": trial.plan.trial,
            "state": trial.phase.value,
            "kind": trial.kind.value,
            "value": state.value(trial),
            "low": trial.interval.get("low"),
            "high": trial.interval.get("high"),
            "overrides": dict(trial.plan.overrides),
        }
        for trial in sorted(trials, key=order)
    ]


def round_costs(state: StudyState, now: float) -> list[dict[str, Any]]:
    """Return what each round cost so far; round 0 is the floor."""
    planned = [number for number, found in sorted(state.rounds.items()) if found.trials]
    return [{"round": n, **round_cost(state, n, now).to_dict()} for n in planned]
