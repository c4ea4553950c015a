"""What a training job is given: its configuration, its data, and ways to report progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosweep.core.layout import AttemptDir


class Diverged(Exception):  # noqa: N818 - an outcome of training, not a mistake in code
    """Report that training left the numbers: a loss is NaN or infinite."""


@dataclass(frozen=True)
class RunCall:
    """Name one attempt: the only object that is ever pickled for a scheduler."""

    attempt_dir: str


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

    @property
    def ckpt_dir(self) -> Path:
        """Folder of checkpoints, created on first use."""
        folder = AttemptDir(self.attempt_dir).ckpt
        folder.mkdir(exist_ok=True)
        return folder
