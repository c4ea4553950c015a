"""What the rounds of a study cost, and how well their slots were used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurosweep.records.cost import Cost, hours_text, round_cost, study_cost
from neurosweep.records.mlflow_view import round_name
from neurosweep.records.state import Phase, TrialState
from neurosweep.report.data import ReportData
from neurosweep.report.stats import median
from neurosweep.report.tables import duration

_ALWAYS = ("core", "idle")
_COLUMNS = {
    "core": "Core-hours",
    "gpu": "GPU-hours",
    "lost": "Without a score",
    "queue": "Queue, mean",
    "longest": "Queue, longest",
    "restarts": "Restarts",
    "idle": "Idle slots",
}


def cost_table(data: ReportData) -> dict[str, Any]:
    """Return what each round cost, and the study in total; columns with nothing are left out."""
    state = data.state
    numbers = [number for number, found in sorted(state.rounds.items()) if found.trials]
    costs = [round_cost(state, number) for number in numbers]
    whole = study_cost(state)
    shown = [key for key in _COLUMNS if key in _ALWAYS or _has(key, whole)]
    rows = []
    for number, cost in zip(numbers, costs, strict=True):
        found = state.rounds[number]
        trials = [state.trials[name] for name in found.trials]
        rows.append(_row(data, round_name(state, found), trials, cost, shown))
    everything = list(state.trials.values())
    rows.append({**_row(data, "all", everything, whole, shown), "total": True})
    return {
        "columns": [_COLUMNS[key] for key in shown],
        "rows": rows,
        "note": _note(data, whole, everything),
    }


def _note(data: ReportData, cost: Cost, trials: Sequence[TrialState]) -> str:
    note = f"{hours_text(cost.core_hours)} core-hours"
    if cost.gpu_hours:
        note += f" and {hours_text(cost.gpu_hours)} GPU-hours"
    wall = data.state.wall_seconds
    if wall > 0:
        cores = cost.core_hours * 3600 / wall
        note += f" in {duration(wall)}: {cores:.1f} cores busy on average"
    peak = max((a.peak_mb for t in trials for a in t.attempts), default=0.0)
    note += f". The largest job used {peak:.0f} MB" if peak else ""
    return (
        f"{note}. An attempt costs what it held from its first start to its end, also when it "
        "failed. A slot is idle from a round's first submission to its last end while nothing "
        "runs in it."
    )


def _has(key: str, cost: Cost) -> bool:
    found = {
        "gpu": cost.gpu_hours > 0,
        "lost": cost.lost_core_hours > 0,
        "queue": cost.queue_max_s > 0,
        "longest": cost.queue_max_s > 0,
        "restarts": cost.restarts > 0,
    }
    return found[key]


def _cells(cost: Cost) -> dict[str, str]:
    lost, whole = cost.lost_core_hours, cost.core_hours
    return {
        "core": hours_text(cost.core_hours),
        "gpu": hours_text(cost.gpu_hours),
        "lost": f"{100 * lost / whole:.0f} %" if whole else "",
        "queue": duration(cost.queue_mean_s),
        "longest": duration(cost.queue_max_s),
        "restarts": str(cost.restarts),
        "idle": "" if cost.idle is None else f"{100 * cost.idle:.0f} %",
    }


def _row(
    data: ReportData, name: str, trials: Sequence[TrialState], cost: Cost, shown: Sequence[str]
) -> dict[str, Any]:
    values = [value for trial in trials if (value := data.state.value(trial)) is not None]
    times = [trial.attempts[-1].seconds for trial in trials if trial.attempts]
    best = (min if data.state.minimize else max)(values, default=None)
    cells = _cells(cost)
    return {
        "name": name,
        "trials": str(len(trials)),
        "failed": str(sum(trial.phase is Phase.FAILED for trial in trials)),
        "fallback": str(sum(trial.plan.source == "fallback" for trial in trials)),
        "best": "" if best is None else f"{best:.4f}",
        "median": f"{median(values):.4f}" if values else "",
        "time": duration(median(times)) if times else "",
        "cells": [cells[key] for key in shown],
        "total": False,
    }
