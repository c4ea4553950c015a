"""Run attempts inside the driver's own process, one a poll: for debuggers, not for trust."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from neurosweep.core.errors import DataError, ExecutorError
from neurosweep.exec.claim import JOB_VARIABLE, read_claim
from neurosweep.exec.endings import ProcessEnd, ended_view
from neurosweep.exec.protocol import (
    Allocation,
    ExecSettings,
    Executor,
    TaskKey,
    TaskPhase,
    TaskSpec,
    TaskView,
    require_folders,
)
from neurosweep.exec.runner import run_attempt
from neurosweep.records.trial import Kind


class InlineExecutor:
    """Run one queued attempt at every poll, in this process.

    The same files are written as elsewhere. Limits that bind a process are not set, and a job
    that kills its process kills the driver.

    Parameters
    ----------
    settings
        Settings of all executors.
    """

    name = "inline"

    def __init__(self, settings: ExecSettings) -> None:
        self._settings = settings
        self._queue: dict[TaskKey, tuple[TaskSpec, str]] = {}
        self._over: dict[TaskKey, TaskView] = {}
        self._count = 0
        self._held = False

    @property
    def allocation(self) -> Allocation:
        """What one attempt holds."""
        return Allocation(self._settings.cores_per_task)

    @property
    def slots(self) -> int:
        """One, or none while it is held."""
        return 0 if self._held else 1

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
            When an attempt has no folder; nothing is queued then.
        """
        require_folders(token, tasks)
        jobs: dict[str, str] = {}
        for task in tasks:
            self._count += 1
            jobs[task.trial] = f"inline-{os.getpid()}-{self._count}"
            self._queue[task.key] = (task, jobs[task.trial])
        return jobs

    def adopt(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Report attempts that were claimed as over: they lived in an earlier driver."""
        jobs: dict[str, str] = {}
        for task in tasks:
            if task.key in self._queue:
                jobs[task.trial] = self._queue[task.key][1]
                continue
            try:
                claim = read_claim(task.files.claim)
                job = claim.job if claim else None
            except DataError:
                job = f"{token}-unknown"
            if job is not None:
                ending = ProcessEnd.of_exit_file(task.files)
                host = socket.gethostname()
                self._over[task.key] = ended_view(task.files, job, ending, None, host)
                jobs[task.trial] = job
        return jobs

    def poll(self) -> Mapping[TaskKey, TaskView]:
        """Run the next attempt to its end, then return what is known of every task."""
        if self._queue and not self._held:
            key = next(iter(self._queue))
            task, job = self._queue.pop(key)
            self._over[key] = self._run(task, job)
        views = {
            key: TaskView(TaskPhase.QUEUED, job_id=job) for key, (_, job) in self._queue.items()
        }
        views |= self._over
        self._over = {}
        return views

    def cancel(self, trial: str, attempt: int, why: Kind) -> None:
        """Take an attempt out of the queue."""
        found = self._queue.pop((trial, attempt), None)
        if found is not None:
            view = TaskView(TaskPhase.ENDED, job_id=found[1], kind_hint=why)
            self._over[(trial, attempt)] = view

    def adjust(self, *, slots: int | None = None, poll_s: float | None = None) -> None:  # noqa: ARG002
        """Run nothing further while there are no slots; there is never more than one."""
        if slots is not None:
            self._held = slots == 0

    def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def _run(self, task: TaskSpec, job: str) -> TaskView:
        with _restored(self._settings.code_root):
            os.environ.update({**task.env, JOB_VARIABLE: job})
            code = run_attempt(task.attempt_dir, isolated=False)
        return ended_view(task.files, job, ProcessEnd(exit_code=code), None, socket.gethostname())


@contextlib.contextmanager
def _restored(code_root: Path | None) -> Iterator[None]:
    """Put back environment, folder, path and random state; import decoders from `code_root`."""
    environ, folder, path = dict(os.environ), Path.cwd(), list(sys.path)
    arguments, state = list(sys.argv), random.getstate()
    if code_root is not None:
        _forget_other_decoders(code_root)
        sys.path.insert(0, str(code_root))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        sys.path[:], sys.argv[:] = path, arguments
        random.setstate(state)


def _forget_other_decoders(code_root: Path) -> None:
    """Drop decoder modules that were imported from another tree."""
    root = sys.modules.get("neurodecode")
    where = getattr(root, "__file__", None)
    if where is None or Path(where).resolve().is_relative_to(code_root.resolve()):
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "neurodecode"]:
        del sys.modules[name]


def create(option: str | None, settings: ExecSettings) -> Executor:
    """Return the executor; it has no options.

    Raises
    ------
    ExecutorError
        When an option is given.
    """
    if option is not None:
        msg = f"inline:{option}: the inline executor has no options; use --on inline"
        raise ExecutorError(msg)
    return InlineExecutor(settings)
