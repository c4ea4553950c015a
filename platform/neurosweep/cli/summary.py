"""The figures of a study, from its ledger alone, as stable JSON data."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import DataError
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.fold import fold
from neurosweep.records.ledger import read_ledger
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.records.types import Purpose
from neurosweep.research.best import improvements, running_best
from neurosweep.research.lock import live_driver
from neurosweep.research.progress import closed_as, counts_of, is_paused

_NUM_RECENT = 20


def read_state(study: StudyDir) -> StudyState:
    """Return the state of a study from its ledger.

    Raises
    ------
    LedgerError
        When the ledger is damaged.
    """
    return fold(read_ledger(study.ledger))


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
    where, reason = standing(study, state)
    spec = state.spec
    report = study.report_dir / "index.html"
    return {
        "v": 1,
        "study": state.study,
        "name": spec.get("name", ""),
        "recipe": spec.get("recipe", ""),
        "agent": spec.get("agent", {}).get("name", ""),
        "state": where,
        "reason": reason,
        "round": current_round(state),
        "rounds": spec["budget"]["rounds"],
        "trials": trial_counts(state),
        "objective": {
            "metric": state.metric,
            "direction": "minimize" if state.minimize else "maximize",
        },
        "floor": _floor(state),
        "default": _default(state),
        "best": _best(study, state, detail=detail),
        "chance": dict(state.created.get("data_info", {}).get("chance", {})),
        "improvements": [best.to_dict() for best in improvements(state)],
        "failures": failures(state.trials.values()),
        "pace": pace(state, now),
        "core_hours": round(sum(t.core_hours for t in state.trials.values()), 4),
        "created": state.created_t,
        "folder": str(study.root),
        "report": str(report) if report.is_file() else None,
    }


def standing(study: StudyDir, state: StudyState) -> tuple[str, str]:
    """Return where a study stands, and why.

    One of complete, incomplete, running, paused and interrupted: the last two can be resumed.
    """
    if state.closed is not None:
        ended, reason = closed_as(state)
        return ended.value, reason
    if live_driver(study.lock) is not None:
        return "running", ""
    if is_paused(state):
        return "paused", ""
    return "interrupted", "its driver has ended"


def current_round(state: StudyState) -> int:
    """Return the number of the latest round that was planned; 0 for the floor."""
    return max((r.number for r in state.rounds.values() if r.trials), default=0)


def trial_counts(state: StudyState) -> dict[str, int]:
    """Return how many search trials stand where."""
    search = list(state.of(Purpose.SEARCH))
    phases = Counter(trial.phase for trial in search)
    return {
        **counts_of(state),
        "running": phases[Phase.RUNNING] + phases[Phase.ENDED],
        "queued": phases[Phase.PLANNED] + phases[Phase.SUBMITTED],
        "fallback": sum(trial.plan.source == "fallback" for trial in search),
    }


def failures(trials: Iterable[TrialState]) -> dict[str, int]:
    """Return the number of failed trials of every kind, most frequent first."""
    kinds = Counter(trial.kind.value for trial in trials if trial.phase is Phase.FAILED)
    return dict(kinds.most_common())


def pace(state: StudyState, now: float) -> dict[str, float | None]:
    """Return trials a minute over the latest ones, and seconds until the budget is spent."""
    ends = sorted(end for trial in state.trials.values() if (end := _end(trial)) is not None)
    recent = ends[-_NUM_RECENT:]
    final = state.closed is not None
    if len(recent) < 2:
        return {"trials_per_minute": None, "eta_s": 0.0 if final else None}
    last = recent[-1] if final else max(now, recent[-1])
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


def _best(study: StudyDir, state: StudyState, *, detail: bool) -> dict[str, Any] | None:
    best = running_best(state)
    if best is None:
        return None
    trial = state.trials[best.trial]
    return {
        "trial": best.trial,
        "value": best.value,
        "low": best.low,
        "high": best.high,
        "metrics": dict(trial.metrics),
        "intervals": _intervals(study, best.trial) if detail else {},
        "overrides": dict(trial.plan.overrides),
    }


def _intervals(study: StudyDir, trial: str) -> dict[str, list[float]]:
    try:
        scores = read_json(study.trial(trial).scores_json)
    except DataError:
        return {}
    found = scores.get("intervals", {}).items()
    return {name: [interval["low"], interval["high"]] for name, interval in found}


def links_of(study: StudyDir) -> Mapping[str, str]:
    """Return links into MLflow; empty until the study was mirrored."""
    from neurosweep.records.mlflow_ui import mlflow_links

    return mlflow_links(study)


def show_path(path: str | Path) -> str:
    """Return a path as a person would type it here."""
    full = Path(path)
    here = Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)
