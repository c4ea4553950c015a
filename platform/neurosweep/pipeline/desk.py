"""Follow the attempts of tasks from intent to end; what they made goes to the shelf."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import DataError, ExecutorError
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.protocol import Executor, TaskKey, TaskPhase, TaskSpec, TaskView
from neurosweep.pipeline.artifacts import Shelf
from neurosweep.pipeline.journal import Journal
from neurosweep.pipeline.places import Places
from neurosweep.pipeline.plan import Plan
from neurosweep.pipeline.state import TaskState
from neurosweep.records.state import AttemptState
from neurosweep.records.trial import Kind
from neurosweep.research.endings import (
    Claimed,
    Ending,
    Hold,
    failed,
    judge_silence,
    progress_mark,
    read_claimed,
    read_status,
    revoke,
)
from neurosweep.research.placing import Pace

logger = logging.getLogger(__name__)

_GONE = TaskView(TaskPhase.GONE)
_OVER = (TaskPhase.ENDED, TaskPhase.GONE)
_MAX_FAILURES = 8
_MAX_WAIT_S = 60.0


@dataclass
class _Sighting:
    """What the driver remembers of an open attempt; all of it may be forgotten."""

    over: TaskView | None = None
    silent_since: float | None = None
    ended_since: float | None = None
    looked: float = 0.0
    mark: str = ""
    moved: float | None = None


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
        self._journal, self._plan, self._places, self._pace = journal, plan, places, pace
        self._clock = journal.clock
        self._shelf = Shelf(journal.home)
        self._sightings: dict[TaskKey, _Sighting] = {}
        self._unplaced: dict[str, list[TaskSpec]] = {}
        self._failures = 0
        self._retry_at = 0.0

    def submit(self, stage: str, tasks: Sequence[TaskState]) -> None:
        """Give each task of a stage its next attempt and submit them together.

        The intent is in the ledger before anything is submitted: whatever dies after it, the
        next driver looks the attempts up under its token.

        Raises
        ------
        ExecutorError
            When nothing could be submitted for a long time.
        """
        number = len(self._journal.state.intents) + 1
        token = f"{self._journal.dir.pipeline_id}.{stage}.{number:04d}"
        pairs = [[task.task, len(task.attempts) + 1] for task in tasks]
        self._journal.record("submit_intended", {"token": token, "tasks": pairs})
        self._unplaced[token] = [self._spec(task, task.attempts[-1]) for task in tasks]
        self._place(token, known=False)

    def recover(self) -> None:
        """Find the open attempts of an earlier driver; submit those that never started."""
        for task in self._journal.state.open_tasks():
            spec = self._spec(task, task.attempts[-1])
            if not os.path.lexists(spec.files.status):
                self._unplaced.setdefault(task.attempts[-1].token, []).append(spec)
        for token in list(self._unplaced):
            self._place(token, known=True)

    def tick(self) -> bool:
        """Look at every open attempt once; return whether anything was recorded."""
        before = self._journal.state.num_events
        if self._unplaced and self._clock.monotonic() >= self._retry_at:
            for token in list(self._unplaced):
                self._place(token, known=True)
        waiting = {spec.key for specs in self._unplaced.values() for spec in specs}
        open_of: dict[int, list[TaskState]] = defaultdict(list)
        executors: dict[int, Executor] = {}
        for task in self._journal.state.open_tasks():
            executor = self._executor(task.task)
            executors[id(executor)] = executor
            open_of[id(executor)].append(task)
        for number, executor in executors.items():
            try:
                views = executor.poll()
            except ExecutorError as error:
                # A query that failed says nothing about the jobs.
                logger.warning("%s cannot be asked: %s", executor.name, error)
                continue
            for task in open_of[number]:
                key = (task.task, task.attempts[-1].number)
                if key not in waiting:
                    self._follow(task, task.attempts[-1], views.get(key))
        return self._journal.state.num_events > before

    def _executor(self, task: str) -> Executor:
        return self._places.executor(self._plan.tasks[task].stage)

    def _spec(self, task: TaskState, attempt: AttemptState) -> TaskSpec:
        shape = self._places.shape(self._plan.tasks[task.task].stage)
        return TaskSpec(
            task.task,
            attempt.number,
            self._files(task, attempt).root,
            shape.cores,
            shape.memory_mb,
            shape.timeout_s,
            shape.env,
        )

    def _files(self, task: TaskState, attempt: AttemptState) -> AttemptDir:
        return self._journal.dir.task(task.task).attempt(attempt.number)

    def _claimed(self, files: AttemptDir) -> Claimed:
        return read_claimed(files, self._clock.now(), self._pace.patience_s)

    def _place(self, token: str, *, known: bool) -> None:
        specs = self._unplaced[token]
        executor = self._executor(specs[0].trial)
        for spec in specs:
            spec.attempt_dir.mkdir(parents=True, exist_ok=True)
        try:
            jobs = dict(executor.adopt(token, specs)) if known else {}
            free = [s for s in specs if self._claimed(s.files).hold is Hold.NOBODY]
            missing = [spec for spec in free if spec.trial not in jobs]
            if missing:
                jobs |= executor.submit(token, missing)
                self._journal.done("submit")
        except ExecutorError as error:
            self._postpone(error)
            return
        del self._unplaced[token]
        self._failures = 0
        state = self._journal.state
        recorded = {name: state.tasks[name].attempts[k - 1].job for name, k in state.intents[token]}
        if token not in state.submitted or any(recorded[name] != job for name, job in jobs.items()):
            self._journal.record("submitted", {"token": token, "jobs": jobs})

    def _postpone(self, error: ExecutorError) -> None:
        self._failures += 1
        if self._failures >= _MAX_FAILURES:
            raise error
        wait = min(2.0**self._failures, _MAX_WAIT_S)
        self._retry_at = self._clock.monotonic() + wait
        logger.warning("submission failed, next try in %g s: %s", wait, error)

    def _follow(self, task: TaskState, attempt: AttemptState, view: TaskView | None) -> None:
        sighting = self._sightings.setdefault((task.task, attempt.number), _Sighting())
        view = view or sighting.over or _GONE
        files = self._files(task, attempt)
        if view.phase in _OVER:
            sighting.over = view
        elif view.phase is TaskPhase.RUNNING:
            self._check_limits(task, attempt, sighting)
        else:
            sighting.moved = None  # no progress is expected of what waits, again or at first
        asked = self._journal.state.asked.get((task.task, attempt.number))
        if view.phase in _OVER or self._given_up(sighting):
            self._conclude(task, attempt, files, view)
        elif asked is not None and sighting.ended_since is None:
            self._cancel(task, attempt, asked, sighting)

    def _given_up(self, sighting: _Sighting) -> bool:
        since = sighting.ended_since
        return since is not None and self._clock.monotonic() - since > self._pace.cancel_s

    def _cancel(
        self, task: TaskState, attempt: AttemptState, kind: Kind, sighting: _Sighting
    ) -> None:
        sighting.ended_since = self._clock.monotonic()
        try:
            self._executor(task.task).cancel(task.task, attempt.number, kind)
        except ExecutorError as error:
            logger.warning("%s could not be cancelled: %s", task.task, error)

    def _check_limits(self, task: TaskState, attempt: AttemptState, sighting: _Sighting) -> None:
        files = self._files(task, attempt)
        claimed = self._claimed(files)
        key = (task.task, attempt.number)
        if sighting.ended_since is not None or not claimed.pid or key in self._journal.state.asked:
            return
        shape = self._places.shape(self._plan.tasks[task.task].stage)
        now = self._clock.monotonic()
        ran = self._clock.now() - claimed.t
        if ran > shape.timeout_s + self._pace.overtime_s:
            self._ask_end(task, attempt, Kind.TIME_LIMIT, f"ran for {ran:.0f} s")
        elif now - sighting.looked >= self._pace.heartbeat_s:
            sighting.looked = now
            mark = progress_mark(files.heartbeat)
            if sighting.moved is None or mark != sighting.mark:
                sighting.mark, sighting.moved = mark, now
            elif now - sighting.moved > shape.stall_s:
                still = now - sighting.moved
                self._ask_end(task, attempt, Kind.HANG, f"no progress for {still:.0f} s")

    def _ask_end(self, task: TaskState, attempt: AttemptState, kind: Kind, reason: str) -> None:
        data = {"task": task.task, "attempt": attempt.number, "kind": kind.value, "reason": reason}
        self._journal.record("control", data)

    def _conclude(
        self, task: TaskState, attempt: AttemptState, files: AttemptDir, view: TaskView
    ) -> None:
        known = view.kind_hint or self._journal.state.asked.get((task.task, attempt.number))
        ending = read_status(files, known)
        sighting = self._sightings[task.task, attempt.number]
        if ending is None and self._silence_is_final(files, view, sighting):
            never = self._claimed(files).hold is Hold.NOBODY
            if never and not revoke(files, self._clock):
                return
            # The status may have come between the two looks.
            ending = read_status(files, known)
            if ending is None and never and known is None:
                ending = failed(Kind.LOST, view.reason or "the job never started")
            ending = ending or judge_silence(view, known)
        if ending is not None:
            self._finish(task, attempt, files, ending, view)

    def _silence_is_final(self, files: AttemptDir, view: TaskView, sighting: _Sighting) -> bool:
        """Return whether no status will come any more."""
        claimed = self._claimed(files)
        if claimed.hold is Hold.NOBODY and view.phase is TaskPhase.ENDED:
            return True  # whoever comes later finds the claim revoked
        if self._given_up(sighting):
            return True
        # Of another machine's process its scheduler knows better than a heartbeat's age.
        ended = view.phase is TaskPhase.ENDED and claimed.job == view.job_id
        if claimed.hold is Hold.ALIVE or (claimed.hold is Hold.MAYBE and not ended):
            sighting.silent_since = None
            return False
        if claimed.over_here:
            return True
        now = self._clock.monotonic()
        if sighting.silent_since is None:
            sighting.silent_since = now
        return now - sighting.silent_since >= self._pace.settle_s

    def _finish(
        self,
        task: TaskState,
        attempt: AttemptState,
        files: AttemptDir,
        ending: Ending,
        view: TaskView,
    ) -> None:
        if ending.done:
            origin: dict[str, Any] = {"pipeline": self._journal.dir.pipeline_id}
            origin |= {"task": task.task, "attempt": attempt.number}
            facts = self._plan.made_of(task.task, task.inputs)
            try:
                self._shelf.place(task.fp, files, ending.files, origin, facts)
                self._journal.done("artifact")
            except DataError as error:
                seconds = ending.seconds
                ending = failed(Kind.USER_ERROR, str(error), type_="DataError", seconds=seconds)
        data = self._ended(task, attempt, files, view)
        self._journal.record("attempt_ended", {**data, **_outcome(ending)})
        self._sightings.pop((task.task, attempt.number), None)

    def _ended(
        self, task: TaskState, attempt: AttemptState, files: AttemptDir, view: TaskView
    ) -> dict[str, Any]:
        claimed = self._claimed(files)
        held = self._executor(task.task).allocation
        shape = self._places.shape(self._plan.tasks[task.task].stage)
        data: dict[str, Any] = {
            "task": task.task,
            "attempt": attempt.number,
            "host": claimed.host,
            "cores": shape.cores,
            "gpus": held.gpus,
            "restarts": max(view.restarts, claimed.restart),
        }
        if claimed.t and attempt.intended_t and not claimed.restart:
            data["queue_s"] = round(max(claimed.t - parse_iso(attempt.intended_t), 0.0), 3)
        if view.held_s is not None:
            data["held_s"] = round(view.held_s, 3)
        return data


def _outcome(ending: Ending) -> Mapping[str, Any]:
    return {
        "outcome": ending.outcome.value,
        "kind": ending.kind.value,
        "error": dict(ending.error),
        "seconds": ending.seconds,
        "peak_mb": ending.peak_mb,
    }
