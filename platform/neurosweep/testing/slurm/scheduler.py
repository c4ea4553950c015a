"""The fake cluster's queue: what waits, and why, and what starts next."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator

from neurosweep.testing.slurm.batch import (
    Refused,
    Submission,
    array_of,
    dependencies_of,
    minutes_of,
)
from neurosweep.testing.slurm.events import HELD, Strikes
from neurosweep.testing.slurm.lives import Later, Lives, Log
from neurosweep.testing.slurm.model import WITH_SLOT, Array, Doom, Task
from neurosweep.testing.slurm.script import FaultScript
from neurosweep.testing.slurm.setup import Site

_NEVER = "DependencyNeverSatisfied"


class Scheduler:
    """Hold the jobs of a cluster and start them when they may start.

    Parameters
    ----------
    site
        The cluster.
    script
        What goes wrong.
    start_id
        First job id.
    later
        Calls something after a number of seconds.
    log
        Is told of every start and end.
    """

    def __init__(
        self, site: Site, script: FaultScript, start_id: int, later: Later, log: Log
    ) -> None:
        self.site = site
        self.lives = Lives(site, script, later, log)
        self.strikes = Strikes(self.lives)
        self.lives.strike = self.strikes.strike
        self.arrays: dict[int, Array] = {}
        self._next_id = start_id

    @property
    def script(self) -> FaultScript:
        """What goes wrong."""
        return self.lives.script

    @property
    def tasks(self) -> Iterator[Task]:
        """All tasks, in the order of their submission."""
        for array in self.arrays.values():
            yield from array.tasks

    def submit(self, what: Submission) -> Array:
        """Queue a job.

        Raises
        ------
        Refused
            With the text that sbatch prints.
        """
        options = what.options
        indices: list[int | None] = [None]
        throttle = 0
        if "array" in options:
            found, throttle = array_of(options["array"], self.script.max_array)
            indices = [*found]
        minutes = minutes_of(options.get("time", ""))
        after = dependencies_of(options.get("dependency", ""))
        array = Array(
            self._new_id(), len(self.arrays) + 1, what, time.time(), throttle, minutes, after
        )
        self.arrays[array.number] = array
        array.tasks = [Task(array, index, array.number, submit=array.submit) for index in indices]
        for task in array.tasks:
            task.held = "JobHeldUser" if "hold" in options else ""
            self.strikes.strike(task, "queued")
        return array

    def find(self, word: str) -> list[Task]:
        """Return the tasks that a job id means: one, or all of an array; none when unknown."""
        number, _, rest = word.partition("_")
        if not number.isdigit():
            return []
        array = self.arrays.get(int(number))
        if array is None:
            return [task for task in self.tasks if str(task.raw_id) == word and task.start]
        if not rest:
            return list(array.tasks)
        wanted = set(array_of(rest.strip("[]"), self.script.max_array)[0])
        return [task for task in array.tasks if task.index in wanted]

    def schedule(self) -> None:
        """Start what may start; say of the rest why it waits."""
        busy = [task for task in self.tasks if task.state in WITH_SLOT]
        running = Counter(task.array.number for task in busy)
        loads = Counter({f"n{number + 1}": 0 for number in range(self.site.nodes)})
        loads.update(task.node for task in busy)
        for task in self.tasks:
            if not task.waits:
                continue
            number = task.array.number
            reason = self._why_waiting(task, running[number], len(busy))
            if reason:
                task.reason = reason
                continue
            node = min(sorted(loads), key=lambda name: loads[name])
            task.raw_id = self._raw_id(task)
            busy.append(task)
            running[number] += 1
            loads[node] += 1
            self.lives.start(task, node)

    def cancel(self, task: Task) -> None:
        """End a task as its user asks."""
        if not task.final:
            self.lives.end(task, Doom(f"CANCELLED by {os.getuid()}"))

    def requeue(self, task: Task, *, hold: bool = False) -> None:
        """Queue a task again that runs or is over.

        Raises
        ------
        Refused
            With the text that scontrol prints.
        """
        if task.waits:
            msg = "Job is pending execution"
            raise Refused(msg)
        task.held = HELD if hold else ""
        doom = Doom("REQUEUED", "0:0", HELD if hold else "BeginTime", self.script.requeue_wait_s)
        if task.final:
            # What is over is run once more, even what was cancelled.
            self.lives.again(task, doom)
        else:
            self.lives.end(task, doom)

    def _why_waiting(self, task: Task, running: int, busy: int) -> str:
        array = task.array
        checks = (
            (bool(task.held), task.held),
            (time.time() < task.begin_at, task.reason if task.reason == HELD else "BeginTime"),
            (bool(array.after), self._dependency(task) if array.after else ""),
            (0 < array.throttle <= running, "JobArrayTaskLimit"),
            (busy >= self.site.slots, "Resources"),
        )
        return next((reason for holds, reason in checks if holds and reason), "")

    def _dependency(self, task: Task) -> str:
        """Return why a task waits for others; empty when it need not."""
        answers = [self._condition(task, kind, jobs) for kind, jobs in task.array.after]
        if None in answers:
            if task.array.what.options.get("kill-on-invalid-dep") == "yes":
                self.lives.settle(task, Doom("CANCELLED"))
            return _NEVER
        return "" if all(answers) else "Dependency"

    def _condition(self, task: Task, kind: str, jobs: list[int]) -> bool | None:
        """Return whether one condition holds; None when it never will."""
        if kind == "singleton":
            name, own = task.array.what.name, task.array.number
            earlier = [a for a in self.arrays.values() if a.what.name == name and a.number < own]
            return all(array.over for array in earlier)
        others = [t for job in jobs if job in self.arrays for t in self.arrays[job].tasks]
        if kind == "aftercorr":
            others = [other for other in others if other.index == task.index]
        if kind == "after":
            return all(other.start or other.final for other in others)
        if kind == "afterany":
            return all(other.final for other in others)
        good = [other.state == "COMPLETED" for other in others if other.final]
        wanted = kind != "afternotok"
        if any(fine is not wanted for fine in good):
            return None
        return len(good) == len(others)

    def _raw_id(self, task: Task) -> int:
        """Return the id of a task's own: the last of an array keeps that of the array."""
        if task.index is None or task.restarts:
            return task.raw_id
        others = [other for other in task.array.tasks if other is not task]
        last = all(other.raw_id != task.array.number or other.final for other in others)
        return task.array.number if last else self._new_id()

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1
