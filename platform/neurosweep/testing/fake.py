"""A cluster and a clock that obey a script: every way an attempt can end, without waiting."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from neurosweep.core.clock import utc_iso
from neurosweep.core.errors import ExecutorError
from neurosweep.core.files import (
    atomic_write_json,
    canonical_json,
    create_exclusive,
    read_json,
    sha256_bytes,
)
from neurosweep.core.layout import Home
from neurosweep.exec.claim import Claim, ProcessMark
from neurosweep.exec.job_api import JobContext
from neurosweep.exec.protocol import Allocation, TaskKey, TaskPhase, TaskSpec, TaskView
from neurosweep.records.trial import Kind
from neurosweep.testing.jobs import instant


class FakeClock:
    """Tell a time that only sleeping moves.

    Parameters
    ----------
    start
        Seconds since 1970; default: now.
    """

    def __init__(self, start: float | None = None) -> None:
        self._start = time.time() if start is None else start
        self.slept = 0.0

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        return self._start + self.slept

    def monotonic(self) -> float:
        """Return the seconds slept."""
        return self.slept

    def sleep(self, seconds: float) -> None:
        """Move the time."""
        self.slept += seconds


class Fate(StrEnum):
    """How a fake job ends."""

    DONE = "done"
    USER_ERROR = "user_error"
    DIVERGED = "diverged"
    WRONG_CODE = "wrong_code"
    FORGED_NODE_FAILURE = "forged_node_failure"
    DAMAGED_STATUS = "damaged_status"
    BROKEN_PREDICTIONS = "broken_predictions"
    CHANGED_PREDICTIONS = "changed_predictions"
    SEGFAULT = "segfault"
    EXIT_CODE = "exit_code"
    VANISH = "vanish"
    FORGOTTEN = "forgotten"
    NEVER_START = "never_start"
    HANG = "hang"
    ENDLESS = "endless"
    UNDEAD = "undead"
    NODE_FAILURE = "node_failure"
    PREEMPTED = "preempted"
    CANCELLED_ADMIN = "cancelled_admin"
    OOM_HOST = "oom_host"
    TIME_LIMIT = "time_limit"


_HINTED = {
    Fate.NODE_FAILURE: Kind.NODE_FAILURE,
    Fate.PREEMPTED: Kind.PREEMPTED,
    Fate.CANCELLED_ADMIN: Kind.CANCELLED_ADMIN,
    Fate.OOM_HOST: Kind.OOM_HOST,
    Fate.TIME_LIMIT: Kind.TIME_LIMIT,
}
_STATUS_KINDS = {
    Fate.USER_ERROR: Kind.USER_ERROR,
    Fate.DIVERGED: Kind.DIVERGED,
    Fate.WRONG_CODE: Kind.WRONG_CODE,
    Fate.FORGED_NODE_FAILURE: Kind.NODE_FAILURE,
}
_FOREVER = (Fate.HANG, Fate.ENDLESS, Fate.UNDEAD)

FateOf = Callable[[str, int], Fate]


def all_good(_trial: str, _attempt: int) -> Fate:
    """Let every attempt end well."""
    return Fate.DONE


@dataclass
class FakeJob:
    """One submission of one attempt."""

    token: str
    task: TaskSpec
    job_id: str
    fate: Fate
    view: TaskView
    started: float | None = None
    beats: int = 0
    known: bool = True


@dataclass
class FakeCluster:
    """Hold jobs that outlive the drivers that submit them.

    Attributes
    ----------
    clock
        Source of time.
    fate_of
        Trial and attempt to the way it ends.
    slots, allowed
        Jobs that run at a time, and how many of them an executor lets run; None for all.
    seconds
        Duration of a job.
    host
        Machine that claims name; default: this one, whose process table can be asked.
    refuse_submit, refuse_poll
        How many more submissions or queries fail.
    """

    clock: FakeClock
    fate_of: FateOf = all_good
    slots: int = 4
    seconds: float = 1.0
    host: str = field(default_factory=socket.gethostname)
    allowed: int | None = None
    refuse_submit: int = 0
    refuse_poll: int = 0
    jobs: list[FakeJob] = field(default_factory=list)
    completions: Counter[str] = field(default_factory=Counter)
    submissions: Counter[TaskKey] = field(default_factory=Counter)

    def add(self, token: str, task: TaskSpec) -> str:
        """Queue a task and return its job id."""
        job_id = f"job{len(self.jobs) + 1}"
        fate = self.fate_of(task.trial, task.attempt)
        view = TaskView(TaskPhase.QUEUED, job_id)
        self.jobs.append(FakeJob(token, task, job_id, fate, view))
        self.submissions[task.key] += 1
        return job_id

    def advance(self) -> None:
        """Start what has a slot and end what has run its time."""
        for job in self.jobs:
            if job.view.phase is TaskPhase.RUNNING:
                self._run(job)
        running = sum(job.view.phase is TaskPhase.RUNNING for job in self.jobs)
        slots = self.slots if self.allowed is None else self.allowed
        for job in self.jobs:
            if job.view.phase is TaskPhase.QUEUED and running < slots:
                running += self._start(job)

    def kill_all(self) -> None:
        """Let every job die and be forgotten, as when a machine goes down with its driver."""
        for job in self.jobs:
            job.known = False
            if job.view.phase in (TaskPhase.QUEUED, TaskPhase.RUNNING):
                job.view = replace(job.view, phase=TaskPhase.GONE)

    def end(self, job: FakeJob, **view: Any) -> None:
        """Let a job be over."""
        job.view = TaskView(TaskPhase.ENDED, job.job_id, host=self.host, **view)

    def _start(self, job: FakeJob) -> bool:
        if job.fate is Fate.NEVER_START:
            self.end(job)
            return False
        mark = ProcessMark(4242, 1, "another-boot", self.host)
        claim = Claim(mark, job.job_id, 0, self.clock.now())
        if not create_exclusive(job.task.files.claim, claim.to_json().encode()):
            self.end(job, exit_code=3)
            return False
        job.started = self.clock.now()
        job.view = TaskView(TaskPhase.RUNNING, job.job_id, host=self.host)
        return True

    def _run(self, job: FakeJob) -> None:
        assert job.started is not None
        if job.fate is Fate.ENDLESS:
            job.beats += 1
            atomic_write_json(job.task.files.heartbeat, {"step": job.beats})
        if job.fate in _FOREVER or self.clock.now() - job.started < self.seconds:
            return
        self._finish(job)

    def _finish(self, job: FakeJob) -> None:
        fate = job.fate
        if fate in _HINTED:
            self.end(job, kind_hint=_HINTED[fate], reason=f"the scheduler says {fate}")
        elif fate is Fate.SEGFAULT:
            self.end(job, signal=11)
        elif fate is Fate.EXIT_CODE:
            self.end(job, exit_code=7)
        elif fate is Fate.VANISH:
            self.end(job)
        elif fate is Fate.FORGOTTEN:
            job.view = TaskView(TaskPhase.GONE, job.job_id)
        else:
            self._leave_files(job)
            self.end(job, exit_code=0)

    def _leave_files(self, job: FakeJob) -> None:
        files, fate = job.task.files, job.fate
        if fate is Fate.DAMAGED_STATUS:
            files.status.write_bytes(b'{"outcome": "do')
            return
        if fate in _STATUS_KINDS:
            error = {"type": "RuntimeError", "text": f"this job ends in {fate}", "traceback": ""}
            status = {"outcome": "failed", "kind": _STATUS_KINDS[fate].value, "error": error}
            atomic_write_json(files.status, self._times(job) | status)
            return
        content = self._predict(job)
        if fate is Fate.BROKEN_PREDICTIONS:
            content = b'{"item": "nobody/nothing/0", "hypothesis": "x"}\n'
        listed = {"predictions.jsonl": sha256_bytes(content)}
        if fate is Fate.CHANGED_PREDICTIONS:
            content += b"\n"
        files.predictions.write_bytes(content)
        files.ckpt.mkdir()
        status = {"outcome": "done", "kind": "none", "files": listed}
        atomic_write_json(files.status, self._times(job) | status)
        self.completions[job.task.trial] += 1

    def _times(self, job: FakeJob) -> dict[str, Any]:
        assert job.started is not None
        times = {"started": utc_iso(job.started), "ended": utc_iso(job.started + self.seconds)}
        return {"v": 1, "trial": job.task.trial, "attempt": job.task.attempt, **times}

    def _predict(self, job: FakeJob) -> bytes:
        trial_dir = job.task.attempt_dir.parents[1]
        run = read_json(trial_dir / "run.json")
        home = Home(trial_dir.parents[3])
        ctx = JobContext(
            attempt_dir=job.task.attempt_dir,
            config=run["config"],
            seed=run["seed"],
            threads=1,
            folds=tuple(home.root / store for store in run["stores"]),
            log=_quiet,
            beat=_quiet,
            should_stop=lambda: False,
            part=run["part"],
        )
        return b"".join(canonical_json(line).encode() + b"\n" for line in instant(ctx))


def _quiet(*_arguments: object, **_named: object) -> None:
    """Report to nobody."""


class FakeExecutor:
    """Be one driver's way to a fake cluster.

    Parameters
    ----------
    cluster
        Where jobs run; several executors, one after another, may share it.
    """

    name = "fake"

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        cluster.allowed = None
        self._mine: list[FakeJob] = []
        self.closed = False

    @property
    def allocation(self) -> Allocation:
        """What one job holds."""
        return Allocation()

    @property
    def slots(self) -> int:
        """How many jobs of the cluster run at a time."""
        allowed = self.cluster.allowed
        return self.cluster.slots if allowed is None else allowed

    @property
    def trouble(self) -> str:
        """Nothing: there is nobody who might not answer."""
        return ""

    @property
    def slots_file(self) -> Path | None:
        """Nothing: slots are not shared with other drivers."""
        return None

    def submit(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Queue tasks.

        Raises
        ------
        ExecutorError
            As often as the script says.
        """
        if self.cluster.refuse_submit:
            self.cluster.refuse_submit -= 1
            msg = "the fake cluster takes no jobs now"
            raise ExecutorError(msg)
        jobs = {task.trial: self.cluster.add(token, task) for task in tasks}
        self._mine += self.cluster.jobs[-len(tasks) :]
        return jobs

    def adopt(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Find the jobs of a token that the cluster still knows."""
        wanted = {task.key for task in tasks}
        found = [
            job
            for job in self.cluster.jobs
            if job.token == token and job.task.key in wanted and job.known
        ]
        self._mine += found
        return {job.task.trial: job.job_id for job in found}

    def poll(self) -> Mapping[TaskKey, TaskView]:
        """Return what is known; an end is reported once.

        Raises
        ------
        ExecutorError
            As often as the script says.
        """
        if self.cluster.refuse_poll:
            self.cluster.refuse_poll -= 1
            msg = "the fake cluster does not answer"
            raise ExecutorError(msg)
        self.cluster.advance()
        views = {job.task.key: job.view for job in self._mine}
        over = (TaskPhase.ENDED, TaskPhase.GONE)
        self._mine = [job for job in self._mine if job.view.phase not in over]
        return views

    def cancel(self, trial: str, attempt: int, why: Kind) -> None:
        """End a job, unless its fate is not to die."""
        for job in self.cluster.jobs:
            alive = job.view.phase in (TaskPhase.QUEUED, TaskPhase.RUNNING)
            if job.task.key == (trial, attempt) and alive and job.fate is not Fate.UNDEAD:
                self.cluster.end(job, kind_hint=why)

    def adjust(self, *, slots: int | None = None, poll_s: float | None = None) -> None:  # noqa: ARG002
        """Change how many jobs of the cluster run at a time."""
        if slots is not None:
            self.cluster.allowed = slots

    def close(self) -> None:
        """Let go of the cluster; jobs go on."""
        self.closed = True
