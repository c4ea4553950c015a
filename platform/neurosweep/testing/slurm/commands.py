"""The commands of SLURM, as far as jobs and their owners use them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosweep.testing.slurm.accounting_table import sacct
from neurosweep.testing.slurm.asked import read_asked, user_name
from neurosweep.testing.slurm.batch import Refused, minutes_of, read_submission, signal_number
from neurosweep.testing.slurm.model import Task, local_time
from neurosweep.testing.slurm.queue_table import spans, squeue
from neurosweep.testing.slurm.scheduler import Scheduler

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


@dataclass(frozen=True)
class Reply:
    """Hold what a command prints and returns."""

    out: str = ""
    error: str = ""
    code: int = 0


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
    words = [word for word in call.arguments if not word.startswith("-")]
    verb, *rest = words or [""]
    known: Mapping[str, Callable[[Scheduler, Sequence[str]], Reply]] = {
        "update": _update,
        "show": _show,
        "ping": lambda _scheduler, _rest: Reply("Slurmctld(primary) at fake is UP\n"),
    }
    if verb in known:
        return known[verb](scheduler, rest)
    if verb in _VERBS:
        return _each(scheduler, rest, _VERBS[verb])
    return Reply(error=f"scontrol: error: invalid keyword: {verb}\n", code=1)


_OVER = "Job has already finished"


def _hold(_scheduler: Scheduler, task: Task) -> None:
    if task.final:
        raise Refused(_OVER)
    task.held = "JobHeldAdmin" if os.getuid() == 0 else "JobHeldUser"


def _release(_scheduler: Scheduler, task: Task) -> None:
    if task.final:
        raise Refused(_OVER)
    task.held, task.begin_at = "", 0.0


def _requeue(scheduler: Scheduler, task: Task) -> None:
    scheduler.requeue(task)


def _requeue_hold(scheduler: Scheduler, task: Task) -> None:
    scheduler.requeue(task, hold=True)


_Action = Callable[[Scheduler, Task], None]
_VERBS: Mapping[str, _Action] = {
    "hold": _hold,
    "uhold": _hold,
    "release": _release,
    "requeue": _requeue,
    "requeuehold": _requeue_hold,
}


def _each(scheduler: Scheduler, words: Sequence[str], action: _Action) -> Reply:
    lines: list[str] = []
    for word in (part for text in words for part in text.split(",")):
        tasks = scheduler.find(word.partition("=")[2] or word)
        if tasks:
            lines += _outcomes(scheduler, tasks, action)
        else:
            lines.append(f"Invalid job id specified for job {word}")
            if action in (_hold, _release):
                lines.append("slurm_suspend error: Invalid job id specified")
    return Reply(error="".join(f"{line}\n" for line in lines), code=int(bool(lines)))


def _outcomes(scheduler: Scheduler, tasks: Sequence[Task], action: _Action) -> list[str]:
    """Do something to tasks; return nothing when all went well, else a line for each outcome."""
    texts: dict[str, list[Task]] = {}
    for task in tasks:
        try:
            action(scheduler, task)
            text = "No error"
        except Refused as refusal:
            text = str(refusal)
        texts.setdefault(text, []).append(task)
    if set(texts) == {"No error"}:
        return []
    if tasks[0].index is None:
        return [f"{text} for job {tasks[0].job_id}" for text in texts]
    number = tasks[0].array.number
    return [f"{number}_{spans(group)}: {text}" for text, group in texts.items()]


def _update(scheduler: Scheduler, words: Sequence[str]) -> Reply:
    pairs = {name.lower(): value for name, _, value in (word.partition("=") for word in words)}
    job = pairs.pop("jobid", "")
    tasks = scheduler.find(job)
    if not tasks:
        return Reply(error=f"Invalid job id specified for job {job}\n", code=1)
    for name in pairs:
        if name not in ("arraytaskthrottle", "timelimit"):
            return Reply(error=f"Update of this parameter is not supported: {name}\n", code=1)

    def update(_scheduler: Scheduler, task: Task) -> None:
        if task.final:
            raise Refused(_OVER)
        if "arraytaskthrottle" in pairs:
            task.array.throttle = int(pairs["arraytaskthrottle"])
        if "timelimit" in pairs:
            task.array.minutes = minutes_of(pairs["timelimit"])

    # Some tasks may be over: that is an error, after the others were updated.
    lines = _outcomes(scheduler, tasks, update)
    return Reply(error="".join(f"{line}\n" for line in lines), code=int(bool(lines)))


def _show(scheduler: Scheduler, words: Sequence[str]) -> Reply:
    what, *rest = [*words, ""]
    if what == "config":
        script = scheduler.script
        lines = f"MaxArraySize            = {script.max_array}\n"
        return Reply(
            lines + "PreemptMode             = REQUEUE\nMinJobAge               = 3600 sec\n"
        )
    if what.startswith("job"):
        tasks = scheduler.find(what.partition("=")[2] or rest[0])
        if not tasks:
            return Reply(error="slurm_load_jobs error: Invalid job id specified\n", code=1)
        return Reply("".join(_description(task) for task in tasks))
    return Reply(error=f"scontrol: error: invalid entity: {what}\n", code=1)


def _description(task: Task) -> str:
    array, what = task.array, task.array.what
    head = f"JobId={task.raw_id}"
    if task.index is not None:
        head += f" ArrayJobId={array.number} ArrayTaskId={task.index}"
        head += f" ArrayTaskThrottle={array.throttle}" if array.throttle else ""
    limit = "UNLIMITED" if array.minutes is None else f"{array.minutes:g}"
    output = array.output_of(task)
    return (
        f"{head} JobName={what.name}\n"
        f"   UserId={user_name()}(0) GroupId={user_name()}(0) MCS_label=N/A\n"
        f"   JobState={task.known_state.split()[0]} Reason={task.reason.replace(' ', '_')} "
        "Dependency=(null)\n"
        f"   Requeue={int(what.requeue)} Restarts={task.restarts} BatchFlag=1 Reboot=0 "
        f"ExitCode={task.exit_code}\n"
        f"   RunTime={int(task.elapsed(time.time()))} TimeLimit={limit} TimeMin=N/A\n"
        f"   SubmitTime={local_time(array.submit)} EligibleTime={local_time(array.submit)}\n"
        f"   StartTime={local_time(task.start)} EndTime={local_time(task.end)} Deadline=N/A\n"
        f"   Partition={array.partition or 'main'} AllocNode:Sid=localhost:1\n"
        f"   NodeList={task.node or '(null)'}\n"
        f"   Command={what.command}\n   WorkDir={what.cwd}\n"
        f"   StdErr={output}\n   StdIn=/dev/null\n   StdOut={output}\n\n"
    )


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
