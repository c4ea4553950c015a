"""What the faults of a script do to tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from signal import SIGCONT, SIGKILL, SIGSTOP

from neurosweep.testing.slurm.lives import Lives
from neurosweep.testing.slurm.model import NEVER, RUNNING, SUSPENDED, Doom, Task, local_time
from neurosweep.testing.slurm.script import Event, TaskFault

_AT_ONCE = (Event.OOM, Event.OVER_MEMORY, Event.NODE_FAIL)
_OVER_MEMORY = (
    "slurmstepd-{node}: error: StepId={job}.batch exceeded memory limit "
    "(1153433600 > 1073741824), being killed\n"
    "slurmstepd-{node}: error: Exceeded job memory limit"
)
HELD = "job requeued in held state"


class Strikes:
    """Let the faults of a script strike.

    Parameters
    ----------
    lives
        Starts and ends tasks.
    """

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._do: dict[Event, Callable[[TaskFault, Task], None]] = {
            Event.KILL: self._kill,
            Event.PREEMPT: self._preempt,
            Event.SUSPEND: self._suspend,
            Event.SHOW: self._show,
            Event.VANISH: self._vanish,
        }

    def strike(self, task: Task, at: str) -> None:
        """Let everything happen to a task that the script has for this moment."""
        for fault in self._lives.script.tasks:
            late = fault.does is Event.LATE
            if fault.at != at or late or fault in task.struck or not self._lives.meets(fault, task):
                continue
            task.struck.add(fault)
            if fault.after_s:
                self._lives.later(fault.after_s, self._when_due(fault, task, task.restarts))
            else:
                self._happen(fault, task)

    def _when_due(self, fault: TaskFault, task: Task, restart: int) -> Callable[[], None]:
        def due() -> None:
            if task.restarts == restart and not task.final:
                self._happen(fault, task)

        return due

    def _happen(self, fault: TaskFault, task: Task) -> None:
        if fault.does in self._do:
            self._do[fault.does](fault, task)
            return
        doom = self._doom(fault, task)
        if fault.at == "ended":
            task.doom = doom
            self._lives.settle(task, doom)
        else:
            gently = fault.does not in _AT_ONCE
            self._lives.end(task, doom, gently=gently, kills=fault.kills)

    def _doom(self, fault: TaskFault, task: Task) -> Doom:
        """Return what SLURM will say of a task that a fault ends."""
        script = self._lives.script
        again = task.array.what.requeue if fault.requeue is None else fault.requeue
        reason = "BeginTime" if again else ""
        now = local_time(time.time())
        text = "slurmstepd-{node}: error: *** JOB {job} ON {node} CANCELLED AT " + now + "{why} ***"
        dooms = {
            Event.OOM: Doom("OUT_OF_MEMORY", "0:125", text="Detected 1 oom_kill event."),
            Event.OVER_MEMORY: Doom("FAILED", "0:9", text=_OVER_MEMORY),
            Event.TIMEOUT: Doom("TIMEOUT", text=text.replace("{why}", " DUE TO TIME LIMIT")),
            Event.PREEMPT: Doom(
                "PREEMPTED",
                "0:0",
                reason,
                script.requeue_wait_s,
                text.replace("{why}", " DUE TO PREEMPTION"),
            ),
            Event.NODE_FAIL: Doom("NODE_FAIL", "1:0", reason, script.requeue_wait_s),
            Event.CANCEL: Doom(f"CANCELLED by {fault.uid}", text=text.replace("{why}", "")),
            Event.REQUEUE: Doom("REQUEUED", "0:0", "BeginTime", script.requeue_wait_s),
            Event.REQUEUE_HOLD: Doom("REQUEUED", "0:0", HELD, fault.seconds(0.5)),
        }
        return dooms[fault.does]

    def _kill(self, _fault: TaskFault, task: Task) -> None:
        self._lives.send(task, SIGKILL)

    def _preempt(self, fault: TaskFault, task: Task) -> None:
        """Warn, wait, end; who leaves during the grace time has ended by itself."""
        doom = self._doom(fault, task)
        if fault.at == "ended":
            task.doom = doom
            self._lives.settle(task, doom)
            return
        number, shell = task.array.what.signal
        pid = task.pid
        if shell:
            self._lives.send(task, number)

        def over() -> None:
            if task.pid == pid and task.doom is None:
                self._lives.end(task, doom, kills=fault.kills)

        self._lives.later(fault.seconds(0.0), over)

    def _suspend(self, fault: TaskFault, task: Task) -> None:
        pid, task.state = task.pid, SUSPENDED
        self._lives.send(task, SIGSTOP)

        def go_on() -> None:
            if task.pid == pid and task.state == SUSPENDED:
                task.state = RUNNING
                self._lives.send(task, SIGCONT)

        self._lives.later(fault.seconds(0.5), go_on)

    def _show(self, fault: TaskFault, task: Task) -> None:
        seconds, restart = fault.seconds(0.5), task.restarts
        task.shown = fault.text
        if task.waits:
            task.begin_at = time.time() + seconds

        def no_more() -> None:
            if task.restarts != restart or task.shown != fault.text:
                return
            task.shown = ""
            if task.doom is not None and not task.pid:
                self._lives.settle(task, task.doom)

        self._lives.later(seconds, no_more)

    def _vanish(self, fault: TaskFault, task: Task) -> None:
        task.hidden_until = time.time() + fault.seconds(NEVER)
        if fault.kills:
            self._kill(fault, task)
