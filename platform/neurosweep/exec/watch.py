"""When an attempt must end or leave: its limits, its place on the cluster, and signals."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from types import FrameType

from neurosweep.core.clock import Clock
from neurosweep.exec.failures import Stopped
from neurosweep.exec.lease import Lease
from neurosweep.exec.limits import Limits, own_memory_mb
from neurosweep.records.trial import Kind

# Before the end of its place a job is asked to leave so early, and at least this is left at last.
_LEAVE_S, _LAST_S = 5.0, 2.0
# SLURM may warn a minute earlier than it was told to.
_WARNED_S = 75.0
IDLE_STARTS = 3
_STOP_TEXT = {
    Kind.TIME_LIMIT: "the attempt ran longer than its limit of {timeout_s:g} s",
    Kind.OOM_HOST: "the attempt held more than its limit of {memory_mb} MB",
    Kind.STOPPED: "the attempt was asked to stop (signal {signal})",
}


class Verdict(StrEnum):
    """What must happen to a job now."""

    GO_ON = "go on"
    END = "end"
    LEAVE = "leave"


class Watch:
    """Judge whether a job must end for good, or leave and go on later.

    Parameters
    ----------
    limits
        What the attempt may use.
    lease
        Its place on the cluster.
    clock
        Source of times; stands still while the process does: neither its limit nor its place is
        used up then.

    Attributes
    ----------
    worked_s
        Seconds of work of earlier starts; they count against the limit.
    needed_s
        Returns the seconds that the job needs to reach its next save.
    stop
        Why the job must end for good; None while it need not.
    """

    def __init__(self, limits: Limits, lease: Lease, clock: Clock) -> None:
        self._limits = limits
        self._lease = lease
        self._clock = clock
        self._began = clock.monotonic()
        self._stopped_at = 0.0
        self._signal = 0
        self._leave_by: float | None = None
        self.worked_s = 0.0
        self.needed_s: Callable[[], float] = lambda: 0.0
        self.stop: Kind | None = None

    @property
    def seconds(self) -> float:
        """Seconds of work, those of earlier starts counted."""
        return self.worked_s + self._clock.monotonic() - self._began

    @property
    def leaving(self) -> bool:
        """Whether the job should save and leave."""
        return self._leave_by is not None and self.stop is None

    @property
    def wants_save(self) -> bool:
        """Whether the job should save at once and end, for good or for now.

        Who tells a job to stop may have pushed it aside; its next attempt then goes on from here.
        """
        return self.leaving or self.stop is Kind.STOPPED

    def on_signal(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal as a request, to leave where the job may come back, else to stop."""
        if self._lease.requeue and number in (signal.SIGUSR2, signal.SIGTERM):
            if number == signal.SIGUSR2 and self._warned_of_its_end():
                return
            # USR2 is a warning; after TERM the process is killed soon.
            wait = self._limits.grace_s if number == signal.SIGTERM else float("inf")
            self._request_leave(self._clock.monotonic() + wait)
        else:
            self._request_stop(Kind.TIME_LIMIT if self._overdue(1.0) else Kind.STOPPED, number)

    def verdict(self) -> Verdict:
        """Return what must happen to the job now; called a few times a second."""
        now = self._clock.monotonic()
        if self._limits.memory_mb is not None and own_memory_mb() > self._limits.memory_mb:
            self.stop = Kind.OOM_HOST
            return Verdict.END
        if self._overdue():
            self._request_stop(Kind.TIME_LIMIT)
        if self.stop is not None:
            late = now - self._stopped_at > self._limits.grace_s
            return Verdict.END if late else Verdict.GO_ON
        self._check_lease(now)
        late = self._leave_by is not None and now > self._leave_by
        return Verdict.LEAVE if late else Verdict.GO_ON

    def check_time(self) -> None:
        """Ask a job to stop that is over its time, where nothing can force it to."""
        if self._overdue():
            self._request_stop(Kind.TIME_LIMIT)

    def too_short(self, starts: int) -> Stopped | None:
        """Return why a job that leaves must not come back, after so many starts without a save."""
        if starts < IDLE_STARTS or self._time_left() > self._early_s():
            return None
        text = f"{starts} starts of {self._lease.seconds:g} s each were too short to save once"
        text += "; give tasks more minutes, or let the job save more often"
        return Stopped(Kind.TIME_LIMIT, text)

    def raise_if_stopped(self) -> None:
        """Refuse to go on after a request to stop.

        Raises
        ------
        Stopped
            With its reason.
        """
        if self.stop is not None:
            raise self.reason()

    def reason(self) -> Stopped:
        """Return why the job must end."""
        assert self.stop is not None
        limits = self._limits
        text = _STOP_TEXT[self.stop].format(
            timeout_s=limits.timeout_s or 0.0, memory_mb=limits.memory_mb, signal=self._signal
        )
        return Stopped(self.stop, text)

    def _overdue(self, slack_s: float = 0.0) -> bool:
        limit = self._limits.timeout_s
        return limit is not None and self.seconds >= limit - slack_s

    def _request_stop(self, kind: Kind, number: int = 0) -> None:
        if self.stop is None:
            self.stop, self._signal = kind, number
            self._stopped_at = self._clock.monotonic()

    def _request_leave(self, by: float) -> None:
        self._leave_by = by if self._leave_by is None else min(by, self._leave_by)

    def _check_lease(self, now: float) -> None:
        """Ask the job to leave before its place on the cluster ends: signals may come late."""
        left = self._time_left()
        if left <= self._early_s() and not self._ends_before_its_place():
            self._request_leave(now + left - min(_LAST_S, (self._lease.seconds or 0.0) / 8.0))

    def _ends_before_its_place(self) -> bool:
        """Whether the trial's own time ends first: another place would not help it."""
        limit = self._limits.timeout_s
        return limit is not None and limit - self.seconds < self._time_left()

    def _warned_of_its_end(self) -> bool:
        """Whether a warning is most likely that of the end of a place that is long enough."""
        return self._ends_before_its_place() and self._time_left() < _WARNED_S

    def _time_left(self) -> float:
        if self._lease.seconds is None:
            return float("inf")
        return self._began + self._lease.seconds - self._clock.monotonic()

    def _early_s(self) -> float:
        """Return how long before the end of its place a job is asked to leave, seconds."""
        wanted = _LEAVE_S + 2.0 * self.needed_s()
        return min(wanted, (self._lease.seconds or 0.0) / 2.0)


@contextlib.contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Route requests to stop to a handler, in the main thread, for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
