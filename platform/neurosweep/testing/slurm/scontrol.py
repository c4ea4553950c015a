"""What scontrol does to jobs and says of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from neurosweep.testing.slurm.asked import Reply, user_name
from neurosweep.testing.slurm.batch import Refused, minutes_of
from neurosweep.testing.slurm.model import Task, local_time
from neurosweep.testing.slurm.queue_table import spans
from neurosweep.testing.slurm.scheduler import Scheduler


def scontrol(scheduler: Scheduler, arguments: Sequence[str]) -> Reply:
    """Do what scontrol is asked for and return what it prints."""
    words = [word for word in arguments if not word.startswith("-")]
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
