"""The commands of SLURM, as far as jobs and their owners use them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurosweep.testing.slurm.accounting_table import sacct
from neurosweep.testing.slurm.asked import Reply, read_asked
from neurosweep.testing.slurm.batch import Refused, read_submission, signal_number
from neurosweep.testing.slurm.model import local_time
from neurosweep.testing.slurm.queue_table import squeue
from neurosweep.testing.slurm.scheduler import Scheduler
from neurosweep.testing.slurm.scontrol import scontrol

VERSION = "slurm-fake 22.05.8"
PARTITIONS = ("main", "urgent")


@dataclass(frozen=True)
class Call:
    """Hold one call of a command.

    Attributes
    ----------
    command, arguments
        The command line.
    cwd, environ
        Of the process that calls.
    caller
        Pid of the process that started the command.
    """

    command: str
    arguments: tuple[str, ...]
    cwd: Path
    environ: Mapping[str, str]
    caller: int


def answer(scheduler: Scheduler, call: Call) -> Reply:
    """Do what a command asks and return what it prints."""
    if call.arguments[:1] in (("--version",), ("-V",)):
        return Reply(f"{VERSION}\n")
    try:
        return _COMMANDS[call.command](scheduler, call)
    except Refused as refusal:
        return Reply(error=f"{refusal}\n", code=255 if "unrecognized option" in str(refusal) else 1)


def _sbatch(scheduler: Scheduler, call: Call) -> Reply:
    what = read_submission(call.arguments, call.cwd, call.environ, PARTITIONS)
    if "test-only" in what.options:
        return Reply(error=f"sbatch: Job 1 to start at {local_time(time.time())}\n")
    number = scheduler.submit(what).number
    parsable = "parsable" in what.options
    return Reply(f"{number}\n" if parsable else f"Submitted batch job {number}\n")


def _squeue(scheduler: Scheduler, call: Call) -> Reply:
    return Reply(squeue(scheduler, call.arguments))


def _sacct(scheduler: Scheduler, call: Call) -> Reply:
    return Reply(sacct(scheduler, call.arguments))


_CANCEL_VALUED = {
    "-n": "name",
    "--name": "name",
    "--jobname": "name",
    "-s": "signal",
    "--signal": "signal",
    "-u": "user",
    "--user": "user",
    "-t": "state",
    "--state": "state",
}
_CANCEL_FLAGS = {"-Q": "quiet", "--quiet": "quiet", "-b": "batch", "-f": "full", "--me": "me"}


def _scancel(scheduler: Scheduler, call: Call) -> Reply:
    words = [word for word in call.arguments if not re.fullmatch(r"\d+(_[\d\[\],%-]+)?", word)]
    jobs = [word for word in call.arguments if word not in words]
    asked = read_asked(words, _CANCEL_FLAGS, _CANCEL_VALUED, "scancel")
    names = asked.listed("name")
    tasks = [task for job in jobs for task in scheduler.find(job)]
    if names is not None:
        named = [task for task in scheduler.tasks if task.array.what.name in names]
        tasks = [task for task in tasks if task in named] if jobs else named
    elif not jobs:
        msg = "scancel: error: No job identification provided"
        raise Refused(msg)
    for task in tasks:
        if "signal" in asked.values:
            scheduler.lives.send(task, signal_number(asked.values["signal"]))
        else:
            scheduler.cancel(task)
    return Reply()


def _scontrol(scheduler: Scheduler, call: Call) -> Reply:
    return scontrol(scheduler, call.arguments)


def _sinfo(scheduler: Scheduler, call: Call) -> Reply:
    flags, valued = (
        {"-h": "noheader", "--noheader": "noheader"},
        {"-o": "format", "-p": "partition"},
    )
    asked = read_asked(call.arguments, flags, valued, "sinfo")
    count = scheduler.site.nodes
    nodes, cores = f"n[1-{count}]", -(-scheduler.site.slots // count)
    form = asked.values.get("format", "%P %a %l %D %t %N")
    lines = [] if "noheader" in asked.flags else ["PARTITION AVAIL TIMELIMIT NODES STATE NODELIST"]
    for name in PARTITIONS:
        mark = "*" if name == PARTITIONS[0] else ""
        columns = {"P": name + mark, "R": name, "a": "up", "l": "infinite", "D": str(count)}
        columns |= {"t": "idle", "T": "idle", "N": nodes, "c": str(cores), "m": "4000"}
        columns |= {"G": "(null)", "f": "(null)", "s": "1-infinite"}
        if asked.values.get("partition", name) == name:
            lines.append(_filled(form, columns))
    return Reply("".join(f"{line}\n" for line in lines))


def _filled(form: str, columns: Mapping[str, str]) -> str:
    return re.sub(r"%\.?\d*([a-zA-Z])", lambda found: columns.get(found[1], ""), form)


_COMMANDS: Mapping[str, Callable[[Scheduler, Call], Reply]] = {
    "sbatch": _sbatch,
    "squeue": _squeue,
    "sacct": _sacct,
    "scancel": _scancel,
    "scontrol": _scontrol,
    "sinfo": _sinfo,
}
