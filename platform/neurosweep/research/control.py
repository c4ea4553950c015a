"""Requests to a running driver: one small file each, consumed into the ledger."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.errors import DataError, StudyError
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.core.layout import StudyDir

logger = logging.getLogger(__name__)

ACTIONS = ("cancel", "pause", "stop")
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Request:
    """Ask a driver for something.

    Attributes
    ----------
    id
        Unique name; a request is obeyed once, also when the driver dies while it reads it.
    action
        ``cancel`` closes the study as incomplete; ``pause`` lets running trials end and stops;
        ``stop`` ends one trial, which stays spent.
    reason
        Why, in words, for the record.
    trial
        The trial to stop; empty for the other actions.
    path
        The file that holds the request.
    """

    id: str
    action: str
    reason: str
    trial: str
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the data of the ledger event."""
        data = {"action": self.action, "request": self.id, "reason": self.reason}
        return data | ({"trial": self.trial} if self.trial else {})


def send_request(
    study: StudyDir, action: str, *, reason: str = "", trial: str = "", clock: Clock | None = None
) -> str:
    """Leave a request for the driver of a study; return its id.

    Raises
    ------
    StudyError
        When the action is unknown, ``stop`` names no trial, or the study does not exist.
    """
    if action not in ACTIONS:
        msg = f"unknown request '{action}'; allowed are {', '.join(ACTIONS)}"
        raise StudyError(msg)
    if (action == "stop") != bool(trial):
        msg = "a 'stop' names the trial to stop, and no other request names one"
        raise StudyError(msg)
    if not study.ledger.exists():
        msg = f"{study.root}: is not a study; it has no ledger"
        raise StudyError(msg)
    stamp = utc_iso((clock or SystemClock()).now()).replace(":", "").replace(".", "")
    request_id = f"{stamp}-{secrets.token_hex(4)}"
    study.control_dir.mkdir(exist_ok=True)
    body = {"v": 1, "action": action, "reason": reason, "trial": trial}
    atomic_write_json(study.control_dir / f"{request_id}.json", body)
    return request_id


def pending_requests(study: StudyDir) -> Iterator[Request]:
    """Yield the requests that wait, oldest first; a file that is no request is set aside."""
    if not study.control_dir.is_dir():
        return
    for path in sorted(study.control_dir.glob("*.json")):
        try:
            yield _parse(path, read_json(path, _MAX_BYTES))
        except DataError as error:
            logger.warning("request set aside: %s", error)
            path.rename(path.with_suffix(".refused"))


def _parse(path: Path, body: object) -> Request:
    if not isinstance(body, Mapping) or body.get("action") not in ACTIONS:
        msg = f"{path}: 'action' must be one of {', '.join(ACTIONS)}"
        raise DataError(msg)
    reason, trial = str(body.get("reason", "")), str(body.get("trial", ""))
    return Request(path.stem, str(body["action"]), reason, trial, path)
