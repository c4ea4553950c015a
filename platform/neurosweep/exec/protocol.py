"""The contract between the research loop and whatever runs attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from neurosweep.core.errors import ExecutorError
from neurosweep.core.layout import AttemptDir
from neurosweep.records.trial import Kind

TaskKey = tuple[str, int]


class TaskPhase(StrEnum):
    """Where the executor says a task stands."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"


@dataclass(frozen=True)
class TaskSpec:
    """Describe one attempt to be run.

    Attributes
    ----------
    trial, attempt
        Which attempt.
    attempt_dir
        Its folder; ``../../run.json`` says what to run.
    cores
        Cores, and threads, it gets.
    memory_mb
        Limit in MB, or None.
    timeout_s
        Limit from its start, in seconds.
    env
        Variables that decide which code it imports.
    """

    trial: str
    attempt: int
    attempt_dir: Path
    cores: int
    memory_mb: int | None
    timeout_s: float
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> TaskKey:
        """Trial and attempt."""
        return (self.trial, self.attempt)

    @property
    def files(self) -> AttemptDir:
        """Names of the attempt's files."""
        return AttemptDir(self.attempt_dir)


@dataclass(frozen=True)
class TaskView:
    """Say what an executor knows of a task.

    Attributes
    ----------
    phase
        ``ended``: the process is over, look at status.json; ``gone``: nothing is known of it.
    job_id
        The executor's own name of it.
    reason
        What a person should know, for example a scheduler's reason.
    exit_code, signal
        How the process ended, when known.
    kind_hint
        Why it ended, when the executor knows better than the job (a limit it enforced).
    host
        Machine.
    held_s
        Seconds for which the scheduler counts the task's cores and GPUs, when it says so.
    restarts
        How often the scheduler started it again.
    """

    phase: TaskPhase
    job_id: str = ""
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    kind_hint: Kind | None = None
    host: str = ""
    held_s: float | None = None
    restarts: int = 0


@dataclass(frozen=True)
class Allocation:
    """Say what one task holds.

    Attributes
    ----------
    cores, gpus
        Of one task.
    """

    cores: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class ExecSettings:
    """Hold what an executor is created with.

    Attributes
    ----------
    study_dir
        Folder of the study, for scheduler logs and the like.
    code_root
        Source root of the decoders that jobs import; None for the installed ones.
    workers
        Attempts at a time; None for as many as the machine has cores.
    cores_per_task
        Cores of one attempt.
    memory_mb
        Limit of one attempt in MB, or None.
    warm
        Modules that a warm worker imports before it starts attempts.
    pool
        Objects that the executors of one driver process share, by a name of their own: one
        query of the scheduler for all of them.
    """

    study_dir: Path
    code_root: Path | None = None
    workers: int | None = None
    cores_per_task: int = 1
    memory_mb: int | None = None
    warm: tuple[str, ...] = ()
    pool: dict[str, object] = field(default_factory=dict)


def require_folders(token: str, tasks: Sequence[TaskSpec]) -> None:
    """Refuse a submission whose attempts cannot write anywhere.

    Raises
    ------
    ExecutorError
        When an attempt has no folder.
    """
    missing = [str(task.attempt_dir) for task in tasks if not task.attempt_dir.is_dir()]
    if missing:
        msg = f"{token}: {len(missing)} attempts have no folder, for example {missing[0]}"
        raise ExecutorError(msg)


class Executor(Protocol):
    """Run attempts. A module of ``exec/executors`` offers ``create(option, settings)``."""

    name: str

    @property
    def allocation(self) -> Allocation:
        """What one task holds."""
        ...

    @property
    def slots(self) -> int:
        """How many attempts run at a time."""
        ...

    @property
    def trouble(self) -> str:
        """Why the executor cannot say how its tasks stand now; empty when it can."""
        ...

    @property
    def slots_file(self) -> Path | None:
        """File in which the slots are shared with other drivers; None for none."""
        ...

    def submit(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Queue tasks under an intent token; return trial to job id.

        Raises
        ------
        UnreachableError
            When there is no answer.
        ExecutorError
            When tasks are refused. In both cases some may have been queued: `adopt` finds them,
            and whoever tries again asks it first.
        """
        ...

    def adopt(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Find tasks of a token again after a restart; those not returned never started.

        Raises
        ------
        ExecutorError
            When that cannot be told now.
        """
        ...

    def poll(self) -> Mapping[TaskKey, TaskView]:
        """Return what is known of every task submitted or adopted and not yet reported ended."""
        ...

    def cancel(self, trial: str, attempt: int, why: Kind) -> None:
        """End a task; its view then carries `why` as its hint."""
        ...

    def adjust(self, *, slots: int | None = None, poll_s: float | None = None) -> None:
        """Change, while tasks run, how many run at a time and how often they are looked at.

        Parameters
        ----------
        slots
            Attempts at a time from now on; 0 starts no further one. What runs goes on.
        poll_s
            Shortest time between two queries, seconds, where the executor queries.
        """
        ...

    def close(self) -> None:
        """Let go of the executor's resources; running attempts go on."""
        ...
