"""Share slots fairly: among the studies of one driver, and among the drivers of one cluster."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock
from neurosweep.core.errors import DataError
from neurosweep.core.fair import fair_shares
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.exec.claim import ProcessMark

logger = logging.getLogger(__name__)

LEASE_S = 180.0
_MAX_BYTES = 1024 * 1024


class SlotFile:
    """Share a number of slots with other drivers through one file.

    Every driver writes how many slots it could use and reads its share of all. A driver that
    has not written for `LEASE_S`, or whose process is over on this machine, counts no more.

    Parameters
    ----------
    path
        The file; all drivers of a cluster name the same one.
    total
        Slots of this driver's profile; where drivers say different numbers the least holds.
    clock
        Source of time; None takes the file server's, which all drivers see alike.
    """

    def __init__(self, path: Path, total: int, clock: Clock | None = None) -> None:
        self._path = path
        self._total = total
        self._clock = clock
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        # Until the others can be seen: not all, since they may not see this one either.
        self._share = max(total // 2, 1)
        self._trouble = ""
        self._now = 0.0

    def share(self, demand: int, running: int = 0) -> int:
        """Say what is wanted and return what may be used; the last share while it cannot be asked.

        What others still run above their share is not given away before it has ended.

        Parameters
        ----------
        demand
            Slots that could be used now.
        running
            Slots that are used now.
        """
        try:
            with self._held():
                others = self._others()
                drivers = others | {self._name: self._entry(demand, running)}
                total = min(int(entry["total"]) for entry in drivers.values())
                wants = {name: int(drivers[name]["demand"]) for name in self._in_turn(drivers)}
                atomic_write_json(self._path, {"v": 1, "drivers": drivers})
            free = total - sum(int(entry.get("running", 0)) for entry in others.values())
            self._share = max(min(fair_shares(total, wants)[self._name], free), 0)
            self._trouble = ""
        except OSError as error:
            if not self._trouble:
                logger.warning("%s: the slots cannot be shared now: %s", self._path, error)
            self._trouble = str(error)
        return self._share

    def leave(self) -> None:
        """Give the share back."""
        try:
            with self._held():
                atomic_write_json(self._path, {"v": 1, "drivers": self._others()})
        except OSError as error:
            logger.warning("%s: the slots cannot be given back: %s", self._path, error)

    def _in_turn(self, drivers: Mapping[str, Any]) -> list[str]:
        """Return the drivers in an order whose first one changes every minute."""
        names = sorted(drivers)
        first = int(self._now // 60) % len(names)
        return names[first:] + names[:first]

    def _entry(self, demand: int, running: int) -> dict[str, Any]:
        mark = asdict(ProcessMark.of(os.getpid()))
        numbers = {"demand": demand, "running": running, "total": self._total}
        return {**numbers, "t": self._now, **mark}

    def _others(self) -> dict[str, dict[str, Any]]:
        """Return the entries of the other drivers that live."""
        try:
            entries = read_json(self._path, _MAX_BYTES)["drivers"] if self._path.exists() else {}
            return {
                name: entry
                for name, entry in entries.items()
                if name != self._name and self._lives(entry)
            }
        except (DataError, KeyError, TypeError, AttributeError, ValueError) as error:
            logger.warning("%s: is damaged and is written anew: %s", self._path, error)
            return {}

    def _lives(self, entry: Mapping[str, Any]) -> bool:
        mark = ProcessMark.from_dict(entry)
        if mark.local and not mark.is_alive():
            return False
        int(entry["demand"]), int(entry["total"])
        return abs(self._now - float(entry["t"])) < LEASE_S

    @contextmanager
    def _held(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = Path(f"{self._path}.lock")
        new = not lock.exists()
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if new:  # open to whom the folder is, whatever the umask of its maker
                os.fchmod(descriptor, 0o600 | lock.parent.stat().st_mode & 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.pwrite(descriptor, b"\n", 0)
            now = os.fstat(descriptor).st_mtime
            self._now = now if self._clock is None else self._clock.now()
            yield
        finally:
            os.close(descriptor)
