"""What a training job is given: its configuration, its data, and ways to report progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from neurosweep.core.layout import AttemptDir


class Diverged(Exception):  # noqa: N818 - an outcome of training, not a mistake in code
    """Report that training left the numbers: a loss is NaN or infinite."""


class Yielded(BaseException):
    """Report that a job is saved and leaves, to go on later from there.

    No `Exception`: training code that catches those must not swallow it.
    """


class Saves(Protocol):
    """Where a job keeps what it goes on from after an interruption."""

    def due(self) -> bool:
        """Return whether the job should save now."""
        ...

    def load(self, name: str) -> Path | None:
        """Return a file of the newest save; None when it holds none of this name."""
        ...

    def save(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Save a file, whole or not at all."""
        ...


class NoSaves:
    """Keep nothing: an interrupted job starts from scratch."""

    def due(self) -> bool:
        """Return that there is nothing to save."""
        return False

    def load(self, name: str) -> Path | None:  # noqa: ARG002 - there is none
        """Return that nothing was saved."""
        return None

    def save(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Save nothing."""


@dataclass(frozen=True)
class JobContext:
    """Hand a job everything it may use.

    Attributes
    ----------
    attempt_dir
        The one folder that the job may write to.
    config
        The full nested configuration.
    seed
        Training seed.
    threads
        Threads to use: the number of allocated cores.
    folds
        Store folders, each with train, dev and val (and test in a confirmation).
    part
        Part to predict: ``val``, or ``test`` in a confirmation.
    log
        ``log(step, epoch, **metrics)`` appends a line of curves and counts as a sign of life;
        a loss that is not finite raises `Diverged`.
    beat
        ``beat(phase, step=..., epoch=..., loss=...)`` gives a sign of life.
    should_stop
        Whether the job was asked to end soon.
    inputs
        Name to folder of what earlier stages made; empty outside a pipeline.
    saves
        Where the job keeps what it goes on from after an interruption. A job that never saves is
        started again from scratch.
    """

    attempt_dir: Path
    config: Mapping[str, Any]
    seed: int
    threads: int
    folds: tuple[Path, ...]
    log: Callable[..., None]
    beat: Callable[..., None]
    should_stop: Callable[[], bool]
    part: str = "val"
    limits: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    saves: Saves = field(default_factory=NoSaves)

    @property
    def ckpt_dir(self) -> Path:
        """Folder of checkpoints, created on first use."""
        folder = AttemptDir(self.attempt_dir).ckpt
        folder.mkdir(exist_ok=True)
        return folder

    def save_due(self) -> bool:
        """Return whether the job should save now: some time has passed, or it must leave soon.

        Asked at every point where the job could save, which costs nothing: the time between two
        questions tells how early a job must be asked to leave.
        """
        return self.saves.due()

    def load(self, name: str) -> Path | None:
        """Return the file that an interrupted start of this job saved last under a name.

        None when there is none: the job starts from scratch. Other files of the same save belong
        to the same moment.
        """
        return self.saves.load(name)

    def save(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Save a file, whole or not at all; files of other names stay as they are.

        Parameters
        ----------
        name
            Letters, digits, ``-`` and ``_``.
        write
            Writes the content into a file opened for writing bytes.

        Raises
        ------
        Yielded
            When the job was asked to leave; it is saved then, and must not catch this.
        """
        self.saves.save(name, write)
