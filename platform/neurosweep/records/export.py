"""A study as one JSON document, computed from its ledger alone.

Two drivers that did the same study, one of them killed and resumed, give the same canonical
export; so does a study before and after everything derived from it was deleted and rebuilt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosweep.core.files import canonical_json, sha256_bytes
from neurosweep.core.layout import StudyDir
from neurosweep.records.fold import fold
from neurosweep.records.ledger import read_ledger
from neurosweep.records.state import AttemptState, RoundState, StudyState, TrialState

_CIRCUMSTANCES = ("env", "t")


def export_study(study: StudyDir, *, canonical: bool = True) -> dict[str, Any]:
    """Return everything that the ledger says of a study.

    Parameters
    ----------
    study
        Folder of the study.
    canonical
        Whether to leave out what differs between equal runs: times, durations, memory, hosts,
        processes, job ids, submission tokens, requests, and versions of the environment.

    Raises
    ------
    LedgerError
        When the ledger is absent or damaged.
    """
    return export_state(fold(read_ledger(study.ledger)), canonical=canonical)


def export_state(state: StudyState, *, canonical: bool = True) -> dict[str, Any]:
    """Return the export of a folded study, see `export_study`."""
    created = dict(state.created)
    if canonical:
        created = _without(created, _CIRCUMSTANCES)
    data = {
        "v": 1,
        "study": state.study,
        "created": created,
        "rounds": [_round(r, canonical) for _, r in sorted(state.rounds.items())],
        "trials": {name: _trial(t, canonical) for name, t in sorted(state.trials.items())},
        "champions": [_plain(item, canonical) for item in state.champions],
        "vault_openings": [_plain(item, canonical) for item in state.vault_openings],
        "closed": None if state.closed is None else dict(state.closed),
    }
    if not canonical:
        data["times"] = {"created": state.created_t, "closed": state.closed_t}
        data["controls"] = [dict(control) for control in state.controls]
    return data


def export_sha(study: StudyDir, *, canonical: bool = True) -> str:
    """Return the SHA-256 of a study's export.

    Raises
    ------
    LedgerError
        When the ledger is absent or damaged.
    """
    return sha256_bytes(canonical_json(export_study(study, canonical=canonical)).encode())


def _without(data: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names}


def _plain(data: Mapping[str, Any], canonical: bool) -> dict[str, Any]:
    return _without(data, _CIRCUMSTANCES) if canonical else dict(data)


def _round(state: RoundState, canonical: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "number": state.number,
        "trials": list(state.trials),
        "turns": [dict(turn) for turn in state.turns],
        "closed": state.closed,
        "best": None if state.best is None else dict(state.best),
    }
    if not canonical:
        data["times"] = {"planned": state.planned_t, "closed": state.closed_t}
        data["intents"] = {token: list(map(list, t)) for token, t in state.intents.items()}
    return data


def _trial(trial: TrialState, canonical: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "plan": trial.plan.to_dict(),
        "phase": trial.phase.value,
        "kind": trial.kind.value,
        "attempts": [_attempt(attempt, canonical) for attempt in trial.attempts],
        "metrics": dict(trial.metrics),
        "interval": dict(trial.interval),
        "per_subject": {name: dict(means) for name, means in trial.per_subject.items()},
        "scores_sha": trial.scores_sha,
    }
    if not canonical:
        data["times"] = {"scored": trial.scored_t}
    return data


def _attempt(attempt: AttemptState, canonical: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "number": attempt.number,
        "outcome": None if attempt.outcome is None else attempt.outcome.value,
        "kind": attempt.kind.value,
        "error": dict(attempt.error),
        "predictions_sha": attempt.predictions_sha,
    }
    if not canonical:
        data |= {
            "token": attempt.token,
            "job": attempt.job,
            "host": attempt.host,
            "pid": attempt.pid,
            "started": attempt.started_t,
            "ended": attempt.ended_t,
            "seconds": attempt.seconds,
            "peak_mb": attempt.peak_mb,
            "cores": attempt.cores,
            "gpus": attempt.gpus,
            "restarts": attempt.restarts,
            "queue_s": attempt.queue_s,
            "held_s": attempt.seconds if attempt.held_s is None else attempt.held_s,
        }
    return data
