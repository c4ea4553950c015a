"""Find the arrays of an intent token again, whoever submitted them, and wherever."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosweep.core.errors import DataError, ExecutorError, UnreachableError
from neurosweep.exec.claim import read_claim
from neurosweep.exec.protocol import TaskKey, TaskSpec
from neurosweep.exec.slurm_parts import Part, find_parts
from neurosweep.exec.slurm_state import (
    ENDED,
    SlurmRow,
    accounting_rows,
    lacks_accounting,
    queue_rows,
)
from neurosweep.exec.slurm_task import TABLE
from neurosweep.exec.slurm_watch import SKEW_S, local_time

_HELD = ("JobHeldUser", "JobHeldAdmin")
# A submission without an answer may reach the controller this much later, in seconds.
SETTLED_S = 60.0


@dataclass(frozen=True)
class Adopted:
    """Name the job of a task that an earlier driver submitted.

    Attributes
    ----------
    job_id, name
        Its id and its name.
    since
        Seconds since 1970 before which it was not submitted.
    held
        Whether tasks of its array wait for a release.
    """

    job_id: str
    name: str
    since: float
    held: bool = False

    @property
    def array(self) -> str:
        """Id of its array."""
        return self.job_id.partition("_")[0]


@dataclass(frozen=True)
class _Candidate:
    """One array under the name of a part, and whether SLURM still has tasks of it."""

    array: str
    live: bool
    held: bool


def find_jobs(
    root: Path, token: str, tasks: Sequence[TaskSpec], refused: Collection[str] = ()
) -> dict[TaskKey, Adopted]:
    """Return the jobs that run, wait or ended for these tasks.

    Parameters
    ----------
    root
        Folder of a study's scheduler files.
    token
        Intent token.
    tasks
        Any of the token's tasks.
    refused
        Names of arrays that are known not to have been queued.

    Raises
    ------
    UnreachableError
        When an array may still be on its way to the controller.
    ExecutorError
        When SLURM cannot be asked: not knowing is not the same as not there.
    """
    parts = find_parts(root, token)
    if not parts:
        # The list of tasks is on disk before sbatch is called: nothing was.
        return {}
    arrays = _arrays(parts)
    wanted = {task.key: task for task in tasks}
    for part in parts:
        asked_for = wanted.keys() & set(part.tasks)
        if asked_for and not arrays[part.name] and part.name not in refused and _is_young(part):
            msg = (
                f"SLURM does not know the array {part.name}, and sbatch was called for it less "
                f"than {SETTLED_S:g} s ago: it may still come in"
            )
            raise UnreachableError(msg)
    found: dict[TaskKey, Adopted] = {}
    for part in parts:
        for index, key in enumerate(part.tasks):
            if key in wanted and arrays[part.name]:
                chosen = _choose(arrays[part.name], wanted[key], index)
                job_id = f"{chosen.array}_{index}"
                found[key] = Adopted(job_id, part.name, _since(part), chosen.held)
    return found


def _arrays(parts: Sequence[Part]) -> dict[str, list[_Candidate]]:
    names = {part.name for part in parts}
    # The controller itself remembers what ended a short while ago.
    rows = queue_rows(names, ended_too=True)
    unseen = names - {row.name for row in rows.values()}
    if unseen:
        since = min(_since(part) for part in parts if part.name in unseen)
        try:
            rows = {**accounting_rows(unseen, local_time(since - SKEW_S)), **rows}
        except ExecutorError as error:
            # What ended long ago has left its claim or its status: it is not run again.
            if not lacks_accounting(error):
                raise
    return {name: _candidates(name, rows) for name in names}


def _candidates(name: str, rows: Mapping[str, SlurmRow]) -> list[_Candidate]:
    """Return the arrays of one name, the newest first: a second submission is not impossible."""
    by_array: dict[str, list[SlurmRow]] = {}
    for row in rows.values():
        if row.name == name:
            by_array.setdefault(row.job_id.partition("_")[0], []).append(row)
    return [
        _Candidate(
            array,
            live=any(row.word not in ENDED for row in own),
            held=any(row.reason in _HELD and row.word not in ENDED for row in own),
        )
        for array, own in sorted(by_array.items(), key=lambda pair: int(pair[0]), reverse=True)
    ]


def _choose(candidates: list[_Candidate], task: TaskSpec, index: int) -> _Candidate:
    """Return the array whose task has claimed the attempt, else one that still runs."""
    try:
        claim = read_claim(task.files.claim)
    except DataError:
        claim = None
    for candidate in candidates:
        if claim is not None and claim.job == f"{candidate.array}_{index}":
            return candidate
    return next((candidate for candidate in candidates if candidate.live), candidates[0])


def _is_young(part: Part) -> bool:
    """Return whether sbatch was called for an array a moment ago; never, without its script."""
    try:
        return abs(time.time() - part.script.stat().st_mtime) < SETTLED_S
    except OSError:
        return False


def _since(part: Part) -> float:
    try:
        return (part.folder / TABLE).stat().st_mtime
    except OSError as error:
        msg = f"{part.folder / TABLE} cannot be looked at: {error}"
        raise ExecutorError(msg) from error
