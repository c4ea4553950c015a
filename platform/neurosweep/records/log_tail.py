"""The end of what an attempt printed: its own log, or its scheduler's file when it was killed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from glob import escape
from pathlib import Path

from neurosweep.core.layout import StudyDir
from neurosweep.records.state import AttemptState
from neurosweep.records.trial import Outcome

MAX_BYTES = 32 * 1024
# A line of a task's log that starts so goes on with exit code and text of a setup line.
SETUP_FAILED = "setup failed with "
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def log_tail(study: StudyDir, trial: str, attempt: AttemptState, lines: int = 200) -> str:
    """Return the last lines that an attempt printed, as text that is safe to show.

    Of a failed attempt that left no status, which was killed, the scheduler's file follows: its
    last words are there. Of any other failed attempt the setup lines follow that failed before
    it began. Both are data of a job: read at most 32 kB from the end, following no
    link, without control sequences.

    Parameters
    ----------
    study
        Folder of the study.
    trial
        Id of the trial.
    attempt
        Which attempt.
    lines
        Largest number of lines of each file.
    """
    files = study.trial(trial).attempt(attempt.number)
    parts = [_shown(files.log, lines)]
    if attempt.outcome is Outcome.FAILED:
        killed = not files.status.is_file()
        for path in scheduler_logs(study, attempt):
            text = _shown(path, lines) if killed else "\n".join(failed_setup(path))
            parts.append(f"--- {path.name}\n{text}" if text else "")
    return "\n".join(part for part in parts if part)


def log_path(study: StudyDir, trial: str, attempt: AttemptState) -> Path:
    """Return the file a person should look at: the log, or the scheduler's when there is none."""
    log = study.trial(trial).attempt(attempt.number).log
    if log.is_file() and log.stat().st_size:
        return log
    return next(scheduler_logs(study, attempt), log)


def scheduler_logs(study: StudyDir, attempt: AttemptState) -> Iterator[Path]:
    """Yield the files in which the scheduler kept what the task of an attempt printed."""
    folder = study.root / "slurm"
    if not attempt.token or not attempt.job or not folder.is_dir():
        return
    job = escape(attempt.job)
    for pattern in (f"{job}_*log.out", f"{job}_*log.err"):
        yield from sorted(folder.glob(f"{escape(attempt.token)}*/{pattern}"))


def failed_setup(path: Path) -> list[str]:
    """Return the lines of a scheduler's file that tell of setup lines that failed."""
    return [line for line in plain_lines(tail_bytes(path)) if line.startswith(SETUP_FAILED)]


def tail_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the end of a regular file, or nothing when it cannot be read; links are no files."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return b""
        file.seek(max(0, status.st_size - max_bytes))
        return file.read(max_bytes)


def plain_lines(data: bytes) -> list[str]:
    r"""Return what a terminal would show: of a line drawn over and over only its last state.

    Examples
    --------
    >>> plain_lines(b"10 %\r20 %\r\n\x1b[31mred\x1b[0m")
    ['20 %', 'red']
    """
    text = _ANSI.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return [_UNSEEN.sub("", line).rstrip() for line in lines]


def _shown(path: Path, count: int) -> str:
    data = tail_bytes(path)
    lines = plain_lines(data)
    if len(data) == MAX_BYTES and len(lines) > 1:
        lines = lines[1:]  # the first line was cut
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines[-count:])
