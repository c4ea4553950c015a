"""Ask the driver of a study for something, or do it here when there is none."""

from __future__ import annotations

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.parser import hint
from neurosweep.core.errors import StudyError
from neurosweep.core.layout import StudyDir
from neurosweep.records.fold import load_state


def control(study: StudyDir, console: Console, action: str, reason: str, trial: str) -> int:
    """Leave a request for the driver; without a driver, cancel here.

    Raises
    ------
    StudyError
        When the study has ended, or the trial to stop is unknown or has ended.
    """
    from neurosweep.research.control import send_request
    from neurosweep.research.lock import live_driver

    state = load_state(study)
    if state.closed is not None:
        msg = f"study {study.study_id}: has ended ({state.closed['reason']}); nothing to {action}"
        raise StudyError(msg)
    if trial and (trial not in state.trials or state.trials[trial].phase.final):
        known = [name for name, found in state.trials.items() if not found.phase.final]
        shown = ", ".join(known[:8]) or "none"
        msg = (
            f"study {study.study_id}: no trial '{trial}' to stop{hint(trial, known)}"
            f"trials that have not ended: {shown}"
        )
        raise StudyError(msg)
    holder = live_driver(study.lock)
    if holder is None and action == "pause":
        msg = f"study {study.study_id}: has no driver, so it rests already; nothing to pause"
        raise StudyError(msg)
    request = send_request(study, action, reason=reason, trial=trial)
    if holder is not None:
        console.line(f"asked the driver of {study.study_id} ({holder})")
    elif action == "cancel":
        _drive_to_end(study)
        console.line(f"study {study.study_id} is closed")
    else:
        console.line(f"study {study.study_id} has no driver; obeyed when it is resumed")
    console.data(
        {
            "v": 1,
            "study": study.study_id,
            "action": action,
            "request": request,
            "trial": trial or None,
            "driver": holder is not None,
        }
    )
    return exits.OK


def _drive_to_end(study: StudyDir) -> None:
    from neurosweep.research.setup import build_driver

    build_driver(study).run()
