"""How attempts ended, in words, for everything that shows them: status, page and MLflow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from neurosweep.records.state import AttemptState, Phase, StudyState, TrialState
from neurosweep.records.trial import POLICY, Kind, Outcome


def ended_why(state: StudyState, trial: str, attempt: int) -> str:
    """Return why the driver ended an attempt; empty when it did not."""
    for control in reversed(state.controls):
        same = (control.get("trial"), control.get("attempt")) == (trial, attempt)
        if same and control.get("action") == "end_attempt":
            return str(control.get("reason", ""))
    return ""


def said(attempt: AttemptState, root: Path) -> str:
    """Return what a failed attempt said, with paths from its study's folder on.

    Parameters
    ----------
    attempt
        The attempt.
    root
        Folder of its study.
    """
    return str(attempt.error.get("text", "")).replace(f"{root}/", "")


def error_type(attempt: AttemptState) -> str:
    """Return the class of an attempt's error; empty where that says no more than its kind."""
    type_ = str(attempt.error.get("type", ""))
    return "" if type_ == attempt.kind.value else type_


def why(state: StudyState, trial: str, attempt: AttemptState, root: Path | None = None) -> str:
    """Return the best words for an ending: why the driver ended it, else what it said.

    Parameters
    ----------
    state, trial, attempt
        The study, id of the trial, and its attempt.
    root
        Folder of the study: its paths are shown from there on.
    """
    reason = ended_why(state, trial, attempt.number)
    if reason:
        return reason
    text = str(attempt.error.get("text", "")) if root is None else said(attempt, root)
    return ": ".join(part for part in (error_type(attempt), text) if part)


def meaning(attempt: AttemptState) -> str:
    """Return what an ending means."""
    if attempt.kind is Kind.USER_ERROR and error_type(attempt).startswith("SIG"):
        return "its process crashed, in compiled code"
    return POLICY[attempt.kind].meaning


def failed_kinds(state: StudyState) -> dict[str, int]:
    """Return the number of failed trials of each kind, all purposes, the most frequent first."""
    failed = (trial for trial in state.trials.values() if trial.phase is Phase.FAILED)
    return dict(Counter(trial.kind.value for trial in failed).most_common())


def refilled_kinds(state: StudyState) -> dict[str, int]:
    """Return, by kind, the number of failed attempts whose trials were run again."""
    kinds = Counter(
        attempt.kind.value
        for trial in state.trials.values()
        for attempt in trial.attempts
        if attempt.outcome is Outcome.FAILED and not _is_last_word(trial, attempt)
    )
    return dict(sorted(kinds.items()))


def refilled_text(kinds: dict[str, int]) -> str:
    """Return a sentence about attempts that were run again; empty when there were none.

    Examples
    --------
    >>> refilled_text({"lost": 1, "node_failure": 2})
    '3 attempts failed with the infrastructure and ran again: lost 1, node_failure 2.'
    """
    if not kinds:
        return ""
    listed = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    num = sum(kinds.values())
    return f"{num} attempt{'s' * (num > 1)} failed with the infrastructure and ran again: {listed}."


def _is_last_word(trial: TrialState, attempt: AttemptState) -> bool:
    return trial.phase is Phase.FAILED and attempt is trial.attempts[-1]
