"""The figures of a study, from its ledger alone, as stable JSON data."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurosweep.cli.outcomes import grid_rows, last_failures, round_costs
from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import DataError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.endings import refilled_kinds
from neurosweep.records.score_files import read_scores
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.records.trial import Purpose
from neurosweep.research.best import improvements
from neurosweep.research.lock import live_driver
from neurosweep.research.progress import counts_of
from neurosweep.research.status import StudyStatus, status_of

_NUM_RECENT = 20
_PACE_ENDS, _PACE_S = 3, 10.0
_COUNTS = ("planned", "done", "failed", "running", "queued")


def home_of(study: StudyDir) -> Home:
    """Return the home that a study lies in."""
    return Home(study.root.parent.parent)


def summarize(
    study: StudyDir, state: StudyState, now: float, *, detail: bool = False
) -> dict[str, Any]:
    """Return what ``--json`` prints of a study; README lists the keys.

    Parameters
    ----------
    study
        Its folder.
    state
        Its state.
    now
        Seconds since 1970, for the rate.
    detail
        Whether to read the intervals of every metric of the best trial from its scores.
    """
    holder = live_driver(study.lock)
    status = status_of(state, "" if holder is None else str(holder), now)
    report = study.report_dir / "index.html"
    return {
        "v": 1,
        "study": status.study,
        "name": state.spec["name"],
        "recipe": status.recipe,
        "agent": status.agent,
        "state": status.stands,
        "reason": status.reason,
        "driver": status.driver or None,
        "round": current_round(status, state.spec["budget"]["rounds"]),
        "rounds": state.spec["budget"]["rounds"],
        "trials": {
            **{name: getattr(status, name) for name in _COUNTS},
            "fallback": sum(round_status.fallback for round_status in status.rounds),
        },
        "objective": {
            "metric": status.metric,
            "direction": "minimize" if status.minimize else "maximize",
        },
        "floor": _floor(state),
        "default": _default(state),
        "best": _best(study, state, status, detail=detail),
        "chance": dict(state.created["data_info"].get("chance", {})),
        "improvements": [best.to_dict() for best in improvements(state)],
        "failures": status.kinds,
        "refilled": refilled_kinds(state),
        "errors": last_failures(study, state),
        "pace": pace(state, now),
        "throttle": throttle_of(state),
        "core_hours": round(status.cost.core_hours, 4),
        "cost": status.cost.to_dict() | ({"rounds": round_costs(state, now)} if detail else {}),
        "seconds": round(status.seconds, 3),
        "created": state.created_t,
        "test_part": bool(state.created["data_info"].get("final")),
        "test_openings": len(state.vault_openings),
        **({"grid": grid_rows(state)} if detail and status.agent == "grid" else {}),
        "folder": str(study.root),
        "report": str(report) if report.is_file() else None,
    }


def current_round(status: StudyStatus, last: int) -> int:
    """Return the number of the latest round that was planned; 0 for the floor.

    Later rounds than the last of the budget are confirmations.
    """
    return max((r.number for r in status.rounds if r.phases and r.number <= last), default=0)


def throttle_of(state: StudyState) -> int | None:
    """Return how many trials somebody said may run at a time; None when nobody did."""
    for control in reversed(state.controls):
        if control.get("action") == "throttle" and "refused" not in control:
            return int(control["value"])
    return None


def pace(state: StudyState, now: float) -> dict[str, float | None]:
    """Return trials a minute over the latest ones, and seconds until the budget is spent."""
    ends = sorted(end for trial in state.trials.values() if (end := _end(trial)) is not None)
    recent = ends[-_NUM_RECENT:]
    final = state.closed is not None
    last = max([now, *recent]) if not final or not recent else recent[-1]
    # What ended at once when the first slots came free says nothing of the pace.
    soon = not final and (len(recent) < _PACE_ENDS or last - recent[0] < _PACE_S)
    if len(recent) < 2 or soon:
        return {"trials_per_minute": None, "eta_s": 0.0 if final else None}
    rate = (len(recent) - 1) / max(last - recent[0], 1e-3)
    eta = 0.0 if final else round(_num_left(state) / rate, 1)
    return {"trials_per_minute": round(60.0 * rate, 3), "eta_s": eta}


def _num_left(state: StudyState) -> int:
    counts = counts_of(state)
    floor = int(state.spec.get("reserve", {}).get("floor", 0))
    ended = sum(trial.phase.final for trial in state.of(Purpose.FLOOR))
    return int(counts["planned"]) - counts["done"] - counts["failed"] + max(floor - ended, 0)


def _end(trial: TrialState) -> float | None:
    if not trial.phase.final:
        return None
    text = trial.scored_t or trial.attempts[-1].ended_t
    return parse_iso(text) if text else None


def _floor(state: StudyState) -> dict[str, int]:
    phases = Counter(trial.phase for trial in state.of(Purpose.FLOOR))
    return {
        "planned": int(state.spec.get("reserve", {}).get("floor", 0)),
        "done": phases[Phase.SCORED],
        "failed": phases[Phase.FAILED],
    }


def _default(state: StudyState) -> dict[str, Any]:
    """Return mean and range over seeds of the unchanged recipe, wherever it was trained."""
    trials = list(state.of(Purpose.FLOOR))
    if state.spec.get("agent", {}).get("name") == "default":
        trials += state.of(Purpose.SEARCH)
    scored = [trial for trial in trials if trial.phase is Phase.SCORED]
    names = dict.fromkeys(name for trial in scored for name in trial.metrics)
    columns = {
        name: [float(t.metrics[name]) for t in scored if name in t.metrics] for name in names
    }
    return {
        "seeds": len(scored),
        "mean": {name: statistics.fmean(values) for name, values in columns.items()},
        "low": {name: min(values) for name, values in columns.items()},
        "high": {name: max(values) for name, values in columns.items()},
    }


def _best(
    study: StudyDir, state: StudyState, status: StudyStatus, *, detail: bool
) -> dict[str, Any] | None:
    if not status.best:
        return None
    best = status.best[0]
    trial = state.trials[best.trial]
    return {
        "trial": best.trial,
        "value": best.value,
        "low": best.low,
        "high": best.high,
        "metrics": dict(trial.metrics),
        "intervals": _intervals(study, trial) if detail else {},
        "overrides": dict(trial.plan.overrides),
    }


def _intervals(study: StudyDir, trial: TrialState) -> dict[str, list[float]]:
    try:
        scores = read_scores(study.trial(trial.plan.trial).scores_json, trial.scores_sha)
    except DataError:
        return {}
    found = scores.get("intervals", {}).items()
    return {name: [interval["low"], interval["high"]] for name, interval in found}


def links_of(study: StudyDir) -> Mapping[str, str]:
    """Return links into MLflow; empty until the study was mirrored."""
    if not study.mirror_json.is_file():
        return {}
    from neurosweep.records.mlflow_ui import mlflow_links

    return mlflow_links(study)


def show_path(path: str | Path) -> str:
    """Return a path as a person would type it here."""
    full = Path(path)
    here = Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)
