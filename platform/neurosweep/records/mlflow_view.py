"""What MLflow should show of a study: runs as plain data, computed from its state alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neurosweep.core.config import flatten
from neurosweep.core.files import canonical_json
from neurosweep.records.cost import round_cost
from neurosweep.records.endings import meaning, why
from neurosweep.records.mlflow_names import clean_text, run_name
from neurosweep.records.mlflow_points import (
    Point,
    cost_points,
    study_points,
    to_ms,
    trial_points,
)
from neurosweep.records.state import Phase, RoundState, StudyState, TrialState
from neurosweep.records.trial import POLICY, Kind, Purpose

STUDY_KEY = "study"


@dataclass(frozen=True)
class RunView:
    """Describe one run of MLflow.

    Attributes
    ----------
    key
        Trial id, ``round-03``, or ``study``: unique in its study.
    name
        Readable name.
    parent
        Key of the parent run, or empty.
    status
        ``RUNNING`` until nothing more will change.
    start_ms, end_ms
        Times from the ledger, milliseconds since 1970.
    attempt
        Attempt shown; 0 for rounds and the study.
    """

    key: str
    name: str
    parent: str
    status: str
    start_ms: int
    end_ms: int | None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    attempt: int = 0


def round_key(number: int) -> str:
    """Return the key of a round's run."""
    return f"round-{number:02d}"


def round_name(state: StudyState, round_state: RoundState) -> str:
    """Return ``round 03``, or the purpose of a round that holds no search trials."""
    purposes = {state.trials[trial_id].plan.purpose for trial_id in round_state.trials}
    if len(purposes) == 1 and Purpose.SEARCH not in purposes:
        return purposes.pop().value
    return f"round {round_state.number:02d}"


def study_view(state: StudyState) -> RunView:
    """Return the run that stands for the study: its specification and its running best."""
    closed = state.closed is not None
    return RunView(
        STUDY_KEY,
        f"study {clean_text(str(state.spec.get('name', state.study)), 80)}",
        "",
        "FINISHED" if closed else "RUNNING",
        to_ms(state.created_t),
        to_ms(state.closed_t) if closed else None,
        tags={
            **_common_tags(state),
            "ns.type": "study",
            "ns.state": "closed" if closed else "open",
        },
        params={path: _text(value) for path, value in flatten(state.spec).items()},
        metrics=tuple(study_points(state)),
    )


def round_view(state: StudyState, round_state: RoundState) -> RunView:
    """Return the run of a round: the parent of its trials."""
    closed = round_state.closed
    at = to_ms(round_state.closed_t) if closed else None
    trials = [state.trials[trial_id] for trial_id in round_state.trials]
    points: list[Point] = []
    if at is not None:
        values = [value for trial in trials if (value := state.value(trial)) is not None]
        if values:
            best = min(values) if state.minimize else max(values)
            points.append((f"best/{state.metric}", best, at, round_state.number))
        failed = sum(trial.phase is Phase.FAILED for trial in trials)
        points.append(("trials_done", float(len(trials) - failed), at, round_state.number))
        points.append(("trials_failed", float(failed), at, round_state.number))
        points += cost_points(round_cost(state, round_state.number), at, round_state.number)
    return RunView(
        round_key(round_state.number),
        round_name(state, round_state),
        "",
        "FINISHED" if closed else "RUNNING",
        to_ms(round_state.planned_t),
        at,
        tags={
            **_common_tags(state),
            "ns.type": "round",
            "ns.round": str(round_state.number),
            "ns.state": "closed" if closed else "open",
        },
        metrics=tuple(points),
    )


def trial_view(state: StudyState, trial: TrialState, parent: str) -> RunView:
    """Return the run of a trial whose first attempt has started."""
    attempt = trial.attempts[-1]
    end = trial.scored_t or attempt.ended_t
    final = trial.phase.final
    begun = next((a.started_t for a in trial.attempts if a.started_t), "") or end
    return RunView(
        trial.plan.trial,
        run_name(trial.plan.trial, trial.plan.overrides),
        parent,
        _status(trial),
        to_ms(begun),
        to_ms(end) if final and end else None,
        tags=_trial_tags(state, trial),
        params=_params(state, trial),
        metrics=tuple(trial_points(state, trial, to_ms(end))) if final and end else (),
        attempt=attempt.number,
    )


def _status(trial: TrialState) -> str:
    if trial.phase is Phase.SCORED:
        return "FINISHED"
    if trial.phase is not Phase.FAILED:
        return "RUNNING"
    return "KILLED" if trial.kind in (Kind.CANCELLED_USER, Kind.STOPPED) else "FAILED"


def _params(state: StudyState, trial: TrialState) -> dict[str, str]:
    flat = {**flatten(state.config), **trial.plan.overrides}
    return {path: _text(value) for path, value in flat.items()}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return clean_text(text, 1000)


def _common_tags(state: StudyState) -> dict[str, str]:
    created, spec = state.created, state.spec
    commit = str(created.get("commit") or "")
    tags = {
        "ns.study": state.study,
        "ns.agent": str(spec.get("agent", {}).get("name", "")),
        "ns.recipe": str(spec.get("recipe", "")),
        "ns.commit": commit,
        "ns.data_fp": str(created.get("data_fp", "")),
        "mlflow.source.name": "neurosweep",
        "mlflow.source.type": "JOB",
    }
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return tags


def _subjects(state: StudyState) -> str:
    listed = state.spec.get("data", {}).get("subjects")
    if listed is None:
        listed = state.created.get("data_info", {}).get("subjects", [])
    return ",".join(map(str, listed)) if isinstance(listed, list) else str(listed)


def _trial_tags(state: StudyState, trial: TrialState) -> dict[str, str]:
    plan, attempt = trial.plan, trial.attempts[-1]
    tags = {
        **_common_tags(state),
        "ns.type": "trial",
        "ns.trial": plan.trial,
        "ns.round": str(plan.round),
        "ns.attempt": str(attempt.number),
        "ns.state": trial.phase.value,
        "ns.kind": trial.kind.value,
        "ns.job_id": attempt.job,
        "ns.subject": clean_text(_subjects(state)),
        "ns.seed": str(plan.seed),
        "ns.purpose": plan.purpose.value,
        "ns.idea": clean_text(plan.idea, 1000),
        "ns.source": plan.source,
    }
    if trial.kind is not Kind.NONE:
        advice = POLICY[trial.kind].advice
        tags["ns.meaning"] = f"{meaning(attempt)}; {advice}" if advice else meaning(attempt)
    text = why(state, plan.trial, attempt)
    if text:
        tags["ns.error"] = clean_text(text, 1000)
    return tags
