"""What sbatch is asked for: its options, from the command line and from the script."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_VALUED_NAMES = """
account array begin chdir clusters comment constraint cores-per-socket cpus-per-gpu cpus-per-task
deadline dependency error exclude export export-file gid gpus gpus-per-node gpus-per-task gres
input job-name kill-on-invalid-dep licenses mail-type mail-user mem mem-per-cpu mem-per-gpu mincpus
nice nodelist nodes ntasks ntasks-per-node open-mode output partition priority profile qos
reservation signal switches threads-per-core time time-min tmp uid wckey wrap
"""
_FLAG_NAMES = """
contiguous exclusive get-user-env hold no-requeue overcommit oversubscribe parsable quiet reboot
requeue spread-job test-only use-min-nodes verbose wait
"""
_VALUED = frozenset(_VALUED_NAMES.split())
_FLAGS = frozenset(_FLAG_NAMES.split())
_SHORT = {
    "a": "array",
    "A": "account",
    "b": "begin",
    "c": "cpus-per-task",
    "C": "constraint",
    "d": "dependency",
    "D": "chdir",
    "e": "error",
    "J": "job-name",
    "M": "clusters",
    "n": "ntasks",
    "N": "nodes",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "t": "time",
    "w": "nodelist",
    "x": "exclude",
}
_SHORT_FLAGS = {"H": "hold", "Q": "quiet", "v": "verbose", "W": "wait"}
_DIRECTIVE = re.compile(r"#SBATCH\s+(.*)")
DEPENDENCIES = ("after", "afterany", "afterok", "afternotok", "aftercorr", "singleton")


class Refused(Exception):  # noqa: N818 - an answer, not a mistake of this program
    """Carry what a command prints when it does nothing."""


@dataclass(frozen=True)
class Submission:
    """Hold one accepted call of sbatch.

    Attributes
    ----------
    options
        Long name of an option to its value; flags have an empty one.
    script
        Lines of the batch script.
    command
        What squeue shows as the command.
    cwd
        Folder that the tasks start in.
    environ
        Environment that they inherit.
    """

    options: Mapping[str, str]
    script: tuple[str, ...]
    command: str
    cwd: Path
    environ: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """Job name."""
        default = "wrap" if "wrap" in self.options else Path(self.command).name
        return self.options.get("job-name", default)

    @property
    def requeue(self) -> bool:
        """Whether a task that is preempted or loses its node is queued again."""
        return "no-requeue" not in self.options

    @property
    def signal(self) -> tuple[int, bool]:
        """Number of the signal before the end, 0 for none, and whether the batch shell gets it."""
        word = self.options.get("signal", "").partition("@")[0]
        shell, _, name = word.rpartition(":")
        return (signal_number(name) if name else 0), "B" in shell


def read_submission(
    arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], partitions: Sequence[str]
) -> Submission:
    """Read a call of sbatch as SLURM does: the command line wins over the script.

    Raises
    ------
    Refused
        With the text that sbatch prints.
    """
    options, rest = _read_options(list(arguments))
    if "wrap" in options:
        lines, command = ["#!/bin/sh", options["wrap"]], "(null)"
    elif rest:
        command = str(cwd / rest[0])
        try:
            lines = Path(command).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            msg = f"sbatch: error: Unable to open file {rest[0]}"
            raise Refused(msg) from error
    else:
        msg = "sbatch: error: the fake cluster reads no script from its standard input"
        raise Refused(msg)
    words = [word for line in lines for word in _directive(line)]
    options = {**_read_options(words)[0], **options}
    wanted = options.get("partition", partitions[0])
    if wanted not in partitions:
        msg = (
            f"sbatch: error: invalid partition specified: {wanted}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified"
        )
        raise Refused(msg)
    folder = cwd / options.get("chdir", ".")
    return Submission(options, tuple(lines), command, folder, dict(environ))


def _directive(line: str) -> list[str]:
    found = _DIRECTIVE.match(line)
    return shlex.split(found[1], comments=True) if found else []


def _read_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word.startswith("--"):
            name, has_value, value = word[2:].partition("=")
        else:
            name = _SHORT.get(word[1], _SHORT_FLAGS.get(word[1], word[1:]))
            value = word[2:]
            has_value = value
        if name in _VALUED:
            options[name] = value if has_value else words.pop(0)
        elif name in _FLAGS:
            options[name] = value
            opposite = {"requeue": "no-requeue", "no-requeue": "requeue"}.get(name)
            options.pop(opposite or "", None)
        else:
            msg = (
                f"sbatch: unrecognized option '{word}'\nTry \"sbatch --help\" for more information"
            )
            raise Refused(msg)
    return options, words


def array_of(text: str, max_array: int) -> tuple[list[int], int]:
    """Return the indices of ``--array`` and how many of them run at a time; 0 for all.

    Raises
    ------
    Refused
        When an index is too large or the text is no array.
    """
    spans, _, throttle = text.partition("%")
    indices: list[int] = []
    try:
        for span in spans.split(","):
            ends, _, step = span.partition(":")
            low, _, high = ends.partition("-")
            indices += range(int(low), int(high or low) + 1, int(step or 1))
        at_a_time = int(throttle or 0)
    except ValueError:
        indices = []
    if not indices or max(indices) >= max_array:
        msg = "sbatch: error: Batch job submission failed: Invalid job array specification"
        raise Refused(msg)
    return sorted(set(indices)), at_a_time


def minutes_of(text: str) -> float | None:
    """Return a time limit in minutes; None for no limit.

    Raises
    ------
    Refused
        When the text is no time.
    """
    if text.upper() in ("", "INFINITE", "UNLIMITED"):
        return None
    days, dash, clock = text.rpartition("-")
    try:
        parts = [int(part) for part in clock.split(":")]
        if dash:
            hours, minutes, seconds = [*parts, 0, 0][:3]
            return int(days) * 1440 + hours * 60 + minutes + seconds / 60
        if len(parts) == 1:
            return float(parts[0])
        hours, minutes, seconds = [0, *parts][-3:]
        return hours * 60 + minutes + seconds / 60
    except ValueError as error:
        msg = "sbatch: error: Invalid --time specification"
        raise Refused(msg) from error


def dependencies_of(text: str) -> list[tuple[str, list[int]]]:
    """Return the conditions of ``--dependency``, all of which must hold.

    Raises
    ------
    Refused
        When the text is no dependency.
    """
    conditions = []
    for condition in filter(None, text.split(",")):
        kind, *jobs = condition.split(":")
        known = kind in DEPENDENCIES and all(job.isdigit() for job in jobs)
        if not known or bool(jobs) is (kind == "singleton"):
            msg = "sbatch: error: Batch job submission failed: Job dependency problem"
            raise Refused(msg)
        conditions.append((kind, [int(job) for job in jobs]))
    return conditions


def signal_number(name: str) -> int:
    """Return the number of a signal given by number or by name.

    Raises
    ------
    Refused
        When there is no such signal.
    """
    if name.isdigit():
        return int(name)
    try:
        return int(signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"])
    except KeyError as error:
        msg = f"error: Invalid signal specification: {name}"
        raise Refused(msg) from error
