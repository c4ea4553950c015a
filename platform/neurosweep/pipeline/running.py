"""What of a pipeline runs or waits, since when, and how far it says it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurosweep.core.clock import parse_iso
from neurosweep.core.layout import PipelineDir
from neurosweep.exec.heartbeat import read_heartbeat
from neurosweep.pipeline.state import PipelineState, TaskState
from neurosweep.records.cost import held_seconds

RUNNING, QUEUED, UNPLACED = "running", "queued", "not submitted yet"
_MAX_NAMED = 6
_MINUTE_S, _HOUR_S = 60.0, 3600.0


@dataclass(frozen=True)
class Doing:
    """Say where an open task is.

    Attributes
    ----------
    task
        Its id.
    stands
        ``running``, ``queued``, or not with an executor yet.
    seconds
        For how long.
    said
        What its job last said of its progress; may be empty.
    """

    task: str
    stands: str
    seconds: float
    said: str = ""

    def __str__(self) -> str:
        said = f", {self.said}" if self.said else ""
        return f"{self.task} ({age_text(self.seconds)}{said})"


def doing_of(
    pipeline: PipelineDir, state: PipelineState, task: TaskState, now: float
) -> Doing | None:
    """Return where a task is; None when nothing of it is open."""
    attempt = task.open_attempt
    if attempt is None:
        return None
    if attempt.started_t:
        said = _said(pipeline, task)
        return Doing(task.task, RUNNING, held_seconds(attempt, now), said)
    waits = max(now - parse_iso(attempt.intended_t), 0.0) if attempt.intended_t else 0.0
    return Doing(task.task, QUEUED if attempt.token in state.submitted else UNPLACED, waits)


def doing_text(found: Sequence[Doing]) -> str:
    """Return a line: what runs, what waits, and the ages; a few of each are named.

    Examples
    --------
    >>> doing_text([Doing("a", RUNNING, 200.0, "epoch 2"), Doing("b", QUEUED, 31.0)])
    'running: a (3 min, epoch 2); queued: b (31 s)'
    """
    parts = []
    for stands in (RUNNING, QUEUED, UNPLACED):
        those = [str(one) for one in found if one.stands == stands]
        more = f" and {len(those) - _MAX_NAMED} more" if len(those) > _MAX_NAMED else ""
        if those:
            parts.append(f"{stands}: {', '.join(those[:_MAX_NAMED])}{more}")
    return "; ".join(parts)


def age_text(seconds: float) -> str:
    """Return a duration, short.

    Examples
    --------
    >>> age_text(31.4), age_text(200.0), age_text(5400.0)
    ('31 s', '3 min', '1.5 h')
    """
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < _HOUR_S else f"{seconds / _HOUR_S:.1f} h"


def _said(pipeline: PipelineDir, task: TaskState) -> str:
    files = pipeline.task(task.task).attempt(task.attempts[-1].number)
    beat = read_heartbeat(files.heartbeat) or {}
    for name in ("epoch", "step"):
        if isinstance(beat.get(name), int):
            return f"{name} {beat[name]}"
    return ""
