"""One pair of eyes on the scheduler for all executors of a driver process."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from neurosweep.core.errors import ExecutorError
from neurosweep.exec.slurm_state import (
    ENDED,
    SlurmRow,
    accounting_rows,
    lacks_accounting,
    queue_rows,
)

logger = logging.getLogger(__name__)

POOL_KEY = "slurm.watch"
_FIRST_LOOK_S = 1.0
# The clocks of controller, database and file server may differ by this much.
SKEW_S = 3600.0
_HOUR_S = 3600.0
_SLOW_S, _REST_S = 5.0, 60.0
# Accounting that lags this long after a job left squeue is not waited for alone.
RECALL_S = 30.0
_UNCLEAR = frozenset({"FAILED", "CANCELLED"})


@dataclass(frozen=True)
class Sighting:
    """Say what the last queries that answered knew of a job.

    Attributes
    ----------
    row
        What squeue says of it, else what accounting says; None when neither knows it.
    queued
        Whether the row is squeue's.
    t
        When, in seconds of the monotonic clock.
    absent_looks, absent_since
        For how many looks in a row, and since when, it has been missing from squeue, while
        accounting answered too.
    recalled
        How it ended, as the controller remembers it without all that accounting would say.
    """

    row: SlurmRow | None
    queued: bool
    t: float
    absent_looks: int = 0
    absent_since: float = math.inf
    recalled: SlurmRow | None = None


@dataclass(frozen=True)
class _Job:
    name: str
    since: float


@dataclass(frozen=True)
class _Ended:
    """What is known of ended jobs, by id, and whether accounting answered, or never will."""

    rows: dict[str, SlurmRow]
    recalled: dict[str, SlurmRow]
    answered: bool


class SlurmWatch:
    """Ask SLURM about all jobs together, seldom.

    Parameters
    ----------
    monotonic
        Source of time.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._jobs: dict[str, _Job] = {}
        self._sightings: dict[str, Sighting] = {}
        self._due = -math.inf
        self._last = -math.inf
        self._accounting_at = -math.inf
        self._asked: deque[float] = deque()
        self.queries = 0
        self.looks = 0
        self.trouble = ""

    def now(self) -> float:
        """Return the time that sightings carry, in seconds."""
        return self._monotonic()

    def track(self, job_id: str, name: str, since: float) -> None:
        """Watch a job.

        Parameters
        ----------
        job_id, name
            Its id and its name: only both together are it.
        since
            When it was submitted, at the earliest, in seconds since 1970.
        """
        if not self._jobs:
            # The first look shows whether it started; what follows keeps the caller's pace.
            self._last = self._monotonic()
            self._due = self._last + _FIRST_LOOK_S
        self._jobs[job_id] = _Job(name, since)
        self._sightings.pop(job_id, None)

    def forget(self, job_id: str) -> None:
        """Watch a job no longer."""
        self._jobs.pop(job_id, None)
        self._sightings.pop(job_id, None)

    def sighting(self, job_id: str) -> Sighting | None:
        """Return what is known of a job; None before the first answer."""
        return self._sightings.get(job_id)

    def count(self, queries: int = 1) -> None:
        """Count what somebody else asked of the controller."""
        now = self._monotonic()
        self.queries += queries
        self._asked.extend([now] * queries)
        while self._asked and now - self._asked[0] > _HOUR_S:
            self._asked.popleft()

    @property
    def per_minute(self) -> float:
        """Commands to the scheduler per minute, over the last hour."""
        if not self._asked:
            return 0.0
        span = max(self._monotonic() - self._asked[0], 60.0)
        return 60.0 * len(self._asked) / span

    def look(self, poll_s: float) -> bool:
        """Ask, unless that was done less than `poll_s` seconds ago; return whether it answered.

        A query that fails changes nothing: it says nothing about the jobs.
        """
        now = self._monotonic()
        if not self._jobs or now < min(self._due, self._last + poll_s):
            return False
        self._due, self._last = math.inf, now
        try:
            self._ask()
        except ExecutorError as error:
            if not self.trouble:
                logger.warning("SLURM cannot be asked, jobs are taken to go on: %s", error)
            self.trouble = str(error)
            # A controller in trouble keeps its askers waiting: leave it some peace.
            self._last = 2.0 * self._monotonic() - now
            return False
        if self.trouble:
            logger.info("SLURM answers again")
        self.trouble = ""
        self.looks += 1
        return True

    def _ask(self) -> None:
        names = {job.name for job in self._jobs.values()}
        self.count()
        queued = queue_rows(names)
        now = self._monotonic()  # an answer may take its time
        missing = [job for job in self._jobs if self._row_of(queued, job) is None]
        ended = self._ended(missing) if missing else _Ended({}, {}, answered=True)
        for job_id in self._jobs:
            row = self._row_of(queued, job_id)
            if row is not None:
                self._sightings[job_id] = Sighting(row, queued=True, t=now)
            else:
                self._note_absent(job_id, ended, now)

    def _note_absent(self, job_id: str, ended: _Ended, now: float) -> None:
        before = self._sightings.get(job_id)
        looks, since = 0, math.inf
        row, recalled = self._row_of(ended.rows, job_id), self._row_of(ended.recalled, job_id)
        if before is not None and not before.queued:
            looks, since = before.absent_looks, before.absent_since
            row, recalled = row or before.row, recalled or before.recalled
        if ended.answered:
            looks, since = looks + 1, min(since, now)
        self._sightings[job_id] = Sighting(
            row, queued=False, t=now, absent_looks=looks, absent_since=since, recalled=recalled
        )

    def _row_of(self, rows: dict[str, SlurmRow], job_id: str) -> SlurmRow | None:
        row = rows.get(job_id)
        return row if row is not None and row.name == self._jobs[job_id].name else None

    def _ended(self, missing: list[str]) -> _Ended:
        """Return what is known of jobs that have left squeue."""
        jobs = [self._jobs[job_id] for job_id in missing]
        names = {job.name for job in jobs}
        arrays = {job_id.partition("_")[0] for job_id in missing}
        since = local_time(min(job.since for job in jobs) - SKEW_S)
        began = self._monotonic()
        disabled = False
        if began >= self._accounting_at:
            self.count()
            try:
                rows = accounting_rows(names, since, arrays)
            except ExecutorError as error:
                disabled = lacks_accounting(error)
            else:
                late = {job_id for job_id in missing if self._is_late(rows, job_id)}
                recalled = self._recall({self._jobs[j].name for j in late}, _UNCLEAR)
                found = {i: r for i, r in recalled.rows.items() if i in late}
                return _Ended({**rows, **found}, recalled.recalled, answered=True)
            if self._monotonic() - began > _SLOW_S:
                # The driver waits with it: a database that hangs is left alone for a while.
                self._accounting_at = self._monotonic() + _REST_S
        remembered = self._recall(names, frozenset() if disabled else _UNCLEAR)
        return replace(remembered, answered=disabled)

    def _is_late(self, rows: dict[str, SlurmRow], job_id: str) -> bool:
        """Return whether accounting should have told the end of a job by now, and has not."""
        row, before = self._row_of(rows, job_id), self._sightings.get(job_id)
        told = row is not None and row.word in ENDED
        return not told and before is not None and self.now() - before.absent_since > RECALL_S

    def _recall(self, names: set[str], unclear: frozenset[str]) -> _Ended:
        """Return what the controller itself remembers, for some minutes, of jobs that ended.

        It does not say who cancelled one, nor with what code one failed: accounting will, where
        there is any.
        """
        if not names:
            return _Ended({}, {}, answered=True)
        self.count()
        over = {i: r for i, r in queue_rows(names, ended_too=True).items() if r.word in ENDED}
        rows = {i: r for i, r in over.items() if r.word not in unclear}
        return _Ended(rows, {i: r for i, r in over.items() if i not in rows}, answered=True)


def local_time(t: float) -> str:
    """Return a time as sacct takes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(t))
