"""What became of trials: the last failures, every point of a grid, and the cost of rounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from neurosweep.core.layout import StudyDir
from neurosweep.records.cost import round_cost
from neurosweep.records.log_tail import log_path
from neurosweep.records.state import AttemptState, StudyState, TrialState
from neurosweep.records.trial import POLICY, Kind, Outcome, Purpose


def last_failures(study: StudyDir, state: StudyState) -> list[dict[str, Any]]:
    """Return, for every kind of failure, its last attempt: what it said, and what to do.

    The kind that failed last comes first.
    """
    last: dict[Kind, tuple[TrialState, AttemptState]] = {}
    counts: Counter[Kind] = Counter()
    for trial in state.trials.values():
        for attempt in trial.attempts:
            if attempt.outcome is not Outcome.FAILED:
                continue
            counts[attempt.kind] += 1
            known = last.get(attempt.kind)
            if known is None or attempt.ended_t >= known[1].ended_t:
                last[attempt.kind] = (trial, attempt)
    order = sorted(last.items(), key=lambda item: item[1][1].ended_t, reverse=True)
    return [
        {
            "kind": kind.value,
            "count": counts[kind],
            "trial": trial.plan.trial,
            "attempt": attempt.number,
            "text": ended_why(state, trial.plan.trial, attempt.number) or said(study, attempt),
            "meaning": POLICY[kind].meaning,
            "advice": POLICY[kind].advice,
            "refilled": POLICY[kind].refill,
            "log": str(log_path(study, trial.plan.trial, attempt)),
        }
        for kind, (trial, attempt) in order
    ]


def ended_why(state: StudyState, trial: str, attempt: int) -> str:
    """Return why the driver ended an attempt; empty when it did not."""
    for control in reversed(state.controls):
        same = (control.get("trial"), control.get("attempt")) == (trial, attempt)
        if same and control.get("action") == "end_attempt":
            return str(control.get("reason", ""))
    return ""


def said(study: StudyDir, attempt: AttemptState) -> str:
    """Return what a failed attempt said, with paths from its study's folder on."""
    return str(attempt.error.get("text", "")).replace(f"{study.root}/", "")


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
