"""Decode a recording with what a recorded trial trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurosweep.core.child import Say
from neurosweep.core.entry import call_entry
from neurosweep.core.errors import DataError, StudyError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.exec.resources import allocated_cores
from neurosweep.records.fold import load_state
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.research.create import ensure_data
from neurosweep.research.planning import RunFolders, full_config

_TIMEOUT_S = 6 * 3600.0


def decode(
    study: StudyDir,
    trial: str,
    recording: Path,
    *,
    events: Path | None = None,
    beam: int | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Return what a trial's decoder reads in a recording; the study stays as it is.

    Parameters
    ----------
    study
        Folder of the study.
    trial
        Id of a scored trial whose checkpoint was kept.
    recording
        File to decode.
    events
        Table that says where its sentences are; None where the recording says it.
    beam
        Width of the search; None takes the trial's own.
    say
        Told of progress.

    Returns
    -------
    dict
        ``sentences``, each with ``start_s``, ``stop_s``, ``hypothesis`` and ``logp``, where there
        are such also ``greedy`` and ``reference``; and ``lines`` for people.

    Raises
    ------
    StudyError
        When there is no such trial, it was not scored, or it has no checkpoint.
    DataError
        When a file is absent or cannot be decoded.
    WrongCodeError
        When the study's snapshot of the code was changed.
    """
    for path in (recording, events):
        if path is not None and not path.exists():
            raise DataError(
                f"{path}: does not exist; name a recording and its table by their paths"
            )
    state = load_state(study)
    found = _decodable(study, state, trial)
    home, created = Home(study.root.parent.parent), state.created
    folders = RunFolders(study, created)
    folders.verify_code()
    ensure_data(created, home, say)
    files = study.trial(trial).attempt(found.attempts[-1].number)
    payload = {
        "recording": str(recording.absolute()),
        "events": None if events is None else str(events.absolute()),
        "beam": beam,
        "home": str(home.root.absolute()),
        "run": {
            "config": full_config(created["config"], found.plan.overrides),
            "attempt_dir": str(files.root.absolute()),
            "ckpt": str(files.ckpt.absolute()),
            "stores": [str((home.root / s).absolute()) for s in created["data_info"]["stores"]],
            "entry": created["entry"],
            "seed": found.plan.seed,
        },
    }
    return call_entry(
        f"{created['spec']['entry']}.entry:decode",
        payload,
        code_root=folders.code_root,
        timeout_s=_TIMEOUT_S,
        threads=allocated_cores(),
        say=say,
    )


def _decodable(study: StudyDir, state: StudyState, trial: str) -> TrialState:
    found = state.trials.get(trial)
    if found is None:
        msg = f"study {state.study} has no trial '{trial}'; its ids look like r01t000 or f000"
        raise StudyError(msg)
    if found.phase is not Phase.SCORED:
        where = f"ended in {found.kind}" if found.phase is Phase.FAILED else f"is {found.phase}"
        raise StudyError(f"trial {trial} {where}; only a scored trial can decode")
    ckpt = study.trial(trial).attempt(found.attempts[-1].number).ckpt
    if ckpt.is_symlink() or not ckpt.is_dir() or not any(ckpt.iterdir()):
        msg = (
            f"trial {trial} has no checkpoint in {ckpt}: its job wrote none, or it was larger than "
            "[budget] keep_mb and another trial became the best"
        )
        raise StudyError(f"{msg}; {_others(study, state)}")
    return found


def _others(study: StudyDir, state: StudyState) -> str:
    """Return which trials can decode, as advice."""
    scored = [t for t in state.trials.values() if t.phase is Phase.SCORED]
    sign = 1.0 if state.minimize else -1.0
    scored.sort(key=lambda trial: sign * (state.value(trial) or 0.0))
    kept = [
        t.plan.trial
        for t in scored
        if study.trial(t.plan.trial).attempt(t.attempts[-1].number).ckpt.is_dir()
    ]
    if not kept:
        return "no trial of this study has one"
    return "trials that have one, best first: " + ", ".join(kept[:5])
