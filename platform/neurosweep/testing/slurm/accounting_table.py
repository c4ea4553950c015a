"""What sacct prints."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from neurosweep.testing.slurm.asked import read_asked, user_name
from neurosweep.testing.slurm.batch import Refused
from neurosweep.testing.slurm.model import FINAL, Array, Life, Task, local_time
from neurosweep.testing.slurm.scheduler import Scheduler
from neurosweep.testing.slurm.script import OldJob

_ACCOUNTING_FLAGS = {
    "-X": "allocations",
    "--allocations": "allocations",
    "-P": "parsable",
    "--parsable2": "parsable",
    "-n": "noheader",
    "--noheader": "noheader",
    "-D": "duplicates",
    "--duplicates": "duplicates",
    "-a": "all",
    "--allusers": "all",
}
_ACCOUNTING_VALUED = {
    "-S": "since",
    "--starttime": "since",
    "-E": "until",
    "--endtime": "until",
    "-o": "format",
    "--format": "format",
    "-j": "jobs",
    "--jobs": "jobs",
    "--name": "name",
    "-s": "state",
    "--state": "state",
    "-u": "user",
    "--user": "user",
}


@dataclass(frozen=True)
class AccountingRow:
    """One life of a task as accounting keeps it."""

    job_id: str
    raw_id: int
    name: str
    life: Life
    array: Array | None = None

    def columns(self, now: float) -> dict[str, Callable[[], str]]:
        """Return what each field of a format stands for."""
        life = self.life
        elapsed = max((life.end or now) - life.start, 0.0) if life.start else 0.0
        options = self.array.what.options if self.array else {}
        cores = options.get("cpus-per-task", "1")
        return {
            "JOBID": lambda: self.job_id,
            "JOBIDRAW": lambda: str(self.raw_id),
            "JOBNAME": lambda: self.name,
            "STATE": lambda: life.state,
            "EXITCODE": lambda: life.exit_code,
            "NODELIST": lambda: life.node or "None assigned",
            "ELAPSED": lambda: time.strftime("%H:%M:%S", time.gmtime(elapsed)),
            "ELAPSEDRAW": lambda: str(int(elapsed)),
            "SUBMIT": lambda: local_time(life.submit),
            "START": lambda: local_time(life.start),
            "END": lambda: local_time(life.end),
            "ALLOCTRES": lambda: f"billing={cores},cpu={cores},node=1",
            "ALLOCCPUS": lambda: cores,
            "NCPUS": lambda: cores,
            "PARTITION": lambda: options.get("partition", "main"),
            "USER": user_name,
            "UID": lambda: str(os.getuid()),
            "ACCOUNT": lambda: options.get("account", "root"),
            "QOS": lambda: options.get("qos", "normal"),
            "WORKDIR": lambda: str(self.array.what.cwd) if self.array else "",
        }

    @property
    def sort_key(self) -> tuple[int, int]:
        """Array, then index."""
        number, _, index = self.job_id.partition("_")
        return int(number), int(index or 0)


def sacct(scheduler: Scheduler, arguments: Sequence[str]) -> str:
    """Return what sacct prints.

    Raises
    ------
    Refused
        With the text of its error.
    """
    asked = read_asked(arguments, _ACCOUNTING_FLAGS, _ACCOUNTING_VALUED, "sacct")
    now = time.time()
    names, jobs = asked.listed("name"), asked.listed("jobs")
    since = _time_of(asked.values.get("since"), now)
    rows = list(_accounting(scheduler, now, duplicates="duplicates" in asked.flags))
    rows = [row for row in rows if (row.life.end or now) >= since]
    rows = [row for row in rows if names is None or row.name in names]
    rows = [row for row in rows if jobs is None or _is_one_of(row, jobs)]
    fields = asked.values.get("format", "JobID,JobName,State,ExitCode").split(",")
    lines = [] if "noheader" in asked.flags else ["|".join(fields)]
    for row in sorted(rows, key=lambda row: row.sort_key):
        columns = row.columns(now)
        unknown = [name for name in fields if name.upper() not in columns]
        if unknown:
            msg = f'sacct: error: Invalid field requested: "{unknown[0]}"'
            raise Refused(msg)
        lines.append("|".join(columns[name.upper()]() for name in fields))
    return "".join(f"{line}\n" for line in lines)


def _is_one_of(row: AccountingRow, jobs: set[str]) -> bool:
    return bool({row.job_id, row.job_id.partition("_")[0], str(row.raw_id)} & jobs)


def _time_of(text: str | None, now: float) -> float:
    """Return seconds since 1970; without a text, today's midnight."""
    if text is None:
        return time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))
    found = re.fullmatch(r"now-(\d+)(second|minute|hour|day)s?", text)
    if found:
        units = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
        return now - int(found[1]) * units[found[2]]
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
        try:
            return time.mktime(time.strptime(text, form))
        except ValueError:
            continue
    msg = f"sacct: error: Invalid time specification (pos=0): {text}"
    raise Refused(msg)


def _accounting(scheduler: Scheduler, now: float, *, duplicates: bool) -> Iterator[AccountingRow]:
    for old in scheduler.script.history:
        yield _old_row(old)
    for task in scheduler.tasks:
        if task.hidden(now):
            continue
        lives = [_as_known(life, now, scheduler) for life in _lives_of(task)]
        known = [life for life in lives if life is not None]
        for life in known if duplicates else known[-1:]:
            array = task.array
            yield AccountingRow(task.job_id, task.raw_id, array.what.name, life, array)


def _lives_of(task: Task) -> list[Life]:
    """Return the starts of a task; what never started is not in accounting."""
    present = [task.life()] if task.start else []
    return [*task.lives, *present]


def _as_known(life: Life, now: float, scheduler: Scheduler) -> Life | None:
    """Return a life as accounting knows it, which lags behind."""
    lag = scheduler.script.accounting_lag_s
    if now - life.start < lag:
        return None
    if life.end and now - life.end < lag:
        return Life("RUNNING", "0:0", life.node, life.submit, life.start)
    final = life.state.split()[0] in FINAL or bool(life.end)
    # Accounting knows nothing of the moments between: for it a task runs until it has ended.
    return life if final else Life("RUNNING", life.exit_code, life.node, life.submit, life.start)


def _old_row(old: OldJob) -> AccountingRow:
    life = Life(old.state, old.exit_code, old.node, old.submit, old.start, old.end)
    return AccountingRow(old.job_id, int(old.job_id.partition("_")[0]), old.name, life)
