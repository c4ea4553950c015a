"""Show one trial: what it is, every attempt, what its ending means, and the end of its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.parser import hint
from neurosweep.cli.summary import show_path
from neurosweep.cli.wording import changes_text, cost_text, duration, interval_text
from neurosweep.core.clock import SystemClock
from neurosweep.core.errors import StudyError
from neurosweep.core.layout import StudyDir
from neurosweep.records.cost import held_seconds, trial_cost
from neurosweep.records.endings import ended_why, meaning, said
from neurosweep.records.fold import load_state
from neurosweep.records.log_tail import log_path, log_tail
from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.state import AttemptState, StudyState, TrialState
from neurosweep.records.trial import POLICY, Kind
from neurosweep.research.progress import note_held

_HEADER = ("attempt", "ended as", "job", "machine", "waited", "held", "restarts", "memory")


def show_trial(study: StudyDir, trial: str, console: Console, lines: int) -> int:
    """Print one trial of a study.

    Raises
    ------
    StudyError
        When the study has no such trial.
    """
    state = load_state(study)
    found = state.trials.get(trial)
    if found is None:
        near = hint(trial, state.trials)
        msg = f"study {study.study_id}: no trial '{trial}'{near}there are {len(state.trials)}"
        raise StudyError(msg)
    note_held(study, state)
    data = trial_data(study, state, found, SystemClock().now(), lines)
    _print(console, data)
    console.data(data)
    return exits.OK


def trial_data(
    study: StudyDir, state: StudyState, trial: TrialState, now: float, lines: int
) -> dict[str, Any]:
    """Return what ``--json`` prints of a trial.

    Parameters
    ----------
    study
        Folder of its study.
    state
        The study.
    trial
        The trial.
    now
        Seconds since 1970, for what runs.
    lines
        Lines of its log.
    """
    plan, last = trial.plan, trial.attempts[-1] if trial.attempts else None
    kind = trial.kind if last is None or last.outcome is None else last.kind
    log = "" if last is None else str(log_path(study, plan.trial, last))
    return {
        "v": 1,
        "study": study.study_id,
        "trial": plan.trial,
        "purpose": plan.purpose.value,
        "round": plan.round,
        "state": trial.phase.value,
        **_meaning(state, kind),
        **({"meaning": meaning(last)} if last is not None and last.kind is kind else {}),
        "ended_why": "" if last is None else ended_why(state, plan.trial, last.number),
        "overrides": dict(plan.overrides),
        "seed": plan.seed,
        "idea": plan.idea,
        "source": plan.source,
        "metric": state.metric,
        "metrics": dict(trial.metrics),
        "interval": dict(trial.interval),
        "attempts": [_attempt(study, attempt, now) for attempt in trial.attempts],
        "cost": trial_cost(trial, now).to_dict(),
        "folder": str(study.trial(plan.trial).root),
        "log": log,
        "log_tail": "" if last is None else log_tail(study, plan.trial, last, lines),
    }


def _meaning(state: StudyState, kind: Kind) -> dict[str, Any]:
    policy = POLICY[kind]
    return {
        "kind": kind.value,
        "meaning": policy.meaning,
        "advice": policy.advice,
        "tries": policy.attempts(int(state.spec["budget"]["max_attempts"])),
        "sampler": policy.sampler,
    }


def _attempt(study: StudyDir, attempt: AttemptState, now: float) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "outcome": None if attempt.outcome is None else attempt.outcome.value,
        "kind": attempt.kind.value,
        "error": {**attempt.error, "text": said(attempt, study.root)} if attempt.error else {},
        "job": attempt.job,
        "host": attempt.host,
        "started": attempt.started_t or None,
        "ended": attempt.ended_t or None,
        "queue_s": attempt.queue_s,
        "seconds": attempt.seconds,
        "held_s": round(held_seconds(attempt, now), 3),
        "restarts": attempt.restarts,
        "cores": attempt.cores,
        "gpus": attempt.gpus,
        "peak_mb": attempt.peak_mb,
    }


def _print(console: Console, data: Mapping[str, Any]) -> None:
    where = f"round {data['round']}" if data["round"] else data["purpose"]
    console.line(f"{data['trial']} of {data['study']}, {where}: {data['state']}")
    changes = changes_text(data["overrides"]) or "the recipe as it is"
    console.line(f"configuration: {changes}  (seed {data['seed']}, from {data['source']})")
    if data["idea"]:
        console.line(f"idea: {clean_text(data['idea'], 300)}")
    if data["metrics"]:
        console.line(f"result: {_result(data)}")
    if data["kind"] != Kind.NONE:
        console.lines(_kind_lines(data))
    console.line()
    if data["attempts"]:
        console.table(_HEADER, [_row(attempt) for attempt in data["attempts"]])
        console.line(f"cost: {cost_text(data['cost'])}")
    else:
        console.line("not submitted yet")
    if data["log_tail"]:
        console.line()
        console.line(f"end of its log ({show_path(data['log'])}):")
        console.lines([f"  {line}" for line in data["log_tail"].split("\n")])
    console.line()
    console.line(f"folder: {show_path(data['folder'])}")


def _result(data: Mapping[str, Any]) -> str:
    metric, interval = data["metric"], data["interval"]
    names = sorted(data["metrics"], key=lambda name: (name != metric, name))
    texts = [f"{name} {data['metrics'][name]:.4f}" for name in names]
    if interval.get("metric", metric) == metric and metric in data["metrics"]:
        texts[0] += interval_text(interval.get("low"), interval.get("high"))
    return ", ".join(texts)


def _kind_lines(data: Mapping[str, Any]) -> list[str]:
    error = data["attempts"][-1]["error"] if data["attempts"] else {}
    lines = [f"{data['kind']}: {data['meaning']}"]
    if data["ended_why"]:
        lines.append(f"why the driver ended it: {clean_text(data['ended_why'], 300)}")
    if error:
        type_ = "" if error["type"] in ("", data["kind"]) else f"{error['type']}: "
        lines.append(f"what it said: {clean_text(type_ + error['text'], 400)}")
    if data["advice"]:
        lines.append(f"what to do: {data['advice']}")
    tries = data["tries"]
    spent = f"it is tried up to {tries} times" if tries > 1 else "its place in the round is spent"
    told = "told it was a bad one" if data["sampler"] == "bad" else "not told of it"
    return [*lines, f"what follows: {spent}; the sampler is {told}"]


def _row(attempt: Mapping[str, Any]) -> tuple[str, ...]:
    if attempt["outcome"] is None:
        ended = "runs" if attempt["started"] else "waits"
    else:
        ended = "done" if attempt["outcome"] == "done" else attempt["kind"]
    return (
        str(attempt["attempt"]),
        ended,
        attempt["job"] or "-",
        attempt["host"] or "-",
        duration(attempt["queue_s"]) if attempt["started"] else "-",
        duration(attempt["held_s"]) if attempt["started"] else "-",
        str(attempt["restarts"]),
        f"{attempt['peak_mb']:.0f} MB" if attempt["peak_mb"] else "-",
    )
