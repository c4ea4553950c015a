"""What a fake cluster is told to do wrong, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from neurosweep.core.errors import ConfigError

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo")
ALWAYS = -1


class Answer(StrEnum):
    """How a command answers that a fault has struck."""

    FAIL = "fail"
    FAIL_AFTER = "fail_after"
    HANG = "hang"
    HANG_AFTER = "hang_after"
    STALE = "stale"
    CUT = "cut"
    EMPTY = "empty"
    KILL_CALLER = "kill_caller"
    KILL_CALLER_AFTER = "kill_caller_after"


class Event(StrEnum):
    """What happens to a task."""

    KILL = "kill"
    OOM = "oom"
    OVER_MEMORY = "over_memory"
    TIMEOUT = "timeout"
    PREEMPT = "preempt"
    NODE_FAIL = "node_fail"
    CANCEL = "cancel"
    SUSPEND = "suspend"
    REQUEUE = "requeue"
    REQUEUE_HOLD = "requeue_hold"
    SHOW = "show"
    VANISH = "vanish"
    LATE = "late"


@dataclass(frozen=True)
class CommandFault:
    """Say which calls of a command go wrong, and how.

    Attributes
    ----------
    command
        One of `COMMANDS`.
    does
        ``fail``: nothing is done, an error is printed; ``fail_after``: it is done, and an error is
        printed; ``hang``, ``hang_after``: the same two with no answer for `for_s` seconds;
        ``stale``: the last answer to the same question; ``cut``: half of the answer; ``empty``:
        nothing is printed, without an error; ``kill_caller``, ``kill_caller_after``: the process
        that asked is killed, before or after it is done.
    first
        Number of the first call that goes wrong, from 1.
    count
        How many calls in a row; -1 for all from then on.
    for_s
        How long a hanging call hangs, seconds.
    text
        What a failing call prints.
    """

    command: str
    does: Answer
    first: int = 1
    count: int = 1
    for_s: float = 60.0
    text: str = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"

    def hits(self, command: str, number: int) -> bool:
        """Return whether the call of this number goes wrong."""
        if command != self.command or number < self.first:
            return False
        return self.count == ALWAYS or number < self.first + self.count


@dataclass(frozen=True)
class TaskFault:
    """Say which task meets which event, and when.

    Attributes
    ----------
    does
        ``kill``: the process is killed; ``oom``: so, and SLURM says OUT_OF_MEMORY;
        ``over_memory``: so, and SLURM says FAILED 0:9, with the reason in the task's output only;
        ``timeout``; ``preempt``: the user's signal, `for_s` seconds of grace, then the end;
        ``node_fail``; ``cancel``: by user `uid`; ``suspend``: for `for_s` seconds; ``requeue``;
        ``requeue_hold``: started again after `for_s` seconds; ``show``: SLURM says `text` for
        `for_s` seconds; ``vanish``: neither squeue nor sacct knows the task for `for_s` seconds,
        or ever again; ``late``: files named in `files` become visible `for_s` seconds late.
    array
        Which submission, from 1; None for all.
    task
        Index in the array; None for all.
    restart
        Which life of the task, from 0; None for all.
    at
        ``queued``, ``started``, ``ended`` (its process), or the name of a file of the attempt:
        the event comes when that file has just appeared, before the process goes on.
    after_s
        Seconds later.
    for_s
        See above.
    requeue
        Whether the task is queued again; None: what the submission says.
    kills
        Whether the event also ends the process; a process that is left alone runs on unseen.
    uid
        Who cancels.
    text
        State that ``show`` shows.
    files
        Names of files that come late.
    """

    does: Event
    array: int | None = None
    task: int | None = None
    restart: int | None = 0
    at: str = "claim.json"
    after_s: float = 0.0
    for_s: float | None = None
    requeue: bool | None = None
    kills: bool = True
    uid: int = 4321
    text: str = "CONFIGURING"
    files: tuple[str, ...] = ("status.json",)

    def hits(self, array: int, task: int, restart: int) -> bool:
        """Return whether a life of a task meets the event."""
        pairs = ((self.array, array), (self.task, task), (self.restart, restart))
        return all(wanted is None or wanted == given for wanted, given in pairs)

    def seconds(self, default: float) -> float:
        """Return `for_s`, or what holds where it is not given."""
        return default if self.for_s is None else self.for_s


@dataclass(frozen=True)
class OldJob:
    """Describe a job of earlier times that accounting still knows: ids are used again.

    Attributes
    ----------
    job_id, name, state, exit_code, node
        As sacct prints them.
    submit, start, end
        Seconds since 1970.
    """

    job_id: str
    name: str
    state: str = "COMPLETED"
    exit_code: str = "0:0"
    node: str = "n1"
    submit: float = 1_500_000_000.0
    start: float = 1_500_000_001.0
    end: float = 1_500_000_002.0


@dataclass(frozen=True)
class FaultScript:
    """Hold everything that goes wrong on a fake cluster, and how its clocks run.

    Attributes
    ----------
    commands, tasks
        The faults.
    history
        What accounting knows from earlier times.
    minute_s
        Length of a minute of a time limit, seconds.
    kill_wait_s
        Between the request to end and the end by force, seconds.
    requeue_wait_s
        How long a task waits that was queued again, seconds.
    accounting_lag_s
        How far sacct lags behind, seconds.
    max_array
        Array indices are smaller than this.
    """

    commands: tuple[CommandFault, ...] = ()
    tasks: tuple[TaskFault, ...] = ()
    history: tuple[OldJob, ...] = ()
    minute_s: float = 60.0
    kill_wait_s: float = 0.5
    requeue_wait_s: float = 0.2
    accounting_lag_s: float = 0.0
    max_array: int = 1001

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "script") -> Self:
        """Read a script from TOML or JSON data.

        Raises
        ------
        ConfigError
            When it holds something else; all problems are named.
        """
        problems: list[str] = []
        values = dict(data)
        kinds = {"commands": CommandFault, "tasks": TaskFault, "history": OldJob}
        for name, kind in kinds.items():
            rows = enumerate(values.get(name, ()))
            made = [_row(kind, row, f"{name}[{index}]", problems) for index, row in rows]
            values[name] = tuple(row for row in made if row is not None)
        script: Self | None = _row(cls, values, "", problems)
        if problems or script is None:
            msg = f"{where}: {len(problems)} problems\n  " + "\n  ".join(problems)
            raise ConfigError(msg)
        return script

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a script from a TOML file.

        Raises
        ------
        ConfigError
            When the file is no script.
        """
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{path}: cannot be read as TOML: {error}"
            raise ConfigError(msg) from error
        return cls.from_dict(data, str(path))


def _row(kind: type[Any], row: Any, where: str, problems: list[str]) -> Any:
    """Build one dataclass from data, or note what is wrong and return None."""
    if not isinstance(row, Mapping):
        problems.append(f"{where}: expected a table, got {row!r}")
        return None
    known = {field.name for field in fields(kind)}
    before = len(problems)
    prefix = f"{where}." if where else ""
    problems += [
        f"{prefix}{name}: unknown key; known are {', '.join(sorted(known))}"
        for name in sorted(set(row) - known)
    ]
    values = {**row}
    if "does" in known:
        choices = Answer if kind is CommandFault else Event
        if values.get("does") not in tuple(choices):
            allowed = ", ".join(choices)
            problems.append(f"{prefix}does: is {values.get('does')!r}, allowed are {allowed}")
        else:
            values["does"] = choices(values["does"])
    if kind is CommandFault and values.get("command") not in COMMANDS:
        allowed = ", ".join(COMMANDS)
        problems.append(f"{prefix}command: is {values.get('command')!r}, allowed are {allowed}")
    if "files" in values:
        values["files"] = tuple(values["files"])
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except TypeError as error:
        problems.append(f"{prefix or 'script'}: {error}")
        return None
