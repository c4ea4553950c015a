"""One pair of eyes on the scheduler for all executors of a driver process."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from neurosweep.core.errors import ExecutorError
from neurosweep.exec.slurm_state import ENDED, SlurmRow, accounting_rows, queue_rows

logger = logging.getLogger(__name__)

POOL_KEY = "slurm.watch"
_FIRST_LOOK_S = 1.0
# The clocks of controller, database and file server may differ by this much.
SKEW_S = 3600.0
_DISABLED = "disabled"
_HOUR_S = 3600.0
_SLOW_S, _REST_S = 5.0, 60.0
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
    """

    row: SlurmRow | None
    queued: bool
    t: float
    absent_looks: int = 0
    absent_since: float = math.inf


@dataclass(frozen=True)
class _Job:
    name: str
    since: float


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
        ended, answered = self._ended(missing) if missing else ({}, True)
        for job_id in self._jobs:
            row = self._row_of(queued, job_id)
            if row is not None:
                self._sightings[job_id] = Sighting(row, queued=True, t=now)
            else:
                self._note_absent(job_id, self._row_of(ended, job_id), now, answered=answered)

    def _note_absent(
        self, job_id: str, row: SlurmRow | None, now: float, *, answered: bool
    ) -> None:
        before = self._sightings.get(job_id)
        looks, since = 0, math.inf
        if before is not None and not before.queued:
            looks, since = before.absent_looks, before.absent_since
            row = row or before.row
        if answered:
            looks, since = looks + 1, min(since, now)
        self._sightings[job_id] = Sighting(
            row, queued=False, t=now, absent_looks=looks, absent_since=since
        )

    def _row_of(self, rows: dict[str, SlurmRow], job_id: str) -> SlurmRow | None:
        row = rows.get(job_id)
        return row if row is not None and row.name == self._jobs[job_id].name else None

    def _ended(self, missing: list[str]) -> tuple[dict[str, SlurmRow], bool]:
        """Return what is known of jobs that have left squeue, and whether that is all there is."""
        jobs = [self._jobs[job_id] for job_id in missing]
        names = {job.name for job in jobs}
        arrays = {job_id.partition("_")[0] for job_id in missing}
        since = local_time(min(job.since for job in jobs) - SKEW_S)
        began = self._monotonic()
        disabled = False
        if began >= self._accounting_at:
            self.count()
            try:
                return accounting_rows(names, since, arrays), True
            except ExecutorError as error:
                disabled = _DISABLED in str(error)
            if self._monotonic() - began > _SLOW_S:
                # The driver waits with it: a database that hangs is left alone for a while.
                self._accounting_at = self._monotonic() + _REST_S
        # The controller remembers ended jobs for some minutes. It does not say who cancelled one,
        # nor with what code one failed: accounting will, where there is any.
        self.count()
        rows = queue_rows(names, ended_too=True)
        believed = set(ENDED) if disabled else set(ENDED) - _UNCLEAR
        return {i: r for i, r in rows.items() if r.word in believed}, disabled


def local_time(t: float) -> str:
    """Return a time as sacct takes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(t))
