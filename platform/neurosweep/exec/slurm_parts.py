"""The arrays of an intent token, as files.

The tasks of an array are listed in a file that is complete before sbatch is called, by their
number in the array: whatever dies after that, they find their attempts, and a later driver finds
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosweep.core.files import atomic_write_json
from neurosweep.exec.protocol import TaskKey, TaskSpec
from neurosweep.exec.slurm_task import TABLE, read_table


@dataclass(frozen=True)
class Part:
    """Name one array of a submission.

    Attributes
    ----------
    folder
        Its folder; the folder's name is the job name.
    tasks
        Trial and attempt of each of its tasks, in the order of the array.
    """

    folder: Path
    tasks: tuple[TaskKey, ...]

    @property
    def name(self) -> str:
        """The job name."""
        return self.folder.name

    @property
    def script(self) -> Path:
        """The batch file; written right before each call of sbatch."""
        return self.folder / "submission.sh"


def find_parts(root: Path, token: str) -> list[Part]:
    """Return the arrays of a token that were, or may have been, submitted.

    Parameters
    ----------
    root
        Folder of a study's scheduler files.
    token
        Intent token.

    Raises
    ------
    ExecutorError
        When a list of tasks is there and cannot be read.
    """
    parts = []
    for folder in sorted(root.glob(f"{token}-*")):
        suffix = folder.name[len(token) + 1 :]
        if suffix.isdigit() and (folder / TABLE).exists():
            rows = read_table(folder, patience_s=0.0)
            parts.append(Part(folder, tuple((row["trial"], row["attempt"]) for row in rows)))
    return sorted(parts, key=lambda part: int(part.name[len(token) + 1 :]))


def new_part(root: Path, token: str, tasks: Sequence[TaskSpec]) -> Part:
    """Make the folder of a further array of a token, and list its tasks in it."""
    number = 0
    while True:
        folder = root / f"{token}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        rows = [
            {"trial": task.trial, "attempt": task.attempt, "dir": str(task.attempt_dir)}
            for task in tasks
        ]
        atomic_write_json(folder / TABLE, {"v": 1, "attempts": rows})
        return Part(folder, tuple(task.key for task in tasks))


class PartBook:
    """Remember which arrays sbatch has not taken, so that another try makes no further one.

    Parameters
    ----------
    root
        Folder of a study's scheduler files.

    Attributes
    ----------
    refused
        Names of arrays that sbatch refused at the last try: they were not queued.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[tuple[str, tuple[TaskKey, ...]], Part] = {}
        self.refused: set[str] = set()

    def take(self, token: str, tasks: Sequence[TaskSpec]) -> Part:
        """Return the array to submit: that of an earlier try, else a new one."""
        key = (token, tuple(task.key for task in tasks))
        if key not in self._open:
            self._open[key] = new_part(self._root, token, tasks)
        part = self._open[key]
        self.refused.discard(part.name)
        return part

    def close(self, name: str) -> None:
        """Note that SLURM has an array."""
        self._open = {key: part for key, part in self._open.items() if part.name != name}
