"""Follow the attempts of tasks from intent to end; what they made goes to the shelf."""

from __future__ import annotations

import logging
import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import DataError, ExecutorError
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.protocol import Executor, TaskKey, TaskPhase, TaskSpec, TaskView
from neurosweep.pipeline.artifacts import Shelf
from neurosweep.pipeline.journal import Journal
from neurosweep.pipeline.places import Places
from neurosweep.pipeline.plan import Plan
from neurosweep.pipeline.shares import Shares
from neurosweep.pipeline.state import TaskState
from neurosweep.records.state import AttemptState
from neurosweep.records.trial import Kind
from neurosweep.research.endings import Claimed, Ending, failed, is_told_by_executor
from neurosweep.research.following import Watch
from neurosweep.research.placer import Placer, is_news
from neurosweep.research.placing import Pace, TaskShape

logger = logging.getLogger(__name__)

_SLURM = "slurm"


class Desk:
    """Submit attempts, find them again, and bring each to its one recorded end.

    Parameters
    ----------
    journal
        Ledger and state.
    plan
        The tasks.
    places
        Their executors.
    pace
        Waiting times.
    """

    def __init__(self, journal: Journal, plan: Plan, places: Places, pace: Pace) -> None:
        self._journal, self._plan, self._places = journal, plan, places
        self._clock = journal.clock
        self._shelf = Shelf(journal.home)
        self._watch = Watch(journal.clock, pace)
        self._shares = Shares(journal.clock)
        self._placer = Placer(
            lambda spec: self._executor(spec.trial), journal.done, journal.clock, pace
        )

    def submit(self, stage: str, tasks: Sequence[TaskState]) -> None:
        """Give each task of a stage its next attempt and submit them together.

        The intent is in the ledger before anything is submitted: whatever dies after it, the
        next driver looks the attempts up under its token.

        Raises
        ------
        ExecutorError
            When the executor refuses again and again from the start.
        """
        number = len(self._journal.state.intents) + 1
        token = f"{self._journal.dir.pipeline_id}.{stage}.{number:04d}"
        pairs = [[task.task, len(task.attempts) + 1] for task in tasks]
        self._journal.record("submit_intended", {"token": token, "tasks": pairs})
        for task in tasks:
            self._placer.add(token, self._spec(task))
        self._place(token, known=False)

    def recover(self) -> None:
        """Find the open attempts of an earlier driver; submit those that never started.

        Raises
        ------
        ExecutorError
            When an executor refuses again and again from the start.
        """
        for task in self._journal.state.open_tasks():
            spec = self._spec(task)
            if is_told_by_executor(spec.files):
                self._placer.add(task.attempts[-1].token, spec)
        for token in self._placer.tokens:
            self._place(token, known=True)

    def tick(self) -> bool:
        """Look at every open attempt once; return whether anything was recorded.

        Raises
        ------
        ExecutorError
            When an executor refuses again and again from the start.
        """
        before = self._journal.state.num_events
        for token in self._placer.tokens if self._placer.is_time else ():
            self._place(token, known=True)
        waiting, trouble = self._placer.waiting, self._placer.trouble
        working = self._by_executor()
        self._shares.divide([(executor, len(tasks)) for executor, tasks in working])
        for executor, tasks in working:
            try:
                views = executor.poll()
            except ExecutorError as error:
                # A query that failed says nothing about the jobs.
                logger.warning("%s cannot be asked: %s", executor.name, error)
                trouble = str(error)
                continue
            trouble = trouble or executor.trouble
            for task in tasks:
                if _key(task) not in waiting:
                    self._follow(task, views.get(_key(task)))
        self._journal.hooks.on_executor(trouble)
        return self._journal.state.num_events > before

    def end_all(self, reason: str) -> None:
        """Have every open attempt ended at the next look; the ledger knows first."""
        for task in self._journal.state.open_tasks():
            self._ask_end(task, Kind.CANCELLED_USER, reason)

    def close(self) -> None:
        """Let go of the executors, and of slots that others may use; running attempts go on."""
        self._shares.leave()
        self._places.close()

    def _by_executor(self) -> list[tuple[Executor, list[TaskState]]]:
        """Return the executors that have open tasks, with these."""
        found: dict[int, list[TaskState]] = defaultdict(list)
        for task in self._journal.state.open_tasks():
            found[id(self._executor(task.task))].append(task)
        return [(self._executor(tasks[0].task), tasks) for tasks in found.values()]

    def _executor(self, task: str) -> Executor:
        return self._places.executor(self._plan.tasks[task].stage)

    def _shape(self, task: TaskState) -> TaskShape:
        return self._places.shape(self._plan.tasks[task.task].stage)

    def _spec(self, task: TaskState) -> TaskSpec:
        shape = self._shape(task)
        return TaskSpec(
            task.task,
            task.attempts[-1].number,
            self._files(task).root,
            shape.cores,
            shape.memory_mb,
            shape.timeout_s,
            shape.env,
        )

    def _files(self, task: TaskState) -> AttemptDir:
        return self._journal.dir.task(task.task).attempt(task.attempts[-1].number)

    def _place(self, token: str, *, known: bool) -> None:
        may_submit = self._journal.state.cancelled is None
        jobs = self._placer.place(token, known=known, may_submit=may_submit)
        if jobs is None:
            return
        state = self._journal.state
        known_jobs = {n: state.tasks[n].attempts[k - 1].job for n, k in state.intents[token]}
        if is_news(jobs, known_jobs if token in state.submitted else None):
            self._journal.record("submitted", {"token": token, "jobs": jobs})

    def _follow(self, task: TaskState, view: TaskView | None) -> None:
        key, files = _key(task), self._files(task)
        view = self._watch.see(key, view)
        if view.phase is TaskPhase.RUNNING:
            self._note_start(task, files)
            self._check_limits(task, view)
        asked = self._journal.state.asked.get(key)
        if self._watch.is_over(key, view):
            ending = self._watch.ending(key, files, view, asked)
            if ending is not None:
                self._note_start(task, files)
                self._finish(task, files, ending, view)
        elif asked is not None and self._watch.may_end(key):
            self._cancel(task, asked)

    def _note_start(self, task: TaskState, files: AttemptDir) -> None:
        attempt, claimed = task.attempts[-1], self._watch.claimed(files)
        if attempt.started_t or not claimed.pid:
            return
        data = {"task": task.task, "attempt": attempt.number} | self._holding(task, claimed)
        if attempt.intended_t and not claimed.restart:
            data["queue_s"] = round(max(claimed.t - parse_iso(attempt.intended_t), 0.0), 3)
        self._journal.record("attempt_started", data | {"pid": claimed.pid})

    def _holding(self, task: TaskState, claimed: Claimed) -> dict[str, Any]:
        gpus = self._executor(task.task).allocation.gpus
        return {"host": claimed.machine, "cores": self._shape(task).cores, "gpus": gpus}

    def _check_limits(self, task: TaskState, view: TaskView) -> None:
        key, shape = _key(task), self._shape(task)
        limits = (shape.timeout_s, shape.stall_s)
        noted = task.attempts[-1].started_t
        started = parse_iso(noted) if noted else 0.0
        found = self._watch.overdue(key, self._files(task), view, limits, started)
        if found is not None:
            self._ask_end(task, *found)

    def _ask_end(self, task: TaskState, kind: Kind, reason: str) -> None:
        key = _key(task)
        if key not in self._journal.state.asked:
            data = {"task": key[0], "attempt": key[1], "kind": kind.value, "reason": reason}
            self._journal.record("control", data)

    def _cancel(self, task: TaskState, kind: Kind) -> None:
        try:
            self._executor(task.task).cancel(*_key(task), kind)
        except ExecutorError as error:
            logger.warning("%s could not be cancelled: %s", task.task, error)

    def _finish(self, task: TaskState, files: AttemptDir, ending: Ending, view: TaskView) -> None:
        key = _key(task)
        if ending.done:
            origin = {"pipeline": self._journal.dir.pipeline_id, "task": key[0], "attempt": key[1]}
            facts = self._plan.made_of(task.task, task.inputs)
            try:
                self._shelf.place(task.fp, files, ending.files, origin, facts)
                self._journal.done("artifact")
            except DataError as error:
                seconds = ending.seconds
                ending = failed(Kind.USER_ERROR, str(error), type_="DataError", seconds=seconds)
        if not ending.done and ending.kind is self._journal.state.asked.get(key):
            # The driver asked for this end and knows better why than the scheduler.
            told = {"type": ending.kind.value, "text": self._journal.state.reasons[key]}
            ending = replace(ending, error=told)
        data = self._held(task, task.attempts[-1], files, view)
        self._journal.record("attempt_ended", {**data, **_outcome(ending)})
        self._watch.forget(key)
        if task.phase.settled:
            for number in range(1, len(task.attempts) + 1):
                resume = self._journal.dir.task(task.task).attempt(number).resume
                shutil.rmtree(resume, ignore_errors=True)

    def _held(
        self, task: TaskState, attempt: AttemptState, files: AttemptDir, view: TaskView
    ) -> dict[str, Any]:
        claimed = self._watch.claimed(files)
        data: dict[str, Any] = {
            "task": task.task,
            "attempt": attempt.number,
            "restarts": max(view.restarts, claimed.restart),
        } | self._holding(task, claimed)
        held_s = view.held_s
        if held_s is None and not claimed.restart:
            held_s = _held_by_files(files)
            if held_s is not None and self._executor(task.task).name == _SLURM:
                held_s = math.ceil(held_s)  # accounting counts in whole seconds
        if held_s is not None:
            data["held_s"] = round(held_s, 3)
        return data


def _key(task: TaskState) -> TaskKey:
    return (task.task, task.attempts[-1].number)


def _held_by_files(files: AttemptDir) -> float | None:
    """Return the time from a task's claim to its status; None when one of them is not there.

    A task that is over before its executor was asked has no other witness. The job's own seconds
    leave out what it imported before it began. Both times are the file server's.
    """
    try:
        return max(files.status.stat().st_mtime - files.claim.stat().st_mtime, 0.0)
    except OSError:
        return None


def _outcome(ending: Ending) -> Mapping[str, Any]:
    return {
        "outcome": ending.outcome.value,
        "kind": ending.kind.value,
        "error": dict(ending.error),
        "seconds": ending.seconds,
        "peak_mb": ending.peak_mb,
    }
