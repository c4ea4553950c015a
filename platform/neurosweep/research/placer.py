"""Hand tasks to executors under tokens, and never a task twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from neurosweep.core.clock import Clock
from neurosweep.core.errors import ExecutorError, UnreachableError
from neurosweep.exec.protocol import Executor, TaskKey, TaskSpec
from neurosweep.research.endings import Hold, read_claimed

if TYPE_CHECKING:
    from neurosweep.research.placing import Pace

logger = logging.getLogger(__name__)

_MAX_FAILURES = 8
_MAX_WAIT_S = 60.0


class Placer:
    """Hand tasks to executors under tokens, and never a task twice.

    Parameters
    ----------
    executor_of
        Tells which executor runs a task; the tasks of one token share one.
    done
        Called with ``submit`` after a submission, which survives the driver.
    clock, pace
        Source of time, and waiting times.

    Attributes
    ----------
    trouble
        Why something is not submitted yet; empty when nothing is held up.
    """

    def __init__(
        self,
        executor_of: Callable[[TaskSpec], Executor],
        done: Callable[[str], None],
        clock: Clock,
        pace: Pace,
    ) -> None:
        self._executor_of, self._done = executor_of, done
        self._clock, self._pace = clock, pace
        self._unplaced: dict[str, list[TaskSpec]] = {}
        self._failures = 0
        self._retry_at = 0.0
        self._placed_before = False
        self.trouble = ""

    @property
    def waiting(self) -> set[TaskKey]:
        """Attempts that are intended and not yet with an executor."""
        return {task.key for tasks in self._unplaced.values() for task in tasks}

    def add(self, token: str, task: TaskSpec) -> None:
        """Take a task that is to be placed under a token."""
        self._unplaced.setdefault(token, []).append(task)

    @property
    def tokens(self) -> list[str]:
        """Tokens whose tasks are to be placed."""
        return list(self._unplaced)

    @property
    def is_time(self) -> bool:
        """Whether the waiting time after a failure is over."""
        return self._clock.monotonic() >= self._retry_at

    def place(self, token: str, *, known: bool, may_submit: bool = True) -> dict[str, str] | None:
        """Find the tasks of a token with their executor, or submit them; return their jobs.

        Parameters
        ----------
        token
            The intent.
        known
            Whether an executor may know it.
        may_submit
            Whether tasks that never started are still wanted.

        Returns
        -------
        dict or None
            Task to job id; None when it is tried again later.

        Raises
        ------
        ExecutorError
            When the executor refuses again and again from the start.
        """
        tasks = self._unplaced[token]
        executor = self._executor_of(tasks[0])
        for task in tasks:
            task.attempt_dir.mkdir(parents=True, exist_ok=True)
        try:
            jobs = dict(executor.adopt(token, tasks)) if known else {}
            missing = [t for t in tasks if t.trial not in jobs and self._is_free(t)]
            if missing and may_submit:
                jobs |= executor.submit(token, missing)
                self._done("submit")
        except ExecutorError as error:
            self._postpone(error)
            return None
        del self._unplaced[token]
        self._failures, self.trouble, self._placed_before = 0, "", True
        return jobs

    def _is_free(self, task: TaskSpec) -> bool:
        now = self._clock.now()
        return read_claimed(task.files, now, self._pace.patience_s).hold is Hold.NOBODY

    def _postpone(self, error: ExecutorError) -> None:
        """Try again later; give up only what was refused again and again from the start.

        A scheduler that is away comes back, and one that took tasks before will take them again.
        """
        self._failures += 1
        passing = isinstance(error, UnreachableError) or self._placed_before
        if self._failures >= _MAX_FAILURES and not passing:
            raise error
        self.trouble = str(error)
        wait = min(2.0 ** min(self._failures, 10), _MAX_WAIT_S)
        self._retry_at = self._clock.monotonic() + wait
        logger.warning("submission failed, next try in %g s: %s", wait, error)


def is_news(jobs: Mapping[str, str], recorded: Mapping[str, str] | None) -> bool:
    """Return whether jobs must be recorded: nothing was, or another id was."""
    return recorded is None or any(recorded.get(task) != job for task, job in jobs.items())
