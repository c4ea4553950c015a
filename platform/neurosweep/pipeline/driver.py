"""Run the tasks of a pipeline in their order, from wherever an earlier driver left it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.errors import DataError, LockedError, StudyError
from neurosweep.core.layout import PipelineDir
from neurosweep.pipeline.artifacts import Shelf
from neurosweep.pipeline.desk import Desk
from neurosweep.pipeline.evaluate import write_result
from neurosweep.pipeline.journal import Hooks, Journal
from neurosweep.pipeline.places import Places
from neurosweep.pipeline.plan import Plan
from neurosweep.pipeline.state import TaskPhase, TaskState
from neurosweep.research.control import pending_requests
from neurosweep.research.lock import StudyLock, read_holder
from neurosweep.research.placing import Pace
from neurosweep.workspace.snapshot import verify_snapshot

logger = logging.getLogger(__name__)


def drive(
    pipeline: PipelineDir,
    *,
    on: str | None = None,
    workers: int | None = None,
    hooks: Hooks | None = None,
    clock: Clock | None = None,
    pace: Pace | None = None,
    places: Places | None = None,
) -> dict[str, Any]:
    """Run a pipeline until no task of it can be run any more; return its result.

    Tasks that failed in an earlier run, which had come to its end, are tried again. A request
    to cancel it, see `neurosweep.research.control`, ends what runs and closes the pipeline.

    Parameters
    ----------
    pipeline
        Its folder.
    on, workers
        What is used instead of what the last run used, or else the pipeline file says.
    hooks
        Who follows.
    clock, pace
        Source of time, and waiting times.
    places
        Executors, for tests.

    Raises
    ------
    LockedError
        When another driver works on it.
    StudyError
        When there is no such pipeline, or the disk is full.
    ExecutorError
        When nothing could be submitted for a long time.
    """
    clock = clock or SystemClock()
    if not pipeline.ledger.exists():
        Journal(pipeline)
    lock = StudyLock(pipeline.lock, clock)
    try:
        lock.acquire()
    except LockedError as error:
        raise _locked(pipeline) from error
    try:
        journal = Journal(pipeline, clock, hooks, may_write=lock.check)
        plan = Plan(pipeline, journal.state.created)
        if on is None and journal.state.on:
            on, workers = journal.state.on, workers or journal.state.workers
        places = places or Places(pipeline, plan, on=on, workers=workers)
        places.check()
        driver = _Driver(journal, plan, places, pace or Pace())
        return driver.run({"on": on, "workers": workers})
    finally:
        lock.release()


class _Driver:
    """Work on one pipeline; the arguments are those of its parts."""

    def __init__(self, journal: Journal, plan: Plan, places: Places, pace: Pace) -> None:
        self._journal, self._plan, self._places, self._pace = journal, plan, places, pace
        self._desk = Desk(journal, plan, places, pace)
        self._shelf = Shelf(journal.home)
        # Requests are laid down for a pipeline as for a study, in a folder of the same name.
        self._requests = journal.dir

    def run(self, place: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result; the place is noted for the next run."""
        state = self._journal.state
        if state.closed is not None:
            self._drop_requests()
        asked = any(one.action == "cancel" for one in pending_requests(self._requests))
        if state.cancelled is None and not asked:
            self._check_what_is_used()
        try:
            self._journal.record("run_opened", {"number": state.num_runs + 1, **place})
            self._obey()
            self._desk.recover()
            self._settle()
            while not state.settled:
                if not self._desk.tick():
                    self._journal.clock.sleep(self._pace.poll_s)
                self._obey()
                self._settle()
                self._journal.hooks.on_tick(state)
            result = write_result(self._journal, self._plan)
            closed = {name: result[name] for name in ("state", "reason", "missing")}
            self._journal.record("pipeline_closed", closed)
            self._drop_requests()
        except OSError as error:
            raise _disk_error(error, self._journal.dir) from error
        finally:
            self._desk.close()
        return result

    def _obey(self) -> None:
        """Consume the requests that wait, each into the ledger first; end what is to be ended."""
        state = self._journal.state
        for request in pending_requests(self._requests):
            if request.action != "cancel":
                logger.warning("'%s' is for studies; a pipeline can be cancelled", request.action)
            elif request.id not in state.requests:
                data = {"request": request.id, "reason": request.reason or "cancelled on request"}
                self._journal.record("cancel_asked", data)
            request.path.unlink(missing_ok=True)
            self._journal.done("request_consumed")
        if state.cancelled is not None:
            self._desk.end_all(state.cancelled)

    def _drop_requests(self) -> None:
        for request in pending_requests(self._requests):
            logger.warning("a request to %s came after the end and is dropped", request.action)
            request.path.unlink(missing_ok=True)

    def _check_what_is_used(self) -> None:
        self._check_data()
        if self._plan.code_root is not None:
            verify_snapshot(self._plan.code_root, self._journal.state.created["code"]["sha"])

    def _check_data(self) -> None:
        info, home = self._journal.state.created["data_info"], self._journal.home
        gone = [one for one in (*info["stores"], info["secret"]) if not (home.root / one).exists()]
        if gone:
            file = self._journal.dir.pipeline_toml
            msg = f"{home.root / gone[0]}: the data of the pipeline are gone; prepare them again"
            raise DataError(f"{msg} with: neurosweep pipeline run {file}")

    def _settle(self) -> None:
        """Plan what can be planned, and submit what is planned; nothing once it is cancelled."""
        state = self._journal.state
        if state.cancelled is not None:
            for name, task in state.tasks.items():
                if task.phase in (TaskPhase.WAITING, TaskPhase.PLANNED):
                    reason = f"cancelled: {state.cancelled}"
                    self._journal.record("task_blocked", {"task": name, "reason": reason})
            return
        for name, task in state.tasks.items():
            if task.phase is TaskPhase.WAITING:
                self._plan_task(name)
        ready: dict[str, list[TaskState]] = defaultdict(list)
        for name, task in state.tasks.items():
            if task.phase is TaskPhase.PLANNED:
                self._prepare(task)
                if task.phase is TaskPhase.PLANNED:
                    ready[self._plan.tasks[name].stage].append(task)
        for stage, tasks in ready.items():
            self._desk.submit(stage, tasks)

    def _plan_task(self, name: str) -> None:
        outlook = self._plan.outlook(self._journal.state, name)
        if outlook.waits:
            return
        if outlook.inputs is None:
            self._journal.record("task_blocked", {"task": name, "reason": outlook.blocked})
            return
        fp = self._plan.fingerprint(name, outlook.inputs)
        there = self._shelf.find(fp) is not None
        data = {"task": name, "fp": fp, "inputs": dict(outlook.inputs)}
        self._journal.record("task_found" if there else "task_planned", data)

    def _prepare(self, task: TaskState) -> None:
        """Write what a task is to run, unless somebody has made it meanwhile."""
        if self._shelf.find(task.fp) is not None:
            data = {"task": task.task, "fp": task.fp, "inputs": dict(task.inputs)}
            self._journal.record("task_found", data)
            return
        limits = self._places.limits(self._plan.tasks[task.task].stage)
        if self._plan.write_run(task, limits):
            self._journal.done("run_json")


def _locked(pipeline: PipelineDir) -> LockedError:
    holder = read_holder(pipeline.lock)
    who = "another process" if holder is None else str(holder)
    return LockedError(
        f"pipeline {pipeline.pipeline_id} already has a driver: {who}; wait for it, or end it"
    )


def _disk_error(error: OSError, pipeline: PipelineDir) -> StudyError:
    text = f"pipeline {pipeline.pipeline_id}: a file cannot be written ({error}); running tasks go"
    text += f" on and nothing recorded is lost. Make room under {pipeline.root}, then give the"
    return StudyError(f"{text} command again")
