"""The figures that MLflow shows of a study, as points of curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neurosweep.core.clock import parse_iso
from neurosweep.records.cost import Cost, round_cost, trial_cost
from neurosweep.records.state import StudyState, TrialState
from neurosweep.records.trial import Purpose

Point = tuple[str, float, int, int]
"""Name, value, time in ms, step."""


def to_ms(t: str) -> int:
    """Return milliseconds since 1970 of a ledger's time."""
    return round(parse_iso(t) * 1000)


def study_points(state: StudyState) -> Iterator[Point]:
    """Yield running best and cost so far, round by round; what was yielded once stays first."""
    best: float | None = None
    step = 0
    core_hours = gpu_hours = queue_s = 0.0
    last = int(state.spec.get("budget", {}).get("rounds", 0))
    for round_state in sorted(state.rounds.values(), key=lambda r: r.number):
        ended = round_state.closed_t or state.closed_t
        if not ended or round_state.number > last:
            return
        at = to_ms(ended)
        for trial in (state.trials[trial_id] for trial_id in round_state.trials):
            if trial.plan.purpose is not Purpose.SEARCH:
                continue
            step += 1
            value = state.value(trial)
            if value is not None and (best is None or better(state, value, best)):
                best = value
                yield (f"running_best/{state.metric}", value, at, step)
        cost = round_cost(state, round_state.number)
        core_hours += cost.core_hours
        gpu_hours += cost.gpu_hours
        queue_s += cost.queue_s
        yield ("cost.core_hours", core_hours, at, step)
        yield ("cost.gpu_hours", gpu_hours, at, step)
        yield ("cost.queue_s", queue_s, at, step)


def cost_points(cost: Cost, at: int, step: int) -> Iterator[Point]:
    """Yield what some attempts cost."""
    yield ("cost.core_hours", cost.core_hours, at, step)
    yield ("cost.gpu_hours", cost.gpu_hours, at, step)
    yield ("cost.queue_s", cost.queue_s, at, step)
    if cost.idle is not None:
        yield ("cost.idle_share", cost.idle, at, step)


def trial_points(state: StudyState, trial: TrialState, at: int) -> Iterator[Point]:
    """Yield the figures of a trial that has ended."""
    for name, value in sorted(trial.metrics.items()):
        yield (name, float(value), at, 0)
    for side in ("low", "high"):
        if isinstance(trial.interval.get(side), int | float):
            metric = metric_key(str(trial.interval.get("metric", state.metric)))
            yield (f"{metric}/ci_{side}", float(trial.interval[side]), at, 0)
    for subject, value in sorted(subject_values(trial, state.metric).items()):
        yield (f"{state.metric}/{metric_key(subject)}", value, at, 0)
    last = trial.attempts[-1]
    yield ("seconds", last.seconds, at, 0)
    yield ("peak_mb", last.peak_mb, at, 0)
    yield from cost_points(trial_cost(trial), at, 0)


def better(state: StudyState, value: float, than: float) -> bool:
    """Return whether a value strictly improves on another."""
    return value < than if state.minimize else value > than


def subject_values(trial: TrialState, metric: str) -> dict[str, float]:
    """Return the objective of every subject of a scored trial."""
    found: dict[str, float] = {}
    for subject, value in trial.per_subject.items():
        number = value.get(metric) if isinstance(value, Mapping) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            found[str(subject)] = float(number)
    return found


def metric_key(text: str) -> str:
    """Return text with only the characters that MLflow allows in the name of a metric."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in text)[:200]
