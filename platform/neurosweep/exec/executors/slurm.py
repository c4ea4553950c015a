"""SLURM: a round is one array, submitted through submitit and watched by one query a tick."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurosweep.core.errors import ExecutorError, MissingPackageError, UnreachableError
from neurosweep.exec.profiles import Profile, load_profile
from neurosweep.exec.protocol import (
    Allocation,
    ExecSettings,
    TaskKey,
    TaskPhase,
    TaskSpec,
    TaskView,
    require_folders,
)
from neurosweep.exec.slurm_adopt import find_jobs
from neurosweep.exec.slurm_judge import explained, finished_view, held_up, judge
from neurosweep.exec.slurm_parts import Part, PartBook
from neurosweep.exec.slurm_state import STUCK, STUCK_REASONS, run_slurm
from neurosweep.exec.slurm_throttle import HARMLESS, Load, Throttle
from neurosweep.exec.slurm_watch import POOL_KEY, SlurmWatch
from neurosweep.records.trial import Kind

logger = logging.getLogger(__name__)

# Pause between two looks at the files of running tasks, in seconds, at the least: an end is
# noticed without asking the scheduler.
_FILES_S = 1.0
# A task that waits to be released by hand is given up after this long, in seconds.
_STUCK_S = 300.0
_OVER = (TaskPhase.ENDED, TaskPhase.GONE)


def create(option: str | None, settings: ExecSettings) -> SlurmExecutor:
    """Return an executor for the cluster that a profile describes.

    Parameters
    ----------
    option
        Name or path of the profile.
    settings
        Where the study lies and how many attempts run at a time.

    Raises
    ------
    ConfigError
        When the profile cannot be found or holds problems.
    """
    return SlurmExecutor(load_profile(option), settings)


@dataclass
class _Task:
    """One task that has not been reported as over."""

    spec: TaskSpec
    job_id: str
    name: str
    view: TaskView
    adopted: bool = False
    why: Kind | None = None
    came_back: bool = False
    held_up: str = ""
    stuck_since: float = math.inf

    @property
    def array(self) -> str:
        return self.job_id.partition("_")[0]


class SlurmExecutor:
    """Submit attempts as arrays and translate what SLURM says of them.

    Parameters
    ----------
    profile
        The cluster.
    settings
        The study.
    """

    name = "slurm"

    def __init__(self, profile: Profile, settings: ExecSettings) -> None:
        self._profile = profile
        self._root = settings.study_dir / "slurm"
        self._book = PartBook(self._root)
        self._poll_s = profile.poll_s
        self._throttle = Throttle(min(settings.workers or profile.throttle, profile.throttle))
        watch = settings.pool.setdefault(POOL_KEY, SlurmWatch())
        assert isinstance(watch, SlurmWatch)
        self._watch = watch
        self._tasks: dict[TaskKey, _Task] = {}
        self._doomed: dict[str, TaskKey] = {}
        self._warned: set[str] = set()
        self._looks = 0
        self._settled = True
        self._files_at = -math.inf
        self._cancel_at = -math.inf

    @property
    def allocation(self) -> Allocation:
        """What one task holds."""
        return Allocation(self._profile.cores, self._profile.gpus)

    @property
    def slots(self) -> int:
        """How many tasks run at a time."""
        return self._throttle.slots

    @property
    def slots_file(self) -> Path | None:
        """File in which several drivers share the slots."""
        path = self._profile.slots_file
        return None if path is None else Path(path).expanduser()

    @property
    def trouble(self) -> str:
        """Why SLURM cannot be asked now, or why nothing will start; empty while all is well."""
        if self._watch.trouble:
            return self._watch.trouble
        tasks = self._tasks.values()
        if any(task.view.phase is TaskPhase.RUNNING for task in tasks):
            return ""
        return next((task.held_up for task in tasks if task.held_up), "")

    @property
    def watch(self) -> SlurmWatch:
        """What asks SLURM, for all executors of this process; it counts the queries."""
        return self._watch

    def submit(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Submit one array, or several when the round is larger than an array may be.

        Raises
        ------
        ExecutorError
            When sbatch refuses or does not answer. Arrays before it, and even the one itself, may
            have been queued: `adopt` finds them.
        ConfigError
            When the profile cannot run these tasks.
        """
        require_folders(token, tasks)
        import neurosweep.exec.runner  # noqa: F401 - tasks then find its bytecode on disk

        jobs: dict[str, str] = {}
        size = self._profile.max_array
        for first in range(0, len(tasks), size):
            chunk = tasks[first : first + size]
            level = self._throttle.start_level(len(chunk), self._loads())
            part = self._book.take(token, chunk)
            since = time.time()
            array = self._sbatch(part, chunk, level)
            self._throttle.note(array, level, held=level == 0)
            for index, task in enumerate(chunk):
                jobs[task.trial] = f"{array}_{index}"
                self._register(task, part.name, jobs[task.trial], since)
        self._settled = False
        return jobs

    def adopt(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Find the arrays of a token again by their names.

        Raises
        ------
        ExecutorError
            When SLURM cannot be asked: not knowing is not the same as not there.
        """
        found = find_jobs(self._root, token, tasks, self._book.refused)
        self._watch.count(2 if found else 0)
        jobs: dict[str, str] = {}
        for task in tasks:
            if (adopted := found.get(task.key)) is not None:
                jobs[task.trial] = adopted.job_id
                self._book.close(adopted.name)
                if task.key not in self._tasks or self._tasks[task.key].job_id != adopted.job_id:
                    self._throttle.note(adopted.array, None, held=adopted.held)
                    self._register(task, adopted.name, adopted.job_id, adopted.since)
                    self._tasks[task.key].adopted = True
        self._settled = False
        return jobs

    def poll(self) -> Mapping[TaskKey, TaskView]:
        """Report all open tasks; ask SLURM at most once every `poll_s` seconds.

        A query that fails changes nothing: the last known views are returned.
        """
        self._cancel_doomed()
        self._watch.look(self._poll_s)
        now = self._watch.now()
        fresh = self._watch.looks != self._looks
        self._looks = self._watch.looks
        look_at_files = fresh or now - self._files_at >= max(_FILES_S, self._poll_s / 10.0)
        for key, task in self._tasks.items():
            if fresh:
                self._update(key, task, now)
            if look_at_files and task.view.phase not in _OVER:
                self._look_at_files(task, now)
        if look_at_files:
            self._files_at = now
        report = self._report()
        if self._tasks and (fresh or not self._settled):
            self._settle()
        return report

    def cancel(self, trial: str, attempt: int, why: Kind) -> None:
        """Cancel one task at the next poll, together with others; its view carries `why`."""
        task = self._tasks.get((trial, attempt))
        if task is None:
            return
        task.why = why
        self._doomed[task.job_id] = (trial, attempt)

    def adjust(self, *, slots: int | None = None, poll_s: float | None = None) -> None:
        """Change how many tasks run at a time, and the pause between two queries.

        Parameters
        ----------
        slots
            Tasks at a time, over all arrays in flight; 0 holds what has not started.
        poll_s
            Seconds.
        """
        if poll_s is not None:
            self._poll_s = poll_s
        if slots is not None and slots != self._throttle.slots:
            self._throttle.slots = slots
            self._settled = False

    def close(self) -> None:
        """Cancel what was asked to be; the other tasks belong to SLURM and go on."""
        self._cancel_at = -math.inf
        self._cancel_doomed()
        for task in self._tasks.values():
            self._watch.forget(task.job_id)

    def _sbatch(self, part: Part, tasks: Sequence[TaskSpec], level: int) -> str:
        try:
            from neurosweep.exec.slurm_submit import submit_part
        except ModuleNotFoundError as error:
            msg = "submitting to SLURM needs submitit; install it with pip install submitit"
            raise MissingPackageError(msg) from error
        self._watch.count()
        try:
            array = submit_part(self._profile, part, tasks, level)
        except UnreachableError:
            raise
        except ExecutorError:
            self._book.refused.add(part.name)
            raise
        self._book.close(part.name)
        return array

    def _register(self, task: TaskSpec, name: str, job_id: str, since: float) -> None:
        self._tasks[task.key] = _Task(task, job_id, name, TaskView(TaskPhase.QUEUED, job_id=job_id))
        self._watch.track(job_id, name, since)

    def _loads(self) -> dict[str, Load]:
        """Return what each array has left, the oldest first."""
        left: dict[str, int] = {}
        running: dict[str, int] = {}
        for task in self._tasks.values():
            left[task.array] = left.get(task.array, 0) + 1
            # What an earlier driver submitted may run: until SLURM was asked, it does.
            unseen = task.adopted and self._watch.sighting(task.job_id) is None
            runs = unseen or task.view.phase is TaskPhase.RUNNING
            running[task.array] = running.get(task.array, 0) + runs
        order = sorted(left, key=int)
        return {array: Load(left[array], running[array]) for array in order}

    def _settle(self) -> None:
        before = self._throttle.commands
        self._throttle.settle(self._loads())
        self._watch.count(self._throttle.commands - before)
        self._settled = True

    def _update(self, key: TaskKey, task: _Task, now: float) -> None:
        seen = self._watch.sighting(task.job_id)
        if seen is None:
            return
        view = judge(seen, task.job_id, requeue=self._profile.requeue)
        unknown = not seen.queued and seen.row is None and seen.absent_looks
        if unknown and task.why is not None:
            # A task that is cancelled while it waits may leave no line in accounting.
            view = TaskView(TaskPhase.ENDED, task.job_id, "cancelled before it started")
        if view is None:
            return
        if view.phase is TaskPhase.ENDED:
            log = self._root / task.name / f"{task.job_id}_0_log.out"
            view = explained(view, task.spec.files, log)
            view = view if task.why is None else replace(view, kind_hint=task.why)
        if view.phase is TaskPhase.QUEUED and task.view.phase is TaskPhase.RUNNING:
            task.came_back = True
        task.view = view
        row = seen.row if seen.queued else None
        stuck = row is not None and (row.word in STUCK or row.reason in STUCK_REASONS)
        task.held_up = "" if row is None else held_up(task.array, row.reason)
        if task.held_up and task.array not in self._warned:
            self._warned.add(task.array)
            logger.warning("%s", task.held_up)
        task.stuck_since = min(task.stuck_since, now) if stuck else math.inf
        if now - task.stuck_since > _STUCK_S and task.why is None:
            logger.warning("job %s waits to be released (%s)", task.job_id, view.reason)
            self.cancel(*key, Kind.NODE_FAILURE)

    def _look_at_files(self, task: _Task, now: float) -> None:
        """Take a task as over when its status says so: SLURM may take minutes to clean up."""
        seen = self._watch.sighting(task.job_id)
        absent = seen is not None and not seen.queued
        if not (task.view.phase is TaskPhase.RUNNING or absent or task.came_back):
            return
        view = finished_view(task.view, seen, task.spec.files, now, self._files_at)
        if view is None:
            return
        if task.came_back:
            # It was done when its node was lost: it has nothing left to do.
            self._doomed[task.job_id] = task.spec.key
        task.view = view if task.why is None else replace(view, kind_hint=task.why)

    def _cancel_doomed(self) -> None:
        now = self._watch.now()
        if not self._doomed or now < self._cancel_at:
            return
        doomed = sorted(self._doomed)
        self._watch.count()
        try:
            run_slurm(["scancel", *doomed])
        except ExecutorError as error:
            if not any(text in str(error) for text in HARMLESS):
                self._cancel_at = now + self._poll_s
                logger.warning("%d jobs could not be cancelled: %s", len(doomed), error)
                return
        self._doomed.clear()

    def _report(self) -> dict[TaskKey, TaskView]:
        report = {key: task.view for key, task in self._tasks.items()}
        for key, view in report.items():
            if view.phase in _OVER:
                task = self._tasks.pop(key)
                self._watch.forget(task.job_id)
                if not task.came_back:
                    self._doomed.pop(task.job_id, None)
        return report
