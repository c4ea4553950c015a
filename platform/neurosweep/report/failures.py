"""What failed, what it means, what to do, and the end of the log."""

from __future__ import annotations

from collections import Counter
from typing import Any

from neurosweep.records.log_tail import log_tail
from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.state import Phase, TrialState
from neurosweep.records.trial import POLICY, Kind
from neurosweep.report.data import ReportData

LOG_LINES = 25
_LOG_WIDTH = 300


def failure_rows(data: ReportData) -> list[dict[str, Any]]:
    """Return one row a kind of failure, the most frequent first; the floor counts too."""
    failed = [trial for trial in data.state.trials.values() if trial.phase is Phase.FAILED]
    counts = Counter(trial.kind for trial in failed)
    rows: list[dict[str, Any]] = []
    for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0].value)):
        first = next(trial for trial in failed if trial.kind is kind)
        error = first.attempts[-1].error if first.attempts else {}
        type_ = "" if error.get("type") == kind.value else f"{error.get('type', '')}: "
        text = str(error.get("text", "")).replace(f"{data.study.root}/", "")
        message = clean_text(type_ + text, 200)
        rows.append(
            {
                "kind": kind.value,
                "count": count,
                "share": round(100 * count / max(counts.values())),
                "meaning": POLICY[kind].meaning,
                "advice": POLICY[kind].advice,
                "trial": first.plan.trial,
                "message": message.strip(": "),
                "log": _log(data, first),
            }
        )
    return rows


def _log(data: ReportData, trial: TrialState) -> str:
    if not trial.attempts:
        return ""
    tail = log_tail(data.study, trial.plan.trial, trial.attempts[-1], LOG_LINES)
    return "\n".join(line[:_LOG_WIDTH] for line in tail.split("\n"))


def refilled_text(data: ReportData) -> str:
    """Return a sentence about attempts that the infrastructure broke and that were run again."""
    kinds = Counter(
        attempt.kind.value
        for trial in data.state.trials.values()
        for attempt in trial.attempts[:-1]
        if attempt.kind is not Kind.NONE
    )
    if not kinds:
        return ""
    listed = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    num = sum(kinds.values())
    return f"{num} attempt{'s' * (num > 1)} failed with the infrastructure and ran again: {listed}."
