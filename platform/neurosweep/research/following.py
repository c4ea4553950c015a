"""What is seen of attempts, of trials or of stages, and when and how each has ended."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from neurosweep.core.clock import Clock
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.protocol import TaskKey, TaskPhase, TaskView
from neurosweep.exec.status import EXIT_DONE, EXIT_FAILED
from neurosweep.records.trial import Kind
from neurosweep.research.endings import (
    Claimed,
    Ending,
    Hold,
    failed,
    heartbeat_marks,
    judge_silence,
    read_claimed,
    read_status,
    revoke,
    take_away,
)
from neurosweep.research.placing import Pace

_GONE = TaskView(TaskPhase.GONE)
_OVER = (TaskPhase.ENDED, TaskPhase.GONE)
# A job that lives beats every few seconds.
_BEATING_S = 15.0


@dataclass
class Sighting:
    """What the driver remembers of an open attempt; all of it may be forgotten.

    Attributes
    ----------
    over
        The executor's last word, which it says once.
    silent_since
        Since when no status has come although the process is over.
    ended_since
        Since when the driver has asked for its end.
    looked
        When its heartbeat was read.
    mark, moved
        What it said of progress, and when that last changed.
    beat, beaten
        Its own time, and when that last changed.
    waited
        When it last waited for its start.
    phase
        Where the executor says it stands; None before it was asked.
    """

    phase: TaskPhase | None = None
    over: TaskView | None = None
    silent_since: float | None = None
    ended_since: float | None = None
    looked: float = 0.0
    mark: str = ""
    moved: float | None = None
    beat: str = ""
    beaten: float = 0.0
    waited: float = 0.0


class Watch:
    """Judge from what executors and files say whether attempts hang, and how they ended.

    Parameters
    ----------
    clock, pace
        Source of time, and waiting times.
    """

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self._clock, self._pace = clock, pace
        self._sightings: dict[TaskKey, Sighting] = {}

    def sighting(self, key: TaskKey) -> Sighting:
        """Return what is remembered of an attempt."""
        return self._sightings.setdefault(key, Sighting())

    def forget(self, key: TaskKey) -> None:
        """Forget an attempt whose end is recorded."""
        self._sightings.pop(key, None)

    def claimed(self, files: AttemptDir) -> Claimed:
        """Return who runs an attempt."""
        return read_claimed(files, self._clock.now(), self._pace.patience_s)

    def see(self, key: TaskKey, view: TaskView | None) -> TaskView:
        """Take in what the executor says of an attempt; return what holds of it now."""
        sighting = self.sighting(key)
        view = view or sighting.over or _GONE
        sighting.phase = view.phase
        if view.phase in _OVER:
            sighting.over = view
        if view.phase is not TaskPhase.RUNNING:
            sighting.moved = None  # no progress is expected of what waits, again or at first
            sighting.waited = self._clock.now()
        return view

    def is_over(self, key: TaskKey, view: TaskView) -> bool:
        """Return whether the end of an attempt is to be judged."""
        return view.phase in _OVER or self._given_up(self.sighting(key))

    def may_end(self, key: TaskKey) -> bool:
        """Return whether the driver has not asked for its end yet, and note that it does now."""
        sighting = self.sighting(key)
        if sighting.ended_since is not None:
            return False
        sighting.ended_since = self._clock.monotonic()
        return True

    def overdue(
        self,
        key: TaskKey,
        files: AttemptDir,
        view: TaskView,
        limits: tuple[float, float],
        started: float,
    ) -> tuple[Kind, str] | None:
        """Return why a running attempt is to be ended, and the reason in words.

        Parameters
        ----------
        key, files
            Which attempt.
        view
            What the executor says of it.
        limits
            Longest time, and longest time without progress, seconds.
        started
            When its start was noted, in seconds since 1970.
        """
        sighting, now = self.sighting(key), self._clock.monotonic()
        if sighting.ended_since is not None or now - sighting.looked < self._pace.heartbeat_s:
            return None
        sighting.looked = now
        claimed = self.claimed(files)
        if not claimed.pid:
            return None
        timeout_s, stall_s = limits
        # Of its first start this clock knows, which a node's may be behind.
        began = claimed.t if claimed.restart else max(claimed.t, started)
        ran = self._clock.now() - began
        # A task that its scheduler started again is not the process that holds the claim yet.
        waited = 0.0 < claimed.t < sighting.waited - self._pace.overtime_s
        earlier = waited or view.restarts > claimed.restart
        if not earlier and ran > timeout_s + self._pace.overtime_s:
            return Kind.TIME_LIMIT, f"ran for {ran:.0f} s"
        return self._stalled(sighting, files, stall_s)

    def _stalled(
        self, sighting: Sighting, files: AttemptDir, stall_s: float
    ) -> tuple[Kind, str] | None:
        """Return why an attempt counts as hung; one without a beat may have lost its machine.

        That is for its executor to notice, which is given time for it.
        """
        now = self._clock.monotonic()
        mark, beat = heartbeat_marks(files.heartbeat)
        if sighting.moved is None or beat != sighting.beat:
            sighting.beat, sighting.beaten = beat, now
        if sighting.moved is None or mark != sighting.mark:
            sighting.mark, sighting.moved = mark, now
        still_s, silent_s = now - sighting.moved, now - sighting.beaten
        if still_s <= stall_s:
            return None
        if silent_s < _BEATING_S:
            return Kind.HANG, f"no progress for {still_s:.0f} s"
        if silent_s > max(stall_s, self._pace.patience_s):
            return Kind.HANG, f"no sign of life for {silent_s:.0f} s, and said to run"
        return None

    def ending(
        self,
        key: TaskKey,
        files: AttemptDir,
        view: TaskView,
        known: Kind | None,
        closing: Kind | None = None,
    ) -> Ending | None:
        """Return how an attempt ended; None while a status may still come.

        Parameters
        ----------
        key, files
            Which attempt.
        view
            What the executor saw last.
        known
            Why the driver ended it; None when it did not.
        closing
            Why everything is ended; None when it is not.
        """
        known = view.kind_hint or known
        ending = read_status(files, known)
        if ending is not None or not self._silence_is_final(key, files, view):
            return ending
        claimed = self.claimed(files)
        never = claimed.hold is Hold.NOBODY
        if never and not revoke(files, self._clock):
            return None
        if not never and not claimed.over_here:
            take_away(files)
        # The status may have come between the two looks, or be hidden by what a network file
        # system remembers; opening the folder makes it ask again.
        with contextlib.suppress(OSError):
            list(files.root.iterdir())
        ending = read_status(files, known)
        known = known or closing
        if ending is None and never and known is None:
            ending = failed(Kind.LOST, view.reason or "the job never started")
        return ending or judge_silence(view, known)

    def _given_up(self, sighting: Sighting) -> bool:
        since = sighting.ended_since
        return since is not None and self._clock.monotonic() - since > self._pace.cancel_s

    def _silence_is_final(self, key: TaskKey, files: AttemptDir, view: TaskView) -> bool:
        """Return whether no status will come any more."""
        claimed, sighting = self.claimed(files), self.sighting(key)
        if claimed.hold is Hold.NOBODY and view.phase is TaskPhase.ENDED:
            return True  # whoever comes later finds the claim revoked
        if self._given_up(sighting):
            return True
        # Of another machine's process its scheduler knows better than a heartbeat's age.
        ended = view.phase is TaskPhase.ENDED and claimed.job == view.job_id
        if claimed.hold is Hold.ALIVE or (claimed.hold is Hold.MAYBE and not ended):
            sighting.silent_since = None
            return False
        if claimed.over_here:
            return True
        now = self._clock.monotonic()
        if sighting.silent_since is None:
            sighting.silent_since = now
        # These exit codes say that a status was written: it is on its way. SLURM has the same
        # ones for what it ended itself, where they say nothing.
        own = ended and view.kind_hint is None
        written = own and view.exit_code in (EXIT_DONE, EXIT_FAILED)
        patience_s = self._pace.patience_s if written else self._pace.settle_s
        return now - sighting.silent_since >= patience_s
