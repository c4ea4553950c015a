"""What failed, what it means, what to do, and the end of the log."""

from __future__ import annotations

from collections import Counter
from typing import Any

from neurosweep.records import endings
from neurosweep.records.endings import meaning, why
from neurosweep.records.log_tail import log_tail
from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.state import Phase, TrialState
from neurosweep.records.trial import POLICY
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
        last = first.attempts[-1] if first.attempts else None
        text = "" if last is None else why(data.state, first.plan.trial, last, data.study.root)
        rows.append(
            {
                "kind": kind.value,
                "count": count,
                "share": round(100 * count / max(counts.values())),
                "meaning": POLICY[kind].meaning if last is None else meaning(last),
                "advice": POLICY[kind].advice,
                "trial": first.plan.trial,
                "message": clean_text(text, 200),
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
    return endings.refilled_text(endings.refilled_kinds(data.state))
