"""Jobs and tasks as the fake cluster keeps them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from neurosweep.testing.slurm.batch import Submission
from neurosweep.testing.slurm.script import TaskFault

PENDING, RUNNING, SUSPENDED, COMPLETING = "PENDING", "RUNNING", "SUSPENDED", "COMPLETING"
CONFIGURING = "CONFIGURING"
FINAL = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)
WITH_SLOT = frozenset({RUNNING, SUSPENDED, COMPLETING, CONFIGURING})
NEVER = float("inf")


@dataclass(frozen=True)
class Life:
    """Hold what accounting keeps of one start of a task.

    Attributes
    ----------
    state, exit_code, node
        As sacct prints them.
    submit, start, end
        Seconds since 1970; 0 for never. A task that is queued again is submitted again.
    """

    state: str
    exit_code: str = "0:0"
    node: str = ""
    submit: float = 0.0
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Doom:
    """Say what SLURM will say of a task whose process is being ended.

    Attributes
    ----------
    state, exit_code
        The words.
    reason
        Why a task that is queued again waits; empty: it is over.
    wait_s
        How long it waits.
    text
        Line that SLURM adds to the task's output.
    """

    state: str
    exit_code: str = "0:0"
    reason: str = ""
    wait_s: float = 0.0
    text: str = ""


@dataclass
class Task:
    """One task of an array, or a job that is none.

    Attributes
    ----------
    array
        The job it belongs to.
    index
        Its index; None for a job that is no array.
    raw_id
        The id that SLURM gives each task when it starts.
    state, reason, node, exit_code
        As squeue and sacct print them.
    submit, start, end, begin_at
        When it was queued last, started, ended, and may start at the earliest; seconds since 1970.
    restarts
        How often it was started again.
    lives
        Its earlier starts.
    pid
        Process of the present life; 0 while there is none.
    doom
        What is said when its process has ended.
    held, hidden_until, shown
        Why it is held back, empty when it is not; unknown to queries until then; a state shown
        instead of its own.
    """

    array: Array
    index: int | None
    raw_id: int
    state: str = PENDING
    reason: str = "None"
    node: str = ""
    exit_code: str = "0:0"
    submit: float = 0.0
    start: float = 0.0
    end: float = 0.0
    begin_at: float = 0.0
    restarts: int = 0
    lives: list[Life] = field(default_factory=list)
    pid: int = 0
    doom: Doom | None = None
    held: str = ""
    hidden_until: float = 0.0
    shown: str = ""
    struck: set[TaskFault] = field(default_factory=set)

    @property
    def job_id(self) -> str:
        """Id as people write it."""
        number = str(self.array.number)
        return number if self.index is None else f"{number}_{self.index}"

    @property
    def known_state(self) -> str:
        """State as it is shown."""
        return self.shown or self.state

    @property
    def final(self) -> bool:
        """Whether it is over for good."""
        return self.state.split()[0] in FINAL

    @property
    def waits(self) -> bool:
        """Whether it is in the queue."""
        return not self.final and self.state not in WITH_SLOT

    def life(self) -> Life:
        """Return the present start as accounting keeps it."""
        return Life(self.known_state, self.exit_code, self.node, self.submit, self.start, self.end)

    def hidden(self, now: float) -> bool:
        """Return whether queries do not find it."""
        return now < self.hidden_until

    def elapsed(self, now: float) -> float:
        """Return how long the present life has run, seconds."""
        if not self.start:
            return 0.0
        return max((self.end or now) - self.start, 0.0)


@dataclass
class Array:
    """One accepted call of sbatch.

    Attributes
    ----------
    number
        Job id.
    ordinal
        Which submission, from 1.
    what
        What was asked for.
    submit
        When, seconds since 1970.
    throttle
        Tasks that run at a time; 0 for all.
    minutes
        Time limit; None for none.
    after
        Conditions for its start.
    """

    number: int
    ordinal: int
    what: Submission
    submit: float
    throttle: int
    minutes: float | None
    after: list[tuple[str, list[int]]]
    tasks: list[Task] = field(default_factory=list)

    @property
    def partition(self) -> str:
        """Partition it was submitted to; empty for the default one."""
        return self.what.options.get("partition", "")

    @property
    def over(self) -> bool:
        """Whether every task is over."""
        return all(task.final for task in self.tasks)

    def output_of(self, task: Task) -> Path:
        """Return the file that a task prints to."""
        default = "slurm-%j.out" if task.index is None else "slurm-%A_%a.out"
        text = self.what.options.get("output", default)
        words = {
            "%A": str(self.number),
            "%a": str(task.index if task.index is not None else 4294967294),
            "%j": str(task.raw_id),
            "%x": self.what.name,
            "%t": "0",
            "%N": task.node,
            "%%": "%",
        }
        return self.what.cwd / re.sub("%.", lambda mark: words.get(mark[0], mark[0]), text)


def local_time(t: float) -> str:
    """Return a time as SLURM prints it; ``Unknown`` for none."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(t)) if t else "Unknown"
