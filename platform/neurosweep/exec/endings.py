"""What the end of a process means, when it left no status to say so itself."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurosweep.core.errors import DataError
from neurosweep.core.files import read_json
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.protocol import TaskPhase, TaskView
from neurosweep.exec.status import EXIT_NO_STATUS
from neurosweep.records.trial import Kind

_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class ProcessEnd:
    """Hold how a process ended.

    Attributes
    ----------
    exit_code, signal
        One of them, or neither when nobody saw the end.
    oom_killed
        Whether the kernel killed it for memory.
    reason
        What else is known.
    """

    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    reason: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessEnd:
        """Read what the fork server says of an end; a field of another type counts as unknown."""
        code, number = data.get("exit_code"), data.get("signal")
        return cls(
            exit_code=code if type(code) is int else None,
            signal=number if type(number) is int else None,
            oom_killed=data.get("oom_killed") is True,
            reason=str(data.get("reason") or ""),
        )

    @classmethod
    def of_exit_file(cls, files: AttemptDir) -> ProcessEnd:
        """Read ``exit.json`` of an attempt, if there is one."""
        try:
            data = read_json(files.exit, _MAX_BYTES)
        except DataError:
            return cls()
        return cls.from_dict(data) if isinstance(data, dict) else cls()


def explain(ending: ProcessEnd) -> tuple[Kind, str]:
    """Return kind and sentence for a process that ended without a status."""
    if ending.oom_killed:
        return Kind.OOM_HOST, "the kernel killed it because the machine ran out of memory"
    if ending.exit_code == EXIT_NO_STATUS:
        text = ending.reason or "is the disk full?"
        return Kind.NODE_FAILURE, f"its folder could not be written or its process made ({text})"
    if ending.signal in (signals.SIGKILL, signals.SIGTERM, signals.SIGHUP):
        name = signals.Signals(ending.signal).name
        return Kind.LOST, f"somebody ended its process with {name}"
    if ending.signal is not None:
        return Kind.USER_ERROR, f"its process died of {_signal_name(ending.signal)}; see its log"
    if ending.exit_code is not None:
        text = f"its process left with exit code {ending.exit_code} and wrote no status"
        return Kind.USER_ERROR, text
    return Kind.LOST, "its process is gone and left no status"


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ended_view(
    files: AttemptDir, job: str, ending: ProcessEnd, why: Kind | None, host: str
) -> TaskView:
    """Return the view of a process that is over.

    Parameters
    ----------
    files
        The attempt.
    job
        The executor's name of the job.
    ending
        How it ended.
    why
        Why the executor ended it, when it did.
    host
        Machine.
    """
    kind, reason = why, ""
    if not files.status.is_file():
        explained, reason = explain(ending)
        kind = why or explained
    return TaskView(
        TaskPhase.ENDED,
        job_id=job,
        reason=reason,
        exit_code=ending.exit_code,
        signal=ending.signal,
        kind_hint=kind,
        host=host,
    )
