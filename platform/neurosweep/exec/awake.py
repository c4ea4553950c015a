"""A clock that stands still while its process does, as when a scheduler suspends its job."""

from __future__ import annotations

import time
from collections.abc import Callable

from neurosweep.core.clock import Clock

# Who looks may be so late on a busy machine; as much of every gap counts.
_LATE_S = 5.0


class AwakeClock:
    """Count only the time in which this process could run.

    A gap between two looks counts only as far as the process used the processor in it: a job
    that keeps all its threads waiting for one long call of a library still works.

    Parameters
    ----------
    clock
        Source of times.
    processor
        Returns the processor seconds that this process has used.
    """

    def __init__(self, clock: Clock, processor: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self._processor = processor
        # One value, so that another thread sees all of a look or nothing.
        self._last = (clock.monotonic(), processor(), 0.0)

    def look(self) -> None:
        """Note that the process runs; one thread calls this, several times a second."""
        now, used = self._clock.monotonic(), self._processor()
        self._last = (now, used, self._still(now, used))

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        return self._clock.now()

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back, without those of standing still."""
        now = self._clock.monotonic()
        return now - self._still(now, self._processor())

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""
        self._clock.sleep(seconds)

    def _still(self, now: float, used: float) -> float:
        """Return for how long the process has stood still in all, seconds."""
        looked, used_before, still = self._last
        return still + max(now - looked - (used - used_before) - _LATE_S, 0.0)
