"""When a job saves, and what happens then: its side of being interrupted."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from neurosweep.core.clock import Clock
from neurosweep.exec.job_api import Yielded
from neurosweep.exec.resume import ResumeFolder, SavePoint

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Saver:
    """Save a job from time to time, and end it once it is saved and was asked to leave.

    Parameters
    ----------
    folder
        Where saves go.
    every_s
        Seconds between two saves of a job that nobody interrupts.
    leaving
        Whether the job was asked to leave.
    done
        What has been done so far.
    clock
        Source of times.
    """

    def __init__(
        self,
        folder: ResumeFolder,
        every_s: float,
        leaving: Callable[[], bool],
        done: Callable[[], SavePoint],
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._every_s = every_s
        self._leaving = leaving
        self._done = done
        self._clock = clock
        self._saved = clock.monotonic()
        self._asked: float | None = None
        self._longest_gap = 0.0
        self._longest_save = 0.0

    @property
    def needed_s(self) -> float:
        """Seconds that the job needs, by what it needed so far, to reach its next save."""
        return self._longest_gap + self._longest_save

    def due(self) -> bool:
        """Return whether the job should save now."""
        now = self._clock.monotonic()
        if self._asked is not None:
            self._longest_gap = max(self._longest_gap, now - self._asked)
        self._asked = now
        return self._leaving() or now - self._saved >= self._every_s

    def load(self, name: str) -> Path | None:
        """Return a file of the newest save; None when it holds none of this name."""
        return self._folder.path(name)

    def save(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Save a file; on a full disk the job goes on with the save before.

        Raises
        ------
        Yielded
            When the job was asked to leave.
        """
        before = self._clock.monotonic()
        try:
            self._folder.save(name, write, self._done())
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            logger.warning("the job could not be saved, it goes on: %s", error)
        self._saved = self._asked = self._clock.monotonic()
        self._longest_save = max(self._longest_save, self._saved - before)
        if self._leaving():
            raise Yielded
