"""What SLURM says of tasks: its commands, its rows, and what each of its states means."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from neurosweep.core.errors import ExecutorError, UnreachableError
from neurosweep.exec.protocol import TaskPhase, TaskView
from neurosweep.records.trial import Kind

QUERY_TIMEOUT_S = 30.0
_AWAY = re.compile(
    r"unable to contact|timed out|connection refused|communication connection failure"
    r"|temporarily|zero bytes were transmitted|connection reset|cannot connect"
    r"|failed to open persistent connection|in standby|invalid protocol version",
    re.IGNORECASE,
)
# What a job of SLURM inherits from the job that its driver runs in, and what a person's own
# settings would change in the output of a query. SLURM_CLUSTERS too: sacct does not obey it.
_FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_", "SALLOC_")
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
# Of an attempt, not of the driver: a driver may itself run inside an attempt.
_OF_ATTEMPTS = frozenset(
    {"NEUROSWEEP_JOB", "NEUROSWEEP_REQUEUE", "NEUROSWEEP_TASK_S", "NEUROSWEEP_THREADS"}
)
_QUEUE_FORMAT = "%i|%j|%T|%N|%r|%M"
_ACCOUNTING_COLUMNS = "JobID,JobName,State,ExitCode,NodeList,ElapsedRaw,Submit"
_RANGE = re.compile(r"^(\d+)_\[([\d,\-]+)(?::\d+)?(?:%\d+)?\]$")
_HOST = re.compile(r"^(?!None)[\w.-]+$")  # squeue and sacct have words for none
_MAX_RANGE = 100_000

# Waits, stands still, or is started again: the scheduler still has it, and no progress is due.
QUEUED = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "POWER_UP_NODE",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
        "STOPPED",
        "SUSPENDED",
    }
)
# Holds cores. COMPLETING is over for the job, not yet for the scheduler.
RUNNING = frozenset(
    {
        "RUNNING",
        "COMPLETING",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "UPDATE_DB",
        "EXPEDITING",
    }
)
ENDED: Mapping[str, Kind | None] = {
    "COMPLETED": None,
    "FAILED": None,
    "TIMEOUT": Kind.TIME_LIMIT,
    "DEADLINE": Kind.TIME_LIMIT,
    "OUT_OF_MEMORY": Kind.OOM_HOST,
    "NODE_FAIL": Kind.NODE_FAILURE,
    "BOOT_FAIL": Kind.NODE_FAILURE,
    "LAUNCH_FAILED": Kind.NODE_FAILURE,
    "RECONFIG_FAIL": Kind.NODE_FAILURE,
    "PREEMPTED": Kind.PREEMPTED,
    "CANCELLED": Kind.CANCELLED_USER,
    "REVOKED": Kind.CANCELLED_ADMIN,
}
# The end of one life; with requeue another may follow.
MAY_RETURN = frozenset({"NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "PREEMPTED", "REQUEUED"})
# Reasons for which a task waits until a person changes something.
HOPELESS = frozenset(
    {
        "AccountNotAllowed",
        "AssocMaxCpuPerJobLimit",
        "AssocMaxMemPerJob",
        "AssocMaxWallDurationPerJobLimit",
        "BadConstraints",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSMaxCpuPerJobLimit",
        "QOSMaxGRESPerJob",
        "QOSMaxMemoryPerJob",
        "QOSMaxWallDurationPerJobLimit",
        "QOSNotAllowed",
        "QOSTimeLimit",
    }
)
# Reasons for which a task waits until an administrator does something.
WAITS_FOR_A_PERSON = frozenset(
    {"DependencyNeverSatisfied", "JobHeldAdmin", "PartitionDown", "PartitionInactive"}
)
# Waits for a person to release it.
STUCK = frozenset({"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
# squeue shows the same as PENDING, with one of these reasons.
STUCK_REASONS = frozenset(
    {"launch failed requeued held", "job requeued in held state", "JobHoldMaxRequeue"}
)


@dataclass(frozen=True)
class SlurmRow:
    """Hold one line of squeue or sacct.

    Attributes
    ----------
    job_id
        ``1234_5`` for a task of an array, ``1234`` for a single job.
    name
        Job name: the intent token and the number of the part.
    state
        As printed, for example ``CANCELLED by 1001``.
    exit_code
        ``code:signal``, empty from squeue.
    host, reason
        Node and SLURM's reason.
    elapsed_s
        Seconds for which it has held, or held, its cores; over all its lives, if accounting
        told. None when unknown.
    restarts
        How often it was started again, if accounting told.
    """

    job_id: str
    name: str
    state: str
    exit_code: str = ""
    host: str = ""
    reason: str = ""
    elapsed_s: float | None = None
    restarts: int = 0

    @property
    def word(self) -> str:
        """The state without what follows it: ``CANCELLED by 0`` is ``CANCELLED``."""
        return self.state.split()[0].rstrip("+") if self.state.strip() else "UNKNOWN"


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which SLURM's commands do what their arguments say.

    A driver that runs inside a job of SLURM has that job's variables; sbatch and squeue would
    obey them.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or not (name.startswith(_FOREIGN) or name in _OF_ATTEMPTS)
    }
    return kept | {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}


def run_slurm(command: list[str], timeout_s: float = QUERY_TIMEOUT_S) -> str:
    """Run a SLURM command and return what it printed.

    Raises
    ------
    UnreachableError
        When the controller or the database does not answer, or not in time.
    ExecutorError
        When the command is absent or fails otherwise. A failed query says nothing about the jobs.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env=clean_environ(os.environ),
        )
    except FileNotFoundError as error:
        msg = f"{command[0]} is not installed here; run `neurosweep doctor`, or use --on local"
        raise ExecutorError(msg) from error
    except subprocess.TimeoutExpired as error:
        msg = f"{command[0]} did not answer within {timeout_s:g} s"
        raise UnreachableError(msg) from error
    except OSError as error:
        msg = f"{command[0]} could not be started: {error}"
        raise ExecutorError(msg) from error
    if done.returncode != 0:
        msg = f"{' '.join(command[:2])} failed ({done.returncode}): {done.stderr.strip()[:500]}"
        raise (UnreachableError if _AWAY.search(done.stderr) else ExecutorError)(msg)
    return done.stdout


def lacks_accounting(error: ExecutorError) -> bool:
    """Return whether sacct failed because this cluster keeps no accounts: it never will answer."""
    return any(text in str(error) for text in ("disabled", "sacct is not installed"))


def queue_rows(names: Iterable[str], *, ended_too: bool = False) -> dict[str, SlurmRow]:
    """Return what squeue knows of jobs with these names, by job id.

    Parameters
    ----------
    names
        Job names.
    ended_too
        Whether to ask for those also that ended a short while ago: what the controller still
        remembers, where accounting does not answer.
    """
    wanted = set(names)
    states = ["-t", "all"] if ended_too else []
    # Filtered by the controller; by name it sends the jobs of everybody. Root counts as nobody.
    uid = os.getuid()
    own = ["-u", str(uid)] if uid else []
    command = ["squeue", "-h", "-r", *own, *states, "-o", _QUEUE_FORMAT]
    output = run_slurm([*command, f"--name={','.join(sorted(wanted))}"])
    rows = {}
    for job_id, name, state, host, reason, used in _fields(output, 6):
        if name in wanted:
            elapsed = elapsed_seconds(used)
            rows[job_id] = SlurmRow(
                job_id, name, state, host=host, reason=reason, elapsed_s=elapsed
            )
    return rows


def accounting_rows(
    names: Iterable[str], since: str, arrays: Iterable[str] = ()
) -> dict[str, SlurmRow]:
    """Return what sacct knows of jobs with these names, by job id.

    Parameters
    ----------
    names
        Job names; what has another name is somebody else's: job ids are used again.
    since
        Earliest time, ``YYYY-MM-DDTHH:MM:SS`` local time, for the same reason.
    arrays
        Ids to ask for instead of the names: that is cheaper for the database.
    """
    wanted, ids = set(names), sorted(set(arrays))
    chosen = f"--jobs={','.join(ids)}" if ids else f"--name={','.join(sorted(wanted))}"
    command = ["sacct", "-X", "-D", "-P", "-n", "-S", since, "-o", _ACCOUNTING_COLUMNS, chosen]
    lives: dict[str, list[tuple[str, SlurmRow]]] = {}
    ranges: dict[str, SlurmRow] = {}
    for job_id, name, state, code, host, elapsed, submitted in _fields(run_slurm(command), 7):
        if name not in wanted:
            continue
        held = float(elapsed) if elapsed.isdigit() else None
        row = SlurmRow(job_id, name, state, exit_code=code, host=host, elapsed_s=held)
        if "[" in job_id:
            ranges |= {one: replace(row, job_id=one) for one in _expand(job_id)}
        else:
            lives.setdefault(job_id, []).append((submitted, row))
    return {**ranges, **{job_id: _together(rows) for job_id, rows in lives.items()}}


def _fields(output: str, number: int) -> Iterator[list[str]]:
    """Yield the lines that are whole; what was cut off or is a warning is left out."""
    for line in output.splitlines():
        fields = line.split("|")
        if len(fields) == number and fields[0][:1].isdigit():
            yield fields


def _together(lives: list[tuple[str, SlurmRow]]) -> SlurmRow:
    """Return the last life of a job with the time and the number of all of them."""
    lives.sort(key=lambda life: life[0])
    known = [row.elapsed_s for _, row in lives if row.elapsed_s is not None]
    last = lives[-1][1]
    return replace(last, elapsed_s=sum(known) if known else None, restarts=len(lives) - 1)


def _expand(job_id: str) -> list[str]:
    """Return the tasks that a range stands for; those that never started share one line."""
    match = _RANGE.match(job_id)
    if match is None:
        return []
    tasks: list[str] = []
    for part in match[2].split(","):
        low, _, high = part.partition("-")
        if low.isdigit() and (high or low).isdigit():
            stop = min(int(high or low), int(low) + _MAX_RANGE)
            tasks += [f"{match[1]}_{number}" for number in range(int(low), stop + 1)]
    return tasks


def elapsed_seconds(text: str) -> float | None:
    """Return the seconds of ``[days-][hours:]minutes:seconds``, or None for anything else."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not 2 <= len(parts) <= 3 or not all(p.isdigit() for p in parts) or not f"{days}0".isdigit():
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return float(seconds + 86400 * int(days or 0))


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
    phase, hint = _phase_of(row, own_uid)
    over = phase is TaskPhase.ENDED
    code, _, signal = row.exit_code.partition(":")
    number = int(signal) if over and signal.isdigit() else None
    return TaskView(
        phase,
        job_id=row.job_id,
        reason=_in_words(row, number) if over else f"{row.state} {row.reason}".strip(),
        # SLURM prints code 0 for what a signal ended.
        exit_code=int(code) if over and code.isdigit() and not number else None,
        signal=number,
        kind_hint=hint,
        host=row.host,
        held_s=row.elapsed_s if over else None,
        restarts=row.restarts,
    )


def _in_words(row: SlurmRow, signal: int | None) -> str:
    """Return all that SLURM knows of a task that is over."""
    code = row.exit_code.partition(":")[0]
    text = "SLURM: " + row.state.replace(" by ", " by uid ")
    if signal:
        text += f", killed by signal {signal}"
    elif code.isdigit() and int(code):
        text += f", exit code {int(code)}"
    return text + (f" on {row.host}" if _HOST.match(row.host) else "")


def _phase_of(row: SlurmRow, own_uid: int) -> tuple[TaskPhase, Kind | None]:
    if row.word in RUNNING:
        return TaskPhase.RUNNING, None
    if row.word not in ENDED:
        # A state this table does not know is not an end: ending a living task would lose it.
        return TaskPhase.QUEUED, None
    by = row.state.rpartition(" ")[2]
    if row.word == "CANCELLED" and by.isdigit() and int(by) != own_uid:
        return TaskPhase.ENDED, Kind.CANCELLED_ADMIN
    return TaskPhase.ENDED, ENDED[row.word]
