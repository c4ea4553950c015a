"""Claims: of all processes started for an attempt exactly one runs it.

A claim also names its process for good: pid, start time in clock ticks, boot and pid namespace
together tell a process from a later one that was given the same pid.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, parse_iso, utc_iso
from neurosweep.core.errors import DataError
from neurosweep.core.files import (
    atomic_write_bytes,
    canonical_json,
    create_exclusive,
    read_json,
    sha256_bytes,
)
from neurosweep.core.layout import AttemptDir

JOB_VARIABLE = "NEUROSWEEP_JOB"
_MAX_BYTES = 64 * 1024
_LOOK_S = 2.0
_STATE_FIELD, _START_FIELD = 0, 19  # of /proc/PID/stat, counted after the command's bracket


@dataclass(frozen=True)
class ProcessMark:
    """Name one process on one machine for good.

    Attributes
    ----------
    pid
        Process id.
    start_ticks
        Start of the process in clock ticks since boot; 0 where the system does not tell.
    boot
        Boot id and pid namespace.
    host
        Machine.
    """

    pid: int
    start_ticks: int
    boot: str
    host: str

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """Return the mark of a process of this machine."""
        stat = _stat_fields(pid)
        ticks = int(stat[_START_FIELD]) if stat else 0
        return cls(pid, ticks, _boot(), socket.gethostname())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessMark:
        """Read a mark from JSON data.

        Raises
        ------
        DataError
            When a field is missing or of another type.
        """
        types = {"pid": int, "start_ticks": int, "boot": str, "host": str}
        wrong = [name for name, cls_ in types.items() if type(data.get(name)) is not cls_]
        if wrong or data["pid"] <= 1:
            msg = f"not the mark of a process: {', '.join(wrong) or 'pid'} is missing or wrong"
            raise DataError(msg)
        return cls(data["pid"], data["start_ticks"], data["boot"], data["host"])

    @property
    def local(self) -> bool:
        """Whether the process belongs to this machine's present boot."""
        return self.host == socket.gethostname() and self.boot == _boot()

    def is_alive(self) -> bool:
        """Return whether this very process still runs on this machine.

        A process of another machine or boot counts as dead here, and so does a zombie.
        """
        if not self.local:
            return False
        stat = _stat_fields(self.pid)
        if stat is None:
            return not Path("/proc/self/stat").exists() and _answers(self.pid)
        return stat[_STATE_FIELD] not in "ZX" and int(stat[_START_FIELD]) == self.start_ticks


def _stat_fields(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


@dataclass(frozen=True)
class Claim:
    """Say which process runs an attempt, and for which job of the scheduler.

    Attributes
    ----------
    mark
        The process.
    job
        The executor's name of the job.
    restart
        How often the scheduler has started this job again.
    t
        When, in seconds since 1970.
    node
        What the scheduler calls the machine, which may share its host name with others; empty
        without a scheduler.
    """

    mark: ProcessMark
    job: str
    restart: int
    t: float
    node: str = ""

    @property
    def machine(self) -> str:
        """The machine, as a person knows it."""
        return self.node or self.mark.host

    def to_json(self) -> str:
        """Return the content of ``claim.json``."""
        data = {"v": 1, **asdict(self.mark), "job": self.job, "restart": self.restart}
        node = {"node": self.node} if self.node else {}
        return canonical_json(data | node | {"t": utc_iso(self.t)})


def read_claim(path: Path) -> Claim | None:
    """Return the claim of an attempt, or None when nobody has claimed it.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    if not os.path.lexists(path):
        return None
    data = read_json(path, _MAX_BYTES)
    try:
        job, restart, t = str(data["job"]), int(data["restart"]), parse_iso(str(data["t"]))
        return Claim(ProcessMark.from_dict(data), job, restart, t, str(data.get("node", "")))
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: is not a claim ({error}); the attempt cannot be followed"
        raise DataError(msg) from error


def job_identity(environ: Mapping[str, str]) -> tuple[str, int]:
    """Return the name of the job that this process runs for, and its restart count.

    Parameters
    ----------
    environ
        Environment: the variable of the local executor, else those of SLURM, else the pid.
    """
    own = environ.get(JOB_VARIABLE)
    if own:
        return own, 0
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else environ.get("SLURM_JOB_ID")
    if job:
        count = environ.get("SLURM_RESTART_COUNT", "0")
        return job, int(count) if count.isdigit() else 0
    return f"pid-{os.getpid()}", 0


def take_claim(files: AttemptDir, job: str, restart: int, clock: Clock | None = None) -> bool:
    """Claim an attempt for this process; of all racing processes exactly one gets True.

    A claim can be taken over by a later process of the same job whose first process is over, as
    when a scheduler requeues a job. Each claim is taken over at most once.

    Parameters
    ----------
    files
        The attempt.
    job, restart
        What `job_identity` returns.
    clock
        Source of the claim's time.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    now = (clock or SystemClock()).now()
    node = os.environ.get("SLURMD_NODENAME", "")
    claim = Claim(ProcessMark.of(os.getpid()), job, restart, now, node)
    content = claim.to_json().encode()
    if create_exclusive(files.claim, content):
        return True
    try:
        held = read_claim(files.claim)
    except DataError:
        return False
    if held is None or files.status.exists() or not _may_take_over(held, claim):
        return False
    version = sha256_bytes(held.to_json().encode())[:12]
    if not create_exclusive(files.root / f"claim.{version}.taken", content):
        return False
    atomic_write_bytes(files.claim, content)
    return True


def _may_take_over(held: Claim, new: Claim) -> bool:
    same_job = held.job == new.job and new.restart >= held.restart
    if not same_job or held.mark.is_alive():
        return False
    # On another machine nobody can look: only the scheduler's own restart proves it over.
    return held.mark.host == new.mark.host or new.restart > held.restart


class Fence:
    """Tell a process that its attempt was taken over, as by its own job on another machine.

    Parameters
    ----------
    files
        The attempt, claimed by this process.
    job, restart
        What it was claimed with.
    """

    def __init__(self, files: AttemptDir, job: str, restart: int) -> None:
        self.job = job
        self.restart = restart
        self._path = files.claim
        self._mark = ProcessMark.of(os.getpid())
        self._looked = time.monotonic()

    def lost(self, *, at_once: bool = False) -> bool:
        """Return whether the claim names another process or job; a look every 2 s is enough.

        A claim that is gone or damaged names nobody else, and does not count.
        """
        now = time.monotonic()
        if not at_once and now - self._looked < _LOOK_S:
            return False
        self._looked = now
        try:
            claim = read_claim(self._path)
        except DataError:
            return False
        own = (self._mark, self.job, self.restart)
        return claim is not None and (claim.mark, claim.job, claim.restart) != own
