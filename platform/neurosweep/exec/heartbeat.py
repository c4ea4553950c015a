"""Signs of life: written by a job, read by the driver to tell slow from stuck."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, parse_iso, utc_iso
from neurosweep.core.errors import DataError
from neurosweep.core.files import read_json

PERIOD_S = 2.0
_TICK_S = 0.25
_MAX_BYTES = 64 * 1024


def read_heartbeat(path: Path) -> dict[str, Any] | None:
    """Return the last sign of life, or None when there is none that can be read."""
    try:
        data = read_json(path, _MAX_BYTES)
    except DataError:
        return None
    return data if isinstance(data, dict) else None


def held_seconds(path: Path) -> float | None:
    """Return for how long an attempt has had its place on a machine, all its starts together.

    Waiting between two starts is left out. None when its job has not said so.
    """
    held = (read_heartbeat(path) or {}).get("held_s")
    if isinstance(held, bool) or not isinstance(held, int | float) or not 0.0 <= held < math.inf:
        return None
    return float(held)


def is_stalled(heartbeat: Mapping[str, Any] | None, now: float, stall_s: float) -> bool:
    """Return whether a job that once gave signs of life has made no progress for too long.

    A process that lives but does not move on is stalled: what counts is ``progress_t``, the time
    of the job's own last report, not ``t``, the time at which the file was written.

    Parameters
    ----------
    heartbeat
        Content of ``heartbeat.json``; None, before the first sign of life, is never a stall.
    now
        Seconds since 1970.
    stall_s
        Longest time without progress, in seconds.
    """
    if heartbeat is None:
        return False
    times = [_seconds(heartbeat.get(key)) for key in ("progress_t", "t")]
    last = next((t for t in times if t is not None), None)
    return last is None or now - last > stall_s


def _seconds(value: object) -> float | None:
    try:
        return parse_iso(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


class Pulse:
    """Keep ``heartbeat.json`` fresh from a thread, and run checks meanwhile.

    Parameters
    ----------
    path
        File to write.
    checks
        Called about four times a second; each must return quickly and raise nothing.
    period_s
        Seconds between two writes.
    clock
        Source of times; stands still while the process does, for `held_s` of the file.

    Attributes
    ----------
    num_epochs
        Epochs that the job has reported so far.
    """

    def __init__(
        self,
        path: Path,
        checks: Sequence[Callable[[], None]] = (),
        period_s: float = PERIOD_S,
        clock: Clock | None = None,
    ) -> None:
        self._path = path
        self._checks = checks
        self._period_s = period_s
        self._clock = clock or SystemClock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pulse", daemon=True)
        self.num_epochs = 0
        now = utc_iso(self._clock.now())
        self._state: dict[str, Any] = {
            "v": 1,
            "phase": "start",
            "step": None,
            "epoch": None,
            "loss": None,
            "progress_t": now,
        }
        # A scheduler may have started the attempt before, and let it wait since then.
        self._held_s = held_seconds(path) or 0.0
        self._began = self._clock.monotonic()

    def start(self) -> None:
        """Write the first sign of life and go on from a thread."""
        self.write()
        self._thread.start()

    def stop(self) -> None:
        """Write the last sign of life and end the thread."""
        self._over.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self.write()

    def beat(
        self,
        phase: str,
        step: int | None = None,
        epoch: int | None = None,
        loss: float | None = None,
    ) -> None:
        """Report progress; the thread writes it within a period.

        Parameters
        ----------
        phase
            What the job does, for example ``train``.
        step, epoch
            Counters.
        loss
            Last loss; one that is not finite is left out.
        """
        if epoch is not None:
            self.num_epochs = max(self.num_epochs, int(epoch) + 1)
        finite = loss is not None and math.isfinite(loss)
        self._state = {
            "v": 1,
            "phase": str(phase)[:200],
            "step": None if step is None else int(step),
            "epoch": None if epoch is None else int(epoch),
            "loss": float(loss) if loss is not None and finite else None,
            "progress_t": utc_iso(self._clock.now()),
        }

    def write(self) -> None:
        """Replace the file now; a full disk must not end the job, so it is passed over."""
        held_s = round(self._held_s + self._clock.monotonic() - self._began, 3)
        text = json.dumps(self._state | {"held_s": held_s, "t": utc_iso(self._clock.now())})
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _loop(self) -> None:
        tick = min(_TICK_S, self._period_s)
        written = self._clock.monotonic()
        while not self._over.wait(tick):
            for check in self._checks:
                check()
            if self._clock.monotonic() - written >= self._period_s:
                written = self._clock.monotonic()
                self.write()
