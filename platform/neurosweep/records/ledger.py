"""The ledger: an append-only event log whose lines are chained by hash."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.errors import LedgerError
from neurosweep.core.files import canonical_json, loads_strict, sha256_bytes

EVENTS = frozenset(
    {
        "study_created",
        "agent_turn",
        "round_planned",
        "submit_intended",
        "submitted",
        "attempt_started",
        "attempt_ended",
        "trial_scored",
        "round_closed",
        "control",
        "champion_frozen",
        "vault_opened",
        "study_closed",
    }
)
_GENESIS = "0" * 64


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Return the events of a ledger after checking the chain.

    A last line without its line end was being written when the power went: it is left out. Any
    other damage is an error.

    Raises
    ------
    LedgerError
        Naming the file and the first damaged line.
    """
    return _parse(path, _read(path))[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{path}: there is no ledger here; a study folder holds ledger.jsonl"
        raise LedgerError(msg) from error


def _parse(path: Path, content: bytes) -> tuple[list[dict[str, Any]], int, str]:
    """Return events, number of good bytes, and the hash that the next line must name."""
    events: list[dict[str, Any]] = []
    expected, good = _GENESIS, 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        body = line[:-1]
        try:
            event = loads_strict(body)
        except ValueError as error:
            raise _damage(path, number, f"is not JSON ({error})") from error
        if not isinstance(event, dict) or event.get("seq") != number or event.get("v") != 1:
            raise _damage(path, number, f"does not carry sequence number {number}")
        if event.get("prev") != expected:
            raise _damage(path, number, "does not follow from the line before (hash chain)")
        expected = sha256_bytes(body)
        good += len(line)
        events.append(event)
    return events, good, expected


def _damage(path: Path, number: int, what: str) -> LedgerError:
    return LedgerError(
        f"{path}, line {number}: {what}; the ledger was changed or damaged after it was written. "
        "Restore the file from a backup; nothing was changed now"
    )


class Ledger:
    """Append events of one study; one writer at a time, which the study's lock ensures.

    Parameters
    ----------
    path
        The ledger's file; it is created by the first append.
    clock
        Source of the time stamps.
    known
        Names of the events that it may hold.

    Raises
    ------
    LedgerError
        When the file exists and is damaged elsewhere than in a cut last line.
    """

    def __init__(
        self, path: Path, clock: Clock | None = None, known: Collection[str] = EVENTS
    ) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._known = known
        self._count, self._prev = 0, _GENESIS
        if path.exists():
            content = _read(path)
            events, good, self._prev = _parse(path, content)
            self._count = len(events)
            if good < len(content):
                os.truncate(path, good)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events so far, oldest first, read from the file: a long study's are not kept."""
        return read_ledger(self._path) if self._count else []

    def append(self, event: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Append one event and wait until it is on disk.

        Raises
        ------
        OSError
            When the disk is full; the line is then not part of the ledger.
        """
        assert event in self._known, event
        line: dict[str, Any] = {
            "v": 1,
            "seq": self._count + 1,
            "t": utc_iso(self._clock.now()),
            "event": event,
            "data": dict(data),
            "prev": self._prev,
        }
        try:
            body = canonical_json(line).encode("utf-8")
        except (ValueError, TypeError) as error:
            msg = f"{self._path}: the data of a {event} event cannot be written as JSON ({error})"
            raise LedgerError(msg) from error
        self._write(body + b"\n")
        self._prev = sha256_bytes(body)
        self._count += 1
        # What is returned is what was written: callers may change their objects later.
        written: dict[str, Any] = loads_strict(body)
        return written

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, line)
                if written != len(line):
                    msg = f"{self._path}: only {written} of {len(line)} bytes could be written"
                    raise OSError(msg)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
