"""Start and end the processes of tasks, and keep what SLURM will say of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosweep.testing.slurm.model import (
    COMPLETING,
    PENDING,
    RUNNING,
    SUSPENDED,
    Doom,
    Task,
    local_time,
)
from neurosweep.testing.slurm.process import CLAIM, Start, fork_task
from neurosweep.testing.slurm.script import Event, FaultScript
from neurosweep.testing.slurm.setup import Site

Later = Callable[[float, Callable[[], None]], None]
Log = Callable[[Mapping[str, Any]], None]


@dataclass
class _Process:
    """One started process, and the attempt that it has claimed."""

    task: Task
    restart: int
    folder: str = ""


class Lives:
    """Start and end tasks.

    Parameters
    ----------
    site
        The cluster.
    script
        What goes wrong, and how long things take.
    later
        Calls something after a number of seconds.
    log
        Is told of every start and end.
    """

    def __init__(self, site: Site, script: FaultScript, later: Later, log: Log) -> None:
        self.site = site
        self.script = script
        self.later = later
        self.strike: Callable[[Task, str], None] = lambda _task, _at: None
        self._log = log
        self._processes: dict[int, _Process] = {}

    def start(self, task: Task, node: str) -> None:
        """Give a task its node and fork its process."""
        task.state, task.reason, task.node = RUNNING, "None", node
        task.start, task.end, task.doom, task.shown = time.time(), 0.0, None, ""
        what = task.array.what
        faults = [f for f in self.script.tasks if self.meets(f, task)]
        late = {name: f.seconds(1.0) for f in faults if f.does is Event.LATE for name in f.files}
        task.pid = fork_task(
            Start(
                task.job_id,
                task.restarts,
                what.script,
                what.cwd,
                {**what.environ, **self._variables(task)},
                task.array.output_of(task),
                node,
                self.site.socket,
                frozenset({CLAIM, *(f.at for f in faults)}),
                late,
                self.site.spool,
            )
        )
        self._processes[task.pid] = _Process(task, task.restarts)
        self._note("start", task, pid=task.pid, node=node)
        self._watch_the_limit(task)
        self.strike(task, "started")

    @staticmethod
    def meets(fault: Any, task: Task) -> bool:
        """Return whether a fault is meant for the present life of a task."""
        return bool(fault.hits(task.array.ordinal, task.index or 0, task.restarts))

    def end(self, task: Task, doom: Doom, *, gently: bool = True, kills: bool = True) -> None:
        """End the present life of a task; a process that is not killed runs on unseen."""
        if not kills or not task.pid:
            task.pid = 0
            self.settle(task, doom)
            return
        task.doom = doom
        if doom.text:
            text = doom.text.format(node=task.node, job=task.raw_id) + "\n"
            output = task.array.output_of(task)
            with contextlib.suppress(OSError), output.open("a", encoding="utf-8") as file:
                file.write(text)
        self.send(task, signal.SIGCONT)
        if not gently:
            self.send(task, signal.SIGKILL)
            return
        task.state = COMPLETING
        self.send(task, signal.SIGTERM)
        pid = task.pid
        self.later(self.script.kill_wait_s, lambda: self._kill(task, pid))

    def send(self, task: Task, number: int) -> None:
        """Send a signal to all processes of a task."""
        if task.pid and number:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(task.pid, number)

    def reaped(self, pid: int, status: int) -> None:
        """Take note of the end of a process."""
        process = self._processes.pop(pid)
        task, restart, folder = process.task, process.restart, process.folder
        code = os.waitstatus_to_exitcode(status)
        exit_code = f"0:{-code}" if code < 0 else f"{code}:0"
        self._note("exit", task, pid=pid, restart=restart, exit=exit_code, folder=folder)
        if task.pid != pid:
            return
        task.pid = 0
        if task.doom is None:
            task.doom = Doom("COMPLETED" if code == 0 else "FAILED", exit_code)
        doom = task.doom
        self.strike(task, "ended")
        if not task.shown and not task.final and task.doom is doom:
            self.settle(task, doom)

    def settle(self, task: Task, doom: Doom) -> None:
        """Let the present life of a task be over."""
        task.state, task.exit_code, task.end = doom.state, doom.exit_code, time.time()
        task.shown, task.doom = "", None
        self._note("end", task, state=doom.state, exit=doom.exit_code)
        if doom.reason:
            self.again(task, doom)

    def again(self, task: Task, doom: Doom) -> None:
        """Queue a task again whose life is over."""
        if task.start:
            task.lives.append(task.life())
        task.restarts += 1
        task.struck.clear()
        task.state, task.reason, task.node = PENDING, doom.reason, ""
        task.start, task.end, task.exit_code = 0.0, 0.0, "0:0"
        task.submit = time.time()
        task.begin_at = task.submit + doom.wait_s
        self.later(doom.wait_s, lambda: None)

    def kill_all(self) -> None:
        """End every process at once and forget it."""
        for pid in list(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._processes.clear()

    @property
    def pids(self) -> list[int]:
        """Processes that were not reaped yet."""
        return list(self._processes)

    def claimed(self, pid: int, folder: str) -> None:
        """Take note of the attempt that a process has claimed."""
        if pid in self._processes:
            self._processes[pid].folder = folder

    def _kill(self, task: Task, pid: int) -> None:
        if task.pid == pid:
            self.send(task, signal.SIGKILL)

    def _watch_the_limit(self, task: Task) -> None:
        minutes = task.array.minutes
        if minutes is None:
            return
        pid, limit_s = task.pid, minutes * self.script.minute_s
        number, shell = task.array.what.signal
        words = task.array.what.options.get("signal", "").partition("@")[2].partition("@")
        before_s = float(words[0] or 60) * self.script.minute_s / 60.0
        text = "slurmstepd-{node}: error: *** JOB {job} ON {node} CANCELLED AT "
        text += f"{local_time(time.time() + limit_s)} DUE TO TIME LIMIT ***"

        def warn() -> None:
            if task.pid == pid and shell:
                self.send(task, number)

        def over() -> None:
            if task.pid == pid and task.state in (RUNNING, SUSPENDED):
                self.end(task, Doom("TIMEOUT", text=text))

        self.later(max(limit_s - before_s, 0.0), warn)
        self.later(limit_s, over)

    def _variables(self, task: Task) -> dict[str, str]:
        """Return the variables that SLURM gives to a task, as text."""
        what, cores = task.array.what, task.array.what.options.get("cpus-per-task", "1")
        words: dict[str, Any] = {
            "SLURMD_NODENAME": task.node,
            "SLURM_CLUSTER_NAME": self.site.name,
            "SLURM_CPUS_ON_NODE": cores,
            "SLURM_CPUS_PER_TASK": cores,
            "SLURM_JOBID": task.raw_id,
            "SLURM_JOB_CPUS_PER_NODE": cores,
            "SLURM_JOB_ID": task.raw_id,
            "SLURM_JOB_NAME": what.name,
            "SLURM_JOB_NODELIST": task.node,
            "SLURM_JOB_NUM_NODES": 1,
            "SLURM_JOB_PARTITION": task.array.partition or "main",
            "SLURM_JOB_UID": os.getuid(),
            "SLURM_LOCALID": 0,
            "SLURM_NNODES": 1,
            "SLURM_NODEID": 0,
            "SLURM_NODELIST": task.node,
            "SLURM_PROCID": 0,
            "SLURM_SUBMIT_DIR": what.cwd,
        }
        if task.restarts:
            words["SLURM_RESTART_COUNT"] = task.restarts
        if task.index is not None:
            indices = [other.index or 0 for other in task.array.tasks]
            words |= {
                "SLURM_ARRAY_JOB_ID": task.array.number,
                "SLURM_ARRAY_TASK_COUNT": len(indices),
                "SLURM_ARRAY_TASK_ID": task.index,
                "SLURM_ARRAY_TASK_MAX": max(indices),
                "SLURM_ARRAY_TASK_MIN": min(indices),
            }
        return {name: str(word) for name, word in words.items()}

    def _note(self, what: str, task: Task, **more: Any) -> None:
        row = {"what": what, "job": task.job_id, "name": task.array.what.name}
        self._log(row | {"restart": task.restarts} | more)
