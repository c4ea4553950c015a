"""Judge how an attempt ended, from what its job left and what its executor saw."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, parse_iso
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_bytes, read_json
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.claim import read_claim, take_claim
from neurosweep.exec.protocol import TaskView
from neurosweep.exec.status import EXIT_CLAIMED, EXIT_NO_STATUS
from neurosweep.records.trial import POLICY, Kind, Outcome

_MAX_STATUS_BYTES = 1024 * 1024
_MAX_SMALL_BYTES = 64 * 1024
_MAX_TEXT = 500
_FULL_DISK_BYTES = 64 * 1024 * 1024
_REVOKED = "revoked by the driver"
_TAKEN_AWAY = "taken away by the driver"
# What only an executor can know: a job that claims it would get its trial run again for free.
_NOT_FOR_JOBS = frozenset(kind for kind, policy in POLICY.items() if policy.refill) | {Kind.NONE}
_CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGXFSZ}
)


@dataclass(frozen=True)
class Ending:
    """Say how an attempt ended.

    Attributes
    ----------
    outcome, kind
        The judgement.
    error
        ``type`` and ``text``; empty for a good end.
    seconds
        Duration of the job, 0 when it never started.
    peak_mb
        Largest memory it reported, MB.
    files
        Name to SHA-256 of the files it says it wrote.
    """

    outcome: Outcome
    kind: Kind
    error: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_mb: float = 0.0
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether there are predictions to score."""
        return self.outcome is Outcome.DONE


def failed(kind: Kind, text: str, *, type_: str = "", seconds: float = 0.0) -> Ending:
    """Return a failed ending."""
    error = {"type": type_ or kind.value, "text": _plain(text)}
    return Ending(Outcome.FAILED, kind, error, seconds)


def read_status(files: AttemptDir, known: Kind | None) -> Ending | None:
    """Return how the job says it ended, or None while it has not said so.

    A job is not believed everything: it cannot claim an infrastructure failure, nor a score.

    Parameters
    ----------
    files
        The attempt.
    known
        Why the executor or the driver ended it; None when neither did.
    """
    if not os.path.lexists(files.status):
        return None
    try:
        status = read_json(files.status, _MAX_STATUS_BYTES)
        if not isinstance(status, Mapping):
            msg = f"{files.status}: is not a JSON object"
            raise DataError(msg)
        return _believed(status, known, _disk_is_full(files))
    except (DataError, ValueError, TypeError, OverflowError) as error:
        return failed(Kind.USER_ERROR, f"status.json is damaged: {error}", type_="DataError")


def _believed(status: Mapping[str, Any], known: Kind | None, disk_full: bool) -> Ending:
    seconds = _duration(status)
    peak_mb = min(max(float(status.get("peak_mb") or 0.0), 0.0), 1e9)
    if Outcome(str(status.get("outcome"))) is Outcome.DONE:
        listed = status.get("files")
        pairs = listed.items() if isinstance(listed, Mapping) else ()
        files = {str(name): str(sha) for name, sha in pairs}
        return Ending(Outcome.DONE, Kind.NONE, {}, seconds, peak_mb, files)
    kind = Kind(str(status.get("kind")))
    if known is not None:
        kind = known
    elif kind in _NOT_FOR_JOBS and not (kind is Kind.NODE_FAILURE and disk_full):
        kind = Kind.USER_ERROR
    return Ending(Outcome.FAILED, kind, _error_of(status), seconds, peak_mb)


def _disk_is_full(files: AttemptDir) -> bool:
    return shutil.disk_usage(files.root).free < _FULL_DISK_BYTES


def _error_of(status: Mapping[str, Any]) -> dict[str, str]:
    error = status.get("error")
    if not isinstance(error, Mapping):
        return {"type": "", "text": ""}
    return {
        "type": _plain(error.get("type", "")),
        "text": _plain(error.get("text", "")),
    }


def _plain(text: object) -> str:
    """Return text of a job, short, and without halves of characters that UTF-8 cannot hold."""
    return str(text)[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def _duration(status: Mapping[str, Any]) -> float:
    worked = status.get("seconds")  # that of earlier starts is in it, waiting between them not
    if isinstance(worked, int | float) and not isinstance(worked, bool):
        return round(min(max(float(worked), 0.0), 1e8), 3)
    started, ended = status.get("started"), status.get("ended")
    if not isinstance(started, str) or not isinstance(ended, str):
        return 0.0
    return round(min(max(parse_iso(ended) - parse_iso(started), 0.0), 1e8), 3)


def judge_silence(view: TaskView, known: Kind | None) -> Ending:
    """Return how an attempt ended that left no status.

    Parameters
    ----------
    view
        What the executor saw last.
    known
        Why the executor or the driver ended it; None when neither did.
    """
    if known is not None:
        return failed(known, view.reason or POLICY[known].meaning)
    if view.signal in _CRASHES:
        name = signal.Signals(view.signal).name
        return failed(Kind.USER_ERROR, f"the process died of {name}", type_=name)
    if view.exit_code is not None and view.exit_code not in (EXIT_NO_STATUS, EXIT_CLAIMED):
        text = f"the process ended with exit code {view.exit_code} and left no status"
        return failed(Kind.USER_ERROR, text, type_="SystemExit")
    if view.exit_code == EXIT_NO_STATUS:
        text = "its folder could not be written: a full disk, or one that its machine lacks"
        return failed(Kind.LOST, text)
    return failed(Kind.LOST, view.reason or "the process vanished and left no result")


class Hold(StrEnum):
    """Who holds the claim of an attempt."""

    NOBODY = "nobody"
    ALIVE = "alive"
    MAYBE = "maybe"
    DEAD = "dead"


@dataclass(frozen=True)
class Claimed:
    """Say who runs an attempt.

    Attributes
    ----------
    hold
        ``alive`` and ``dead`` are certain, this machine's process table says so; ``maybe`` is
        another machine's process that gave a sign of life not long ago.
    host, pid
        Its process, where known.
    job
        Its job, as the executor names it.
    restart
        How often the scheduler has started the job again.
    t
        When it claimed the attempt, in seconds since 1970.
    machine
        Its machine, as its scheduler calls it.
    """

    hold: Hold
    host: str = ""
    pid: int = 0
    job: str = ""
    restart: int = 0
    t: float = 0.0
    machine: str = ""

    @property
    def over_here(self) -> bool:
        """Whether its process ran on this machine and is over: no file of it comes late."""
        return self.hold is Hold.DEAD and self.host == socket.gethostname()


def read_claimed(files: AttemptDir, now: float, patience_s: float) -> Claimed:
    """Return who runs an attempt.

    Parameters
    ----------
    files
        The attempt.
    now
        Seconds since 1970.
    patience_s
        How long a process of another machine is believed alive without a sign of life.
    """
    try:
        claim = read_claim(files.claim)
    except DataError:
        # Damaged by the job that held it: then it ran, and does not count as unclaimed.
        recent = now - _last_sign(files) < patience_s
        return Claimed(Hold.MAYBE if recent else Hold.DEAD)
    if claim is None:
        return Claimed(Hold.NOBODY)
    if claim.job == _REVOKED:
        return Claimed(Hold.DEAD)
    mark = claim.mark
    if claim.job == _TAKEN_AWAY:
        hold = Hold.DEAD
    elif mark.host == socket.gethostname():
        hold = Hold.ALIVE if mark.is_alive() else Hold.DEAD
    else:
        recent = now - _last_sign(files) < patience_s
        hold = Hold.MAYBE if recent else Hold.DEAD
    return Claimed(hold, mark.host, mark.pid, claim.job, claim.restart, claim.t, claim.machine)


def _last_sign(files: AttemptDir) -> float:
    signs = [0.0]
    for path in (files.heartbeat, files.claim):
        try:
            signs.append(path.lstat().st_mtime)
        except OSError:
            continue
    return max(signs)


def revoke(files: AttemptDir, clock: Clock) -> bool:
    """Take the claim of an attempt that never started; False when a job was faster.

    A job of the attempt that starts late, from a queue or a second submission, then finds the
    attempt taken and ends.
    """
    files.root.mkdir(parents=True, exist_ok=True)
    return take_claim(files, _REVOKED, 0, clock)


def take_away(files: AttemptDir) -> None:
    """Take the claim of an attempt that is given up from its process.

    One that lives on unseen, as on a node that its scheduler has lost, then ends without a
    status; nor can its job start again.
    """
    try:
        claim = read_claim(files.claim)
    except DataError:
        return
    if claim is not None and claim.job not in (_REVOKED, _TAKEN_AWAY):
        content = replace(claim, job=_TAKEN_AWAY).to_json()
        atomic_write_bytes(files.claim, content.encode())


def is_told_by_executor(files: AttemptDir) -> bool:
    """Return whether only an executor can say how an attempt ended.

    It left no status, or one that it wrote when it was told to stop: by whom, and why, it did
    not know.
    """
    if not os.path.lexists(files.status):
        return True
    try:
        status = read_json(files.status, _MAX_STATUS_BYTES)
    except DataError:
        return False
    return isinstance(status, Mapping) and status.get("kind") == Kind.STOPPED.value


def heartbeat_marks(heartbeat: Path) -> tuple[str, str]:
    """Return a text that changes with a job's progress, and one that changes with every beat.

    A hung job still beats. Both are empty before the first sign of life.
    """
    try:
        data = read_json(heartbeat, _MAX_SMALL_BYTES)
    except DataError:
        return "", ""
    if not isinstance(data, Mapping):
        return "", ""
    progress = [data.get(key) for key in ("phase", "step", "epoch", "loss", "progress_t")]
    return repr(progress), repr(data.get("t"))
