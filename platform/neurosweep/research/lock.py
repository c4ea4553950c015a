"""One driver a study: a lock that survives nothing but its holder."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.errors import DataError, LockedError
from neurosweep.core.files import canonical_json, read_json
from neurosweep.exec.claim import ProcessMark

logger = logging.getLogger(__name__)

LEASE_S = 120.0
_BEAT_S = 15.0
# A look at the file is believed for so long; well below the lease that another machine waits.
_SURE_S = 30.0
# Two machines that find the same lapsed lock write their names within this time of each other.
_SETTLE_S = 3.0
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Holder:
    """Name the driver that holds a lock.

    Attributes
    ----------
    mark
        Its process, told from any later one with the same pid.
    since
        When the lock was taken, UTC.
    """

    mark: ProcessMark
    since: str

    @property
    def dead(self) -> bool:
        """Whether the process certainly does not run; only its own machine can tell."""
        return self.mark.host == socket.gethostname() and not self.mark.is_alive()

    def __str__(self) -> str:
        return f"process {self.mark.pid} on {self.mark.host}, since {self.since}"


class StudyLock:
    """Hold the lock of a study while its driver works.

    The kernel's lock on the file excludes every driver on this machine and ends with the
    process. Its content names the holder, for people and for machines that share the folder
    without sharing locks: there, a holder that has not touched the file for `LEASE_S` is gone.
    A holder that was frozen for so long finds another name in the file when it wakes, and
    `check` keeps it from writing.

    Parameters
    ----------
    path
        Lock file of the study.
    clock
        Source of time.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._descriptor: int | None = None
        self._content = b""
        self._shared = False
        self._sure_until = 0.0
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        LockedError
            When another driver holds it; names the holder.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._exclude_others(descriptor)
            mark, since = ProcessMark.of(os.getpid()), utc_iso(self._clock.now())
            content = canonical_json({"v": 1, **asdict(mark), "since": since}).encode() + b"\n"
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
            os.fsync(descriptor)
            self._content = content
            self._settle(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._stop.clear()
        self._beat = threading.Thread(target=self._keep, name="study-lock", daemon=True)
        self._beat.start()

    def release(self) -> None:
        """Give the lock back; without effect when it is not held."""
        if self._descriptor is None:
            return
        self._stop.set()
        assert self._beat is not None
        self._beat.join()
        if self._is_ours():
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises
        ------
        LockedError
            When another driver has taken it, since this one gave no sign of life for long.
        """
        if self._descriptor is None or time.time() < self._sure_until:
            return
        if not self._is_ours():
            raise self._refusal(read_holder(self._path))
        self._sure_until = time.time() + _SURE_S

    def _is_ours(self) -> bool:
        try:
            return self._path.read_bytes() == self._content
        except OSError:
            return False

    def _settle(self, descriptor: int) -> None:
        """Refuse when another machine wrote its name in the same moment; the last one holds."""
        if self._shared:
            time.sleep(_SETTLE_S)
            os.fsync(descriptor)
        if not self._is_ours():
            raise self._refusal(read_holder(self._path))
        self._sure_until = time.time() + _SURE_S

    def _keep(self) -> None:
        while not self._stop.wait(_BEAT_S):
            assert self._descriptor is not None
            if self._is_ours():
                os.utime(self._descriptor)

    def _exclude_others(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refusal(read_holder(self._path)) from None
        except OSError as error:
            logger.warning("%s: the file system has no locks (%s)", self._path, error.strerror)
            self._shared = True
        holder = read_holder(self._path)
        if holder is None or holder.dead:
            return
        age = self._clock.now() + self._skew_s() - os.fstat(descriptor).st_mtime
        if holder.mark.host == socket.gethostname() or age < LEASE_S:
            raise self._refusal(holder)
        self._shared = self._shared or holder.mark.host != socket.gethostname()

    def _skew_s(self) -> float:
        """Return how far the clock of the file server, which stamps files, is ahead of ours."""
        with tempfile.TemporaryFile(dir=self._path.parent) as probe:
            probe.write(b"\n")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime - time.time()

    def _refusal(self, holder: Holder | None) -> LockedError:
        study = self._path.parent.name
        who = "another process" if holder is None else str(holder)
        if holder is not None and holder.mark.host != socket.gethostname():
            who += f" (on another machine: gone when it is silent for {LEASE_S:g} s)"
        return LockedError(
            f"study {study} already has a driver: {who}; wait for it, end it, or ask it with "
            f"`neurosweep study pause {study}`"
        )


def read_holder(path: Path) -> Holder | None:
    """Return who a lock file names, or None when it names nobody."""
    try:
        data = read_json(path, _MAX_BYTES)
        return Holder(ProcessMark.from_dict(data), str(data["since"]))
    except (DataError, KeyError, TypeError, AttributeError):
        return None


def live_driver(path: Path, clock: Clock | None = None) -> Holder | None:
    """Return the driver that works on a study now, or None."""
    holder = read_holder(path)
    if holder is None or holder.dead:
        return None
    age = (clock or SystemClock()).now() - path.stat().st_mtime
    same_host = holder.mark.host == socket.gethostname()
    return holder if same_host or age < LEASE_S else None
