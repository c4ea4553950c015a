"""What squeue prints."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neurosweep.testing.slurm.asked import read_asked, user_name
from neurosweep.testing.slurm.batch import Refused
from neurosweep.testing.slurm.model import Task, local_time
from neurosweep.testing.slurm.scheduler import Scheduler

_QUEUE_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
_SHORT_STATES = {
    "PENDING": "PD",
    "RUNNING": "R",
    "SUSPENDED": "S",
    "COMPLETING": "CG",
    "CONFIGURING": "CF",
    "COMPLETED": "CD",
    "CANCELLED": "CA",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "NODE_FAIL": "NF",
    "PREEMPTED": "PR",
    "OUT_OF_MEMORY": "OOM",
}


@dataclass(frozen=True)
class QueueRow:
    """One line of squeue: a task, or what of an array waits."""

    job_id: str
    task: Task

    def columns(self, now: float) -> dict[str, str]:
        """Return what each letter of a format stands for."""
        task, array = self.task, self.task.array
        state = task.known_state.split()[0]
        clock = _clock(task.elapsed(now)) if task.start else "0:00"
        reason = task.reason if task.waits else task.held or "None"
        limit = "UNLIMITED" if array.minutes is None else _clock(array.minutes * 60)
        return {
            "i": self.job_id,
            "A": str(task.raw_id),
            "F": str(array.number),
            "K": "N/A" if task.index is None else str(task.index),
            "j": array.what.name,
            "T": state,
            "t": _SHORT_STATES.get(state, state[:2]),
            "N": task.node,
            "r": reason,
            "R": task.node or f"({reason})",
            "M": clock,
            "l": limit,
            "V": local_time(task.submit),
            "S": local_time(task.start) if task.start else "N/A",
            "e": "N/A",
            "P": array.partition or "main",
            "u": user_name(),
            "U": str(os.getuid()),
            "D": "1",
            "C": array.what.options.get("cpus-per-task", "1"),
            "Z": str(array.what.cwd),
            "a": "root",
            "q": "normal",
            "Q": "4294901759",
        }


_QUEUE_FLAGS = {
    "-h": "noheader",
    "--noheader": "noheader",
    "-r": "array",
    "--array": "array",
    "--me": "me",
    "-a": "all",
    "--all": "all",
}
_QUEUE_VALUED = {
    "-o": "format",
    "--format": "format",
    "-n": "name",
    "--name": "name",
    "-j": "jobs",
    "--jobs": "jobs",
    "-t": "states",
    "--states": "states",
    "-u": "user",
    "--user": "user",
    "-p": "partition",
    "--partition": "partition",
}


def squeue(scheduler: Scheduler, arguments: Sequence[str]) -> str:
    """Return what squeue prints.

    Raises
    ------
    Refused
        With the text of its error.
    """
    asked, now = read_asked(arguments, _QUEUE_FLAGS, _QUEUE_VALUED, "squeue"), time.time()
    form = asked.values.get("format", _QUEUE_FORMAT)
    tasks = [task for task in scheduler.tasks if not task.hidden(now)]
    states = {state.upper() for state in asked.listed("states") or ()}
    if not states:
        tasks = [task for task in tasks if not task.final]
    elif "ALL" not in states:
        tasks = [task for task in tasks if task.known_state.split()[0] in states]
    jobs = asked.listed("jobs")
    if jobs is not None:
        known = {task.job_id for job in jobs for task in scheduler.find(job)}
        if len(jobs) == 1 and not known:
            msg = "slurm_load_jobs error: Invalid job id specified"
            raise Refused(msg)
        tasks = [task for task in tasks if task.job_id in known]
    names = asked.listed("name")
    tasks = [task for task in tasks if names is None or task.array.what.name in names]
    rows = _queue_rows(tasks, each="array" in asked.flags)
    header = [] if "noheader" in asked.flags else [_fill(form, _HEADERS)]
    lines = [*header, *(_fill(form, row.columns(now)) for row in rows)]
    return "".join(f"{line}\n" for line in lines)


_HEADERS = {
    "i": "JOBID",
    "P": "PARTITION",
    "j": "NAME",
    "u": "USER",
    "t": "ST",
    "T": "STATE",
    "M": "TIME",
    "D": "NODES",
    "R": "NODELIST(REASON)",
    "r": "REASON",
    "N": "NODELIST",
}


def _queue_rows(tasks: Sequence[Task], *, each: bool) -> Iterator[QueueRow]:
    """Yield what waits before what runs, as squeue does; compressed unless `each`."""
    waiting = [task for task in tasks if task.waits]
    by_array: dict[int, list[Task]] = {}
    for task in waiting:
        by_array.setdefault(task.array.number, []).append(task)
    for group in by_array.values():
        if each or group[0].index is None:
            yield from (QueueRow(task.job_id, task) for task in group)
        else:
            array = group[0].array
            limit = f"%{array.throttle}" if array.throttle else ""
            yield QueueRow(f"{array.number}_[{spans(group)}{limit}]", group[0])
    yield from (QueueRow(task.job_id, task) for task in tasks if not task.waits)


def spans(tasks: Sequence[Task]) -> str:
    """Return indices as SLURM compresses them: ``2-5,8``."""
    found: list[list[int]] = []
    for index in sorted(task.index or 0 for task in tasks):
        if found and found[-1][1] == index - 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return ",".join(f"{low}-{high}" if low != high else str(low) for low, high in found)


def _fill(form: str, columns: dict[str, str]) -> str:
    def word(found: re.Match[str]) -> str:
        value, width = columns.get(found[3], ""), int(found[2] or 0)
        if not width:
            return value
        return value[:width].rjust(width) if found[1] else value[:width].ljust(width)

    return re.sub(r"%(\.)?(\d+)?([a-zA-Z])", word, form)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
