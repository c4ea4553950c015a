"""What SLURM says of tasks: one query for all of them, and what each state means."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from neurosweep.core.errors import ExecutorError
from neurosweep.exec.protocol import TaskPhase, TaskView
from neurosweep.records.trial import Kind

QUERY_TIMEOUT_S = 30.0
_QUEUED = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
}
_RUNNING = {
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
}
_ENDED: Mapping[str, Kind | None] = {
    "COMPLETED": None,
    "FAILED": None,
    "TIMEOUT": Kind.TIME_LIMIT,
    "DEADLINE": Kind.TIME_LIMIT,
    "OUT_OF_MEMORY": Kind.OOM_HOST,
    "NODE_FAIL": Kind.NODE_FAILURE,
    "BOOT_FAIL": Kind.NODE_FAILURE,
    "LAUNCH_FAILED": Kind.NODE_FAILURE,
    "PREEMPTED": Kind.PREEMPTED,
    "REVOKED": Kind.CANCELLED_ADMIN,
}


@dataclass(frozen=True)
class SlurmRow:
    """Hold one line of squeue or sacct.

    Attributes
    ----------
    job_id
        ``1234_5`` for a task of an array, ``1234`` for a single job.
    name
        Job name: the intent token.
    state
        As printed, for example ``CANCELLED by 1001``.
    exit_code
        ``code:signal``, empty from squeue.
    host, reason
        Node and SLURM's reason.
    """

    job_id: str
    name: str
    state: str
    exit_code: str = ""
    host: str = ""
    reason: str = ""


def run_slurm(command: list[str]) -> str:
    """Run a SLURM command and return what it printed.

    Raises
    ------
    ExecutorError
        When the command is absent, fails, or does not answer in time. A failed query says
        nothing about the jobs.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        msg = f"{command[0]} is not installed here; run `neurosweep doctor`, or use --on local"
        raise ExecutorError(msg) from error
    except subprocess.TimeoutExpired as error:
        msg = f"{command[0]} did not answer within {QUERY_TIMEOUT_S:g} s"
        raise ExecutorError(msg) from error
    if done.returncode != 0:
        msg = f"{' '.join(command[:2])} failed ({done.returncode}): {done.stderr.strip()[:500]}"
        raise ExecutorError(msg)
    return done.stdout


def queue_rows(names: Iterable[str]) -> dict[str, SlurmRow]:
    """Return what squeue knows of jobs with these names, by job id."""
    output = run_slurm(["squeue", "-h", "-r", "-o", "%i|%j|%T|%N|%r", f"--name={','.join(names)}"])
    rows = (line.split("|", 4) for line in output.splitlines() if line.count("|") >= 4)
    return {r[0]: SlurmRow(r[0], r[1], r[2], host=r[3], reason=r[4]) for r in rows}


def accounting_rows(names: Iterable[str], since: str) -> dict[str, SlurmRow]:
    """Return what sacct knows of jobs with these names, by job id.

    Parameters
    ----------
    names
        Job names.
    since
        Earliest submit time, ``YYYY-MM-DDTHH:MM:SS`` local time: job ids are used again.
    """
    columns = "JobID,JobName,State,ExitCode,NodeList"
    output = run_slurm(
        ["sacct", "-X", "-P", "-n", "-S", since, "-o", columns, f"--name={','.join(names)}"]
    )
    rows = (line.split("|", 4) for line in output.splitlines() if line.count("|") >= 4)
    return {
        r[0]: SlurmRow(r[0], r[1], r[2], exit_code=r[3], host=r[4]) for r in rows if "[" not in r[0]
    }


def view_of(row: SlurmRow, own_uid: int) -> TaskView:
    """Translate a row into what the research loop understands.

    Parameters
    ----------
    row
        One line of squeue or sacct.
    own_uid
        Uid of the study's owner: a task cancelled by someone else was cancelled by an
        administrator.
    """
    state = row.state.split()[0].rstrip("+") if row.state.strip() else "UNKNOWN"
    phase, hint = _phase_of(state, row.state, own_uid)
    code, _, signal = row.exit_code.partition(":")
    return TaskView(
        phase,
        job_id=row.job_id,
        reason=f"{row.state} {row.reason}".strip(),
        exit_code=int(code) if phase is TaskPhase.ENDED and code.isdigit() else None,
        signal=int(signal) if phase is TaskPhase.ENDED and signal.isdigit() else None,
        kind_hint=hint,
        host=row.host,
    )


def _phase_of(state: str, full: str, own_uid: int) -> tuple[TaskPhase, Kind | None]:
    if state in _RUNNING:
        return TaskPhase.RUNNING, None
    if state in _ENDED:
        return TaskPhase.ENDED, _ENDED[state]
    if state == "CANCELLED":
        by = full.rpartition(" ")[2]
        others = by.isdigit() and int(by) != own_uid
        return TaskPhase.ENDED, Kind.CANCELLED_ADMIN if others else Kind.CANCELLED_USER
    # A state this table does not know is not an end: ending a living task would lose it.
    return TaskPhase.QUEUED, None
