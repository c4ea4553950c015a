"""The state of a pipeline, folded from its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from neurosweep.core.errors import LedgerError
from neurosweep.records.cost import held_seconds
from neurosweep.records.state import AttemptState
from neurosweep.records.trial import POLICY, Kind, Outcome

_HOUR_S = 3600.0

EVENTS = frozenset(
    {
        "pipeline_created",
        "run_opened",
        "cancel_asked",
        "task_planned",
        "task_found",
        "task_blocked",
        "submit_intended",
        "submitted",
        "attempt_started",
        "control",
        "attempt_ended",
        "pipeline_closed",
    }
)


class TaskPhase(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"
    PLANNED = "planned"
    OPEN = "open"
    MADE = "made"
    FOUND = "found"
    FAILED = "failed"
    BLOCKED = "blocked"

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.there or self in (TaskPhase.FAILED, TaskPhase.BLOCKED)

    @property
    def there(self) -> bool:
        """Whether its artifact is there."""
        return self in (TaskPhase.MADE, TaskPhase.FOUND)


@dataclass
class TaskState:
    """Hold one task with its attempts.

    Attributes
    ----------
    task
        Its id.
    fp
        Fingerprint of what it makes; empty before it is planned.
    inputs
        Name to fingerprint of what it is given.
    reason
        Why it is blocked.
    first
        Number of the first attempt since it was last planned.
    """

    task: str
    phase: TaskPhase = TaskPhase.WAITING
    fp: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    attempts: list[AttemptState] = field(default_factory=list)
    reason: str = ""
    first: int = 1

    @property
    def open_attempt(self) -> AttemptState | None:
        """The attempt that has no end yet."""
        return self.attempts[-1] if self.phase is TaskPhase.OPEN else None

    def replan(self) -> None:
        """Forget what was planned; attempts that ended stay on record."""
        self.phase, self.fp, self.inputs, self.reason = TaskPhase.WAITING, "", {}, ""
        self.first = len(self.attempts) + 1

    def core_hours(self, now: float | None = None) -> float:
        """Return the core-hours that its attempts held; what runs counts up to now, when given."""
        return sum(a.cores * held_seconds(a, now) for a in self.attempts) / _HOUR_S

    def gpu_hours(self, now: float | None = None) -> float:
        """Return the GPU-hours that its attempts held; see `core_hours`."""
        return sum(a.gpus * held_seconds(a, now) for a in self.attempts) / _HOUR_S


@dataclass
class PipelineState:
    """Hold everything that a ledger says.

    Attributes
    ----------
    created
        Data of its first event.
    tasks
        Tasks by id, each after those it needs.
    intents
        Token to its tasks and attempts.
    submitted
        Tokens whose jobs are known.
    asked
        Task and attempt to why the driver ended it.
    reasons
        The same, in words.
    cancelled
        Why the pipeline is to end, in words; None while nobody asked for it.
    requests
        Ids of the requests that were obeyed.
    on, workers
        Where the last run ran, as the command line said; empty and None for as the file says.
    closed
        Data of the last close; None while it is open.
    num_runs
        How often it was opened.
    """

    created: Mapping[str, Any] = field(default_factory=dict)
    tasks: dict[str, TaskState] = field(default_factory=dict)
    intents: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    asked: dict[tuple[str, int], Kind] = field(default_factory=dict)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    cancelled: str | None = None
    requests: set[str] = field(default_factory=set)
    on: str = ""
    workers: int | None = None
    closed: Mapping[str, Any] | None = None
    num_runs: int = 0
    num_events: int = 0

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to any task."""
        return all(task.phase.settled for task in self.tasks.values())

    def open_tasks(self) -> list[TaskState]:
        """Return the tasks that an executor has, or should have."""
        return [task for task in self.tasks.values() if task.phase is TaskPhase.OPEN]


def fold(events: Iterable[Mapping[str, Any]]) -> PipelineState:
    """Return the state that events give.

    Raises
    ------
    LedgerError
        When an event is not legal where it stands.
    """
    state = PipelineState()
    for event in events:
        apply(state, event)
    return state


def apply(state: PipelineState, event: Mapping[str, Any]) -> None:
    """Bring a state one event further.

    Raises
    ------
    LedgerError
        When the event is not legal; the state is then as before.
    """
    name, data = str(event["event"]), event["data"]
    if name != "pipeline_created" and not state.created:
        raise LedgerError(f"ledger: {name} before pipeline_created")
    if state.closed is not None and name != "run_opened":
        raise LedgerError(f"ledger: {name} after the pipeline was closed")
    if name in _LEGAL:
        task = state.tasks.get(str(data["task"]))
        if task is None or task.phase not in _LEGAL[name]:
            where = "unknown" if task is None else task.phase.value
            raise LedgerError(f"ledger: {name} of task '{data['task']}', which is {where}")
    _HANDLERS[name](state, data, str(event.get("t", "")))
    state.num_events += 1


_LEGAL = {
    "task_planned": (TaskPhase.WAITING,),
    "task_found": (TaskPhase.WAITING, TaskPhase.PLANNED),
    "task_blocked": (TaskPhase.WAITING, TaskPhase.PLANNED),
    "attempt_started": (TaskPhase.OPEN,),
    "attempt_ended": (TaskPhase.OPEN,),
    "control": (TaskPhase.OPEN,),
}


def _created(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    state.created = data
    state.tasks = {task: TaskState(task) for task in data["tasks"]}


def _opened(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    """Open it; after a close, what did not come to an artifact is tried again.

    What was made from fewer inputs than it could have had is planned again too.
    """
    state.num_runs += 1
    state.on, state.workers = str(data.get("on") or ""), data.get("workers")
    if state.closed is not None:
        state.closed = state.cancelled = None
        for task in state.tasks.values():
            task.replan()


def _planned(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    task = state.tasks[data["task"]]
    task.phase, task.fp, task.inputs = TaskPhase.PLANNED, str(data["fp"]), dict(data["inputs"])


def _found(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    task = state.tasks[data["task"]]
    task.phase, task.fp, task.inputs = TaskPhase.FOUND, str(data["fp"]), dict(data["inputs"])


def _blocked(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    task = state.tasks[data["task"]]
    task.phase, task.reason = TaskPhase.BLOCKED, str(data["reason"])


def _intended(state: PipelineState, data: Mapping[str, Any], t: str) -> None:
    token, pairs = str(data["token"]), [(str(task), int(k)) for task, k in data["tasks"]]
    for name, number in pairs:
        task = state.tasks.get(name)
        if task is None or task.phase is not TaskPhase.PLANNED or number != len(task.attempts) + 1:
            raise LedgerError(f"ledger: {token} submits attempt {number} of '{name}' out of turn")
    for name, number in pairs:
        state.tasks[name].phase = TaskPhase.OPEN
        state.tasks[name].attempts.append(AttemptState(number, token, intended_t=t))
    state.intents[token] = pairs


def _submitted(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    pairs = state.intents.get(str(data["token"]))
    if pairs is None:
        raise LedgerError(f"ledger: submitted {data['token']}, which nobody intended")
    state.submitted.add(str(data["token"]))
    for name, number in pairs:
        if name in data["jobs"]:
            state.tasks[name].attempts[number - 1].job = str(data["jobs"][name])


def _cancelled(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    state.cancelled = str(data["reason"])
    state.requests.add(str(data["request"]))


def _started(state: PipelineState, data: Mapping[str, Any], t: str) -> None:
    attempt = state.tasks[data["task"]].attempts[-1]
    attempt.started_t, attempt.host, attempt.pid = t, str(data["host"]), int(data["pid"])
    attempt.cores, attempt.gpus = int(data["cores"]), int(data["gpus"])
    attempt.queue_s = float(data.get("queue_s", 0.0))


def _control(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    key = (str(data["task"]), int(data["attempt"]))
    state.asked[key] = Kind(data["kind"])
    state.reasons[key] = str(data.get("reason", ""))


def _ended(state: PipelineState, data: Mapping[str, Any], t: str) -> None:
    task = state.tasks[data["task"]]
    attempt = task.attempts[-1]
    attempt.outcome, attempt.kind, attempt.ended_t = Outcome(data["outcome"]), Kind(data["kind"]), t
    attempt.error = dict(data.get("error") or {})
    for name in ("seconds", "peak_mb", "cores", "gpus", "restarts", "queue_s", "held_s"):
        if name in data:
            setattr(attempt, name, data[name])
    attempt.host = str(data.get("host", ""))
    if attempt.outcome is Outcome.DONE:
        task.phase = TaskPhase.MADE
        return
    tried = attempt.number - task.first + 1
    limit = POLICY[attempt.kind].attempts(int(state.created["spec"]["max_attempts"]))
    task.phase = TaskPhase.PLANNED if tried < limit else TaskPhase.FAILED


def _closed(state: PipelineState, data: Mapping[str, Any], _t: str) -> None:
    state.closed = data


_HANDLERS = {
    "pipeline_created": _created,
    "run_opened": _opened,
    "task_planned": _planned,
    "task_found": _found,
    "task_blocked": _blocked,
    "submit_intended": _intended,
    "submitted": _submitted,
    "cancel_asked": _cancelled,
    "attempt_started": _started,
    "control": _control,
    "attempt_ended": _ended,
    "pipeline_closed": _closed,
}
