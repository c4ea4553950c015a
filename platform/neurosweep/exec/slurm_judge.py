"""What a task's last sighting, its files and its log together say of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from neurosweep.core.errors import DataError
from neurosweep.core.files import read_json
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.claim import Claim, read_claim
from neurosweep.exec.protocol import TaskPhase, TaskView
from neurosweep.exec.slurm_state import (
    ENDED,
    HOPELESS,
    MAY_RETURN,
    WAITS_FOR_A_PERSON,
    view_of,
)
from neurosweep.exec.slurm_watch import Sighting
from neurosweep.exec.status import EXIT_YIELDED
from neurosweep.records.trial import Kind

# A task whose end neither squeue nor sacct tells is given this long before it counts as gone:
# accounting lags behind the controller, by minutes where many jobs end at a time.
GONE_AFTER_S = 300.0
_RETURN_LOOKS = 2
_TAIL_BYTES = 8192
_MAX_STATUS_BYTES = 1024 * 1024
_OOM_TEXTS = ("exceeded memory limit", "oom-kill", "oom_kill", "out-of-memory")
_SIGKILL = 9


def judge(seen: Sighting, job_id: str, *, requeue: bool) -> TaskView | None:
    """Return what is known of a task; None when the last word on it still stands.

    Parameters
    ----------
    seen
        What SLURM says.
    job_id
        Its id.
    requeue
        Whether SLURM starts it again after a preemption or the loss of its node.
    """
    row = seen.row
    if seen.queued and row is not None:
        view = view_of(row, os.getuid())
        if view.phase is not TaskPhase.ENDED:
            return view
        # It has not left the queue: it is being cleaned up, or started again.
        phase = TaskPhase.QUEUED if row.word in MAY_RETURN else TaskPhase.RUNNING
        return TaskView(phase, job_id, reason=view.reason, host=view.host)
    if row is not None and row.word in ENDED:
        if requeue and row.word in MAY_RETURN and seen.absent_looks < _RETURN_LOOKS:
            return None
        return view_of(row, os.getuid())
    absent_s = seen.t - seen.absent_since
    if absent_s > GONE_AFTER_S:
        if seen.recalled is not None:
            return view_of(seen.recalled, os.getuid())
        said = "sacct does not know it" if row is None else f"sacct still says {row.state}"
        reason = f"job {job_id} left squeue {absent_s:.0f} s ago and {said}"
        return TaskView(TaskPhase.GONE, job_id, reason, kind_hint=Kind.LOST)
    return None


def held_up(array: str, reason: str) -> str:
    """Return what a person must know of an array that waits in vain; empty for any other."""
    if reason in HOPELESS:
        return (
            f"array {array} will not start ({reason}): change the profile, then cancel and resume; "
            "`neurosweep doctor --on slurm:PROFILE` says what does not fit"
        )
    if reason in WAITS_FOR_A_PERSON:
        return f"array {array} waits for an administrator of the cluster ({reason})"
    return ""


def claim_of(files: AttemptDir, job_id: str) -> Claim | None:
    """Return the claim of an attempt if this job holds it."""
    try:
        claim = read_claim(files.claim)
    except DataError:
        return None
    return claim if claim is not None and claim.job == job_id else None


def has_finished(files: AttemptDir, job_id: str) -> Claim | None:
    """Return the claim of a job that has written its status, None before.

    A status that says no more than that the job was told to stop is not enough: whether it was
    preempted, cancelled, or lost its node is what SLURM will say.
    """
    if not os.path.lexists(files.status) or _was_told_to_stop(files):
        return None
    return claim_of(files, job_id)


def _was_told_to_stop(files: AttemptDir) -> bool:
    try:
        status = read_json(files.status, _MAX_STATUS_BYTES)
    except DataError:
        return False
    return isinstance(status, Mapping) and status.get("kind") == Kind.STOPPED.value


def finished_view(
    view: TaskView, seen: Sighting | None, files: AttemptDir, now: float, looked: float
) -> TaskView | None:
    """Return the view of a task that has written its status, None for any other.

    A task that was started again is left to accounting, which knows its earlier lives, for as
    long as SLURM has it.

    Parameters
    ----------
    view
        What was known of it.
    seen
        What SLURM says.
    files
        The attempt.
    now, looked
        Now, and when its files were last looked at, in seconds of the monotonic clock.
    """
    claim = has_finished(files, view.job_id)
    if claim is None or (claim.restart and (seen is None or seen.queued)):
        return None
    return TaskView(
        TaskPhase.ENDED,
        view.job_id,
        reason="its status says so",
        host=view.host or claim.machine,
        held_s=None if seen is None or claim.restart else _held(seen, files, now, looked),
        restarts=claim.restart,
    )


def _held(seen: Sighting, files: AttemptDir, now: float, looked: float) -> float | None:
    """Return for how long a task that has written its status held its cores."""
    row = seen.row
    if row is None or row.word != "RUNNING" or row.elapsed_s is None:
        # A job that completes may be shown with no time.
        return None if row is None else row.elapsed_s or None
    try:
        age = time.time() - files.status.stat().st_mtime
    except OSError:
        age = 0.0
    # The file server's clock may be wrong; the status came after the last look at it.
    ended = max(now - max(age, 0.0), looked, seen.t)
    return row.elapsed_s + ended - seen.t


def explained(view: TaskView, files: AttemptDir, log: Path) -> TaskView:
    """Return the view of a task that is over with what its exit code and its log tell.

    Parameters
    ----------
    view
        What SLURM says.
    files
        The attempt.
    log
        What SLURM and the job printed.
    """
    claim = claim_of(files, view.job_id)
    if claim is not None:
        restarts = max(view.restarts, claim.restart)
        view = replace(view, restarts=restarts, host=view.host or claim.machine)
    cancelled = view.kind_hint in (Kind.CANCELLED_ADMIN, Kind.CANCELLED_USER)
    if not (view.kind_hint is None or cancelled) or os.path.lexists(files.status):
        return view
    if view.exit_code == EXIT_YIELDED and not cancelled:
        reason = f"{view.reason}; it saved its state and left, and was not started again"
        return replace(view, kind_hint=Kind.PREEMPTED, reason=reason)
    # Without accounting the code of a task that failed is not known.
    silent = view.exit_code is None and view.signal is None
    if (cancelled or silent or view.signal == _SIGKILL) and (line := _oom_line(log)):
        return replace(view, kind_hint=Kind.OOM_HOST, reason=f"{view.reason}; {line}")
    return view


def _oom_line(log: Path) -> str:
    """Return the line by which SLURM says that a task held too much memory."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
            text = stream.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = (line.strip() for line in text.splitlines())
    # By its own words only: whatever the job printed starts with something else.
    own = (line for line in lines if line.startswith(("slurmstepd", "slurmd")))
    return next((line[:300] for line in own if any(t in line.lower() for t in _OOM_TEXTS)), "")
