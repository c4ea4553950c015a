"""Run attempts on this machine: a bounded queue with a warm start, limits, and adoption."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.errors import DataError, ExecutorError
from neurosweep.core.files import read_json
from neurosweep.exec.claim import ProcessMark, read_claim
from neurosweep.exec.endings import ProcessEnd, ended_view
from neurosweep.exec.heartbeat import is_stalled, read_heartbeat
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
from neurosweep.exec.resources import default_workers
from neurosweep.exec.status import EXIT_CLAIMED
from neurosweep.exec.warm_client import WarmServer
from neurosweep.exec.warm_server import registry_file
from neurosweep.records.trial import Kind

logger = logging.getLogger(__name__)

GRACE_S = 15.0
_MAX_SERVER_DEATHS = 3
_SILENCE_S = 120.0
_MAX_BYTES = 64 * 1024


@dataclass
class _Task:
    """Follow one attempt.

    `mark` is the process, once known; `ours` tells children of the present server from processes
    that are only watched; `trusted` whether the process was noted by a server, so that it may be
    killed.
    """

    spec: TaskSpec
    job: str
    mark: ProcessMark | None = None
    started: float | None = None
    ours: bool = True
    trusted: bool = True
    why: Kind | None = None
    kill_at: float | None = None
    ending: ProcessEnd | None = None

    @property
    def running(self) -> bool:
        return self.started is not None and self.ending is None


class LocalExecutor:
    """Run attempts on this machine, some at a time, each in a process of its own.

    Parameters
    ----------
    settings
        Settings of all executors.
    grace_s
        Seconds between asking an attempt to stop and ending its process.
    clock
        Source of times.
    """

    name = "local"

    def __init__(
        self, settings: ExecSettings, grace_s: float = GRACE_S, clock: Clock | None = None
    ) -> None:
        self.workers = settings.workers or default_workers(settings.cores_per_task)
        self._settings = settings
        self._folder = settings.study_dir / "local"
        self._grace_s = grace_s
        self._clock = clock or SystemClock()
        self._tasks: dict[TaskKey, _Task] = {}
        self._server: WarmServer | None = None
        self._slots = 0
        self._deaths = 0
        self._told_cold = False

    @property
    def server_pid(self) -> int | None:
        """Process id of the fork server, once there is one."""
        return None if self._server is None else self._server.pid

    @property
    def allocation(self) -> Allocation:
        """What one attempt holds."""
        return Allocation(self._settings.cores_per_task)

    @property
    def slots(self) -> int:
        """How many attempts run at a time."""
        return self.workers

    @property
    def trouble(self) -> str:
        """Nothing: there is nobody who might not answer."""
        return ""

    @property
    def slots_file(self) -> Path | None:
        """Nothing: slots are not shared with other drivers."""
        return None

    def submit(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Queue tasks; each starts as soon as one of the workers is free.

        Parameters
        ----------
        token
            Intent token; every job id is new, so that a second submission under the same token
            meets the claim of the first.
        tasks
            Attempts, whose folders exist.

        Raises
        ------
        ExecutorError
            When an attempt has no folder; nothing is queued then.
        """
        require_folders(token, tasks)
        self._ensure_server()
        jobs: dict[str, str] = {}
        for spec in tasks:
            task = _Task(spec, f"local-{uuid.uuid4().hex[:12]}")
            self._tasks[spec.key] = task
            self._start(task)
            jobs[spec.trial] = task.job
        return jobs

    def adopt(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Find attempts again that an earlier driver started, running or over.

        An attempt that nobody claimed is left out: submitted again, it starts once, whatever an
        earlier process of it still does.
        """
        jobs: dict[str, str] = {}
        for spec in tasks:
            task = self._tasks.get(spec.key) or self._find(spec)
            if task is not None:
                self._tasks[spec.key] = task
                jobs[spec.trial] = task.job
        logger.info("%s: found %d of %d attempts again", token, len(jobs), len(tasks))
        self._update_slots()
        return jobs

    def poll(self) -> Mapping[TaskKey, TaskView]:
        """Hear from the workers, enforce limits, and return what is known of every task.

        Raises
        ------
        ExecutorError
            When the fork server dies again and again.
        """
        self._hear()
        for task in self._tasks.values():
            self._watch(task)
        self._update_slots()
        views = {key: self._view(task) for key, task in self._tasks.items()}
        for key in [key for key, task in self._tasks.items() if task.ending is not None]:
            registry_file(self._folder, self._tasks.pop(key).job).unlink(missing_ok=True)
        return views

    def cancel(self, trial: str, attempt: int, why: Kind) -> None:
        """Ask an attempt to stop, and end its process after a grace period."""
        task = self._tasks.get((trial, attempt))
        if task is not None and task.ending is None:
            self._stop(task, why)

    def adjust(self, *, slots: int | None = None, poll_s: float | None = None) -> None:  # noqa: ARG002
        """Change the number of workers; `poll_s` means nothing here."""
        if slots is not None:
            self.workers = slots
            self._update_slots()

    def close(self) -> None:
        """End the fork server: queued attempts are forgotten, running ones go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _ensure_server(self) -> None:
        if self._server is None:
            self._slots = self._free_slots()
            self._server = WarmServer(
                self._folder, self._slots, self._settings.warm, self._settings.code_root
            )

    def _start(self, task: _Task) -> None:
        assert self._server is not None
        spec = task.spec
        self._server.send(
            "start",
            job=task.job,
            trial=spec.trial,
            attempt=spec.attempt,
            attempt_dir=str(spec.attempt_dir),
            env=dict(spec.env),
        )

    def _free_slots(self) -> int:
        watched = sum(task.running and not task.ours for task in self._tasks.values())
        return max(0, self.workers - watched)

    def _update_slots(self) -> None:
        free = self._free_slots()
        if self._server is not None and free != self._slots:
            self._slots = free
            self._server.send("slots", number=free)

    def _hear(self) -> None:
        if self._server is None:
            return
        by_job = {task.job: task for task in self._tasks.values()}
        for event in self._server.events():
            self._take(event, by_job.get(str(event.get("job"))))
        if self._server.over:
            self._replace_server()

    def _take(self, event: Mapping[str, Any], task: _Task | None) -> None:
        kind = event["event"]
        if kind == "ready":
            for name, text in event["failed"].items():
                logger.warning("warm start: %s cannot be imported (%s)", name, text)
        elif task is None:
            return
        elif kind == "started":
            task.mark, task.started = ProcessMark.from_dict(event), float(event["t"])
            self._deaths = 0
            self._tell_cold(str(event["cold"]))
            if task.why is not None:
                self._stop(task, task.why)
        elif kind == "dropped":
            task.ending = ProcessEnd(reason="ended before it started")
        elif kind == "ended":
            self._take_end(task, ProcessEnd.from_dict(event))

    def _tell_cold(self, why: str) -> None:
        if why and not self._told_cold:
            self._told_cold = True
            logger.warning("attempts start cold, each with its own imports: %s", why)

    def _take_end(self, task: _Task, ending: ProcessEnd) -> None:
        found = self._find(task.spec) if ending.exit_code == EXIT_CLAIMED else None
        if found is None:
            task.ending = ending
            return
        # An earlier process holds the claim: that one is followed from here on.
        task.mark, task.started, task.ours = found.mark, found.started, False
        task.trusted, task.ending = found.trusted, found.ending

    def _replace_server(self) -> None:
        """Go on after the fork server died: its children are watched, its queue is queued anew."""
        assert self._server is not None
        tail = self._server.log_tail()
        self._server.close()
        self._server = None
        self._deaths += 1
        if self._deaths >= _MAX_SERVER_DEATHS:
            msg = f"the fork server died {self._deaths} times in a row; the end of its log:\n{tail}"
            raise ExecutorError(msg)
        logger.warning("the fork server died and is started again; the end of its log:\n%s", tail)
        queued = []
        for task in self._tasks.values():
            if task.running:
                task.ours = False
            elif task.ending is None:
                queued.append(task)
        self._ensure_server()
        for task in queued:
            self._start(task)

    def _watch(self, task: _Task) -> None:
        if not task.running:
            return
        assert task.started is not None
        if not task.ours and self._is_over(task):
            task.ending = ProcessEnd.of_exit_file(task.spec.files)
            return
        now = self._clock.now()
        if task.why is None and now - task.started > task.spec.timeout_s:
            self._stop(task, Kind.TIME_LIMIT)
        if task.kill_at is not None and now > task.kill_at:
            task.kill_at = None
            self._signal(task, signal.SIGKILL)

    def _is_over(self, task: _Task) -> bool:
        """Return whether a watched process is over; one of another machine is by its silence."""
        mark = task.mark
        if mark is None or mark.host == socket.gethostname():
            return mark is None or not mark.is_alive()
        files = task.spec.files
        if files.status.is_file():
            return True
        beat = {"t": (read_heartbeat(files.heartbeat) or {}).get("t")}
        return is_stalled(beat, self._clock.now(), _SILENCE_S)

    def _stop(self, task: _Task, why: Kind) -> None:
        task.why = task.why or why
        if task.kill_at is None:
            task.kill_at = self._clock.now() + self._grace_s
            self._signal(task, signal.SIGTERM)

    def _signal(self, task: _Task, number: int) -> None:
        if task.ours:
            if self._server is not None:
                self._server.send("kill", job=task.job, signal=int(number))
        elif self._trusts(task) and task.mark is not None and task.mark.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(task.mark.pid, number)

    def _trusts(self, task: _Task) -> bool:
        """Return whether a server noted the task's process: only such a process is signalled."""
        if not task.trusted:
            # An earlier driver's server may have written its note after the claim was found.
            noted = _noted_mark(registry_file(self._folder, task.job), task.job, task.spec)
            task.mark, task.trusted = noted or task.mark, noted is not None
        return task.trusted

    def _view(self, task: _Task) -> TaskView:
        host = task.mark.host if task.mark else socket.gethostname()
        if task.ending is not None:
            return ended_view(task.spec.files, task.job, task.ending, task.why, host)
        phase = TaskPhase.RUNNING if task.running else TaskPhase.QUEUED
        return TaskView(phase, job_id=task.job, host=host if task.running else "")

    def _find(self, spec: TaskSpec) -> _Task | None:
        """Return the task of an attempt that some process has claimed, else None."""
        try:
            claim = read_claim(spec.files.claim)
        except DataError as error:
            logger.warning("%s", error)
            return _Task(spec, "unknown", ending=ProcessEnd.of_exit_file(spec.files))
        if claim is None:
            return None
        noted = _noted_mark(registry_file(self._folder, claim.job), claim.job, spec)
        mark = noted or claim.mark
        task = _Task(spec, claim.job, mark, claim.t, ours=False, trusted=noted is not None)
        if spec.files.status.is_file() and mark.local and not mark.is_alive():
            task.ending = ProcessEnd.of_exit_file(spec.files)
        return task


def _noted_mark(path: Path, job: str, spec: TaskSpec) -> ProcessMark | None:
    """Return the process that a server noted for a job, if it is that of this attempt."""
    if Path(job).name != job:
        return None
    try:
        note = read_json(path, _MAX_BYTES)
        mark = ProcessMark.from_dict(note)
    except (DataError, AttributeError):
        return None
    same = (note.get("trial"), note.get("attempt"), note.get("job")) == (*spec.key, job)
    return mark if same else None


def create(option: str | None, settings: ExecSettings) -> Executor:
    """Return the executor; the option, if any, is the number of workers.

    Raises
    ------
    ExecutorError
        When the option is not a number above 0.
    """
    if option is None:
        return LocalExecutor(settings)
    if not option.isdigit() or int(option) < 1:
        msg = f"local:{option}: expected a number of workers above 0, for example local:4"
        raise ExecutorError(msg)
    return LocalExecutor(replace(settings, workers=int(option)))
