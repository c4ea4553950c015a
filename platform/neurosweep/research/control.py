"""Requests to a running driver: one small file each, consumed into the ledger."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.errors import DataError, StudyError
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.core.layout import DrivenDir
from neurosweep.core.schema import Value

logger = logging.getLogger(__name__)

ACTIONS = ("cancel", "pause", "stop", "clone", "throttle", "poll")
_WITH_TRIAL = ("stop", "clone")
_WITH_VALUE = ("throttle", "poll")
_MAX_BYTES = 64 * 1024
_MAX_SLOTS = 100_000
_MAX_POLL_S = 3600.0


@dataclass(frozen=True)
class Request:
    """Ask a driver for something.

    Attributes
    ----------
    id
        Unique name; a request is obeyed once, also when the driver dies while it reads it.
    action
        ``cancel`` closes the study as incomplete; ``pause`` lets running trials end and stops;
        ``stop`` ends one trial, which stays spent; ``clone`` runs a trial again with other values
        in a place of a later round; ``throttle`` and ``poll`` change how many trials run at a
        time and how often the executor is asked.
    reason
        Why, in words, for the record.
    trial
        The trial to stop or to clone; empty for the other actions.
    path
        The file that holds the request.
    value
        Trials at a time (0 starts none), or seconds between two queries; None for the others.
    overrides
        Dotted path to value: what a clone has otherwise than its trial.
    """

    id: str
    action: str
    reason: str
    trial: str
    path: Path
    value: float | None = None
    overrides: Mapping[str, Value] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the data of the ledger event."""
        data: dict[str, Any] = {"action": self.action, "request": self.id, "reason": self.reason}
        if self.trial:
            data["trial"] = self.trial
        if self.value is not None:
            data["value"] = self.value
        if self.action == "clone":
            data["overrides"] = dict(self.overrides)
        return data


def send_request(
    study: DrivenDir,
    action: str,
    *,
    reason: str = "",
    trial: str = "",
    value: float | None = None,
    overrides: Mapping[str, Value] | None = None,
    clock: Clock | None = None,
) -> str:
    """Leave a request for the driver of a study; return its id.

    Raises
    ------
    StudyError
        When the action is unknown, lacks what it needs or has what it does not take, or the
        study does not exist; all that is wrong is said.
    """
    body: dict[str, Any] = {"v": 1, "action": action, "reason": reason, "trial": trial}
    if value is not None:
        body["value"] = value
    if overrides:
        body["overrides"] = dict(overrides)
    problems = _problems(body)
    if problems:
        raise StudyError("; ".join(problems))
    if not study.ledger.exists():
        msg = f"{study.root}: is not a study; it has no ledger"
        raise StudyError(msg)
    stamp = utc_iso((clock or SystemClock()).now()).replace(":", "").replace(".", "")
    request_id = f"{stamp}-{secrets.token_hex(4)}"
    study.control_dir.mkdir(exist_ok=True)
    atomic_write_json(study.control_dir / f"{request_id}.json", body)
    return request_id


def pending_requests(study: DrivenDir) -> Iterator[Request]:
    """Yield the requests that wait, oldest first; a file that is no request is set aside."""
    if not study.control_dir.is_dir():
        return
    for path in sorted(study.control_dir.glob("*.json")):
        try:
            yield parse(path, read_json(path, _MAX_BYTES))
        except DataError as error:
            logger.warning("request set aside: %s", error)
            path.rename(path.with_suffix(".refused"))


def parse(path: Path, body: object) -> Request:
    """Return the request that a file holds.

    Raises
    ------
    DataError
        When it is none; all that is wrong is said.
    """
    if not isinstance(body, Mapping):
        msg = f"{path}: holds no request, which is a JSON object"
        raise DataError(msg)
    problems = _problems(body)
    if problems:
        raise DataError(f"{path}: " + "; ".join(problems))
    value = body.get("value")
    return Request(
        id=path.stem,
        action=str(body["action"]),
        reason=str(body.get("reason", "")),
        trial=str(body.get("trial", "")),
        path=path,
        value=None if value is None else float(value),
        overrides=dict(body.get("overrides") or {}),
    )


def _problems(body: Mapping[str, Any]) -> list[str]:
    action, trial = body.get("action"), body.get("trial", "")
    if action not in ACTIONS:
        return [f"unknown request {action!r}; allowed are {', '.join(ACTIONS)}"]
    problems = []
    if not isinstance(trial, str) or (action in _WITH_TRIAL) != bool(trial):
        listed = " and ".join(f"'{name}'" for name in _WITH_TRIAL)
        problems.append(f"{listed} name one trial, and no other request names one")
    problems += _value_problems(action, body.get("value"))
    return problems + _override_problems(action, body.get("overrides") or {})


def _value_problems(action: str, value: Any) -> list[str]:
    if action not in _WITH_VALUE:
        return [] if value is None else [f"'{action}' takes no value"]
    number = value if type(value) in (int, float) else math.nan
    if action == "throttle" and not (0 <= number <= _MAX_SLOTS and number == int(number)):
        return [f"'throttle' is {value!r}, not a whole number of trials from 0 to {_MAX_SLOTS}"]
    if action == "poll" and not 0 < number <= _MAX_POLL_S:
        return [f"'poll' is {value!r}, not seconds above 0 and up to {_MAX_POLL_S:g}"]
    return []


def _override_problems(action: str, overrides: object) -> list[str]:
    if not isinstance(overrides, Mapping):
        return ["'overrides' is not a table of dotted paths"]
    if action != "clone":
        return [f"'{action}' takes no overrides"] if overrides else []
    wrong = [
        str(path)[:60]
        for path, value in overrides.items()
        if not isinstance(value, bool | int | float | str)
        or (isinstance(value, float) and not math.isfinite(value))
    ]
    return [f"{path}: is no number, truth value or text" for path in wrong]
