"""Keep MLflow up to date beside the loop, without ever holding it up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Protocol

from neurosweep.core.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

PAUSE_S = 3.0


class SupportsSync(Protocol):
    """What a mirror can do; it reads the ledger itself and may be called at any time."""

    def sync(self) -> object:
        """Bring the mirror up to date with the ledger; its report says whether it is."""
        ...

    def close(self) -> object:
        """Bring it up to date for the last time and let go of everything."""
        ...


class MirrorPump:
    """Call a mirror's sync in a thread of its own, at most every few seconds.

    The mirror reads the ledger from disk, so nothing is handed over and nothing can be lost:
    whatever one sync misses, the next one brings. An unreachable server blocks the thread only.

    Parameters
    ----------
    mirror
        What to call; None for no mirror.
    pause_s
        Seconds between two calls.
    clock
        Source of time.
    """

    def __init__(
        self, mirror: SupportsSync | None, *, pause_s: float = PAUSE_S, clock: Clock | None = None
    ) -> None:
        self._mirror = mirror
        self._pause_s = pause_s
        self._clock = clock or SystemClock()
        self._thread: threading.Thread | None = None
        self._last = float("-inf")
        self._up_to_date = True

    def nudge(self) -> None:
        """Start a sync unless one runs or one was started a moment ago."""
        now = self._clock.monotonic()
        if self._mirror is None or now - self._last < self._pause_s or self._busy:
            return
        self._last = now
        self._start(self._mirror.sync)

    def finish(self, timeout_s: float = 60.0) -> bool:
        """Bring the mirror up to date for the last time; return whether it is now.

        What is left over is brought by the next driver or by a rebuild.
        """
        steps = self.finishing(timeout_s)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return bool(end.value)

    def finishing(self, timeout_s: float) -> Generator[float, None, bool]:
        """Do as `finish` does, and come up for air: others may work meanwhile."""
        if self._mirror is None:
            return True
        deadline = time.monotonic() + timeout_s
        yield from self._waiting(deadline)
        if not self._busy:
            self._up_to_date = False
            self._start(self._mirror.close)
            yield from self._waiting(deadline)
        if self._busy:
            logger.warning("MLflow is not up to date after %g s; the ledger is", timeout_s)
        return not self._busy and self._up_to_date

    def _waiting(self, deadline: float) -> Generator[float, None, None]:
        while self._thread is not None and self._busy and time.monotonic() < deadline:
            self._thread.join(min(0.05, max(deadline - time.monotonic(), 0.0)))
            yield 0.0

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self, bring: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=self._run, args=(bring,), name="mirror", daemon=True)
        self._thread.start()

    def _run(self, bring: Callable[[], object]) -> None:
        try:
            report = bring()
        except Exception as error:  # noqa: BLE001 - whatever a mirror meets, the study goes on
            logger.warning("MLflow could not be brought up to date: %s", error)
            return
        self._up_to_date = bool(getattr(report, "caught_up", True))
