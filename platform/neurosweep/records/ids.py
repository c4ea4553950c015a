"""Names of studies and trials."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from neurosweep.core.clock import Clock
from neurosweep.core.errors import StudyError
from neurosweep.records.trial import Purpose

_LETTERS = {
    Purpose.FLOOR: "f",
    Purpose.CANARY: "k",
    Purpose.SENTINEL: "s",
    Purpose.CONFIRM: "c",
}
_SEARCH = re.compile(r"r(\d{2,})t(\d{3,})")
_RESERVE = re.compile(r"([fksc])(\d{3,})")


def new_study_id(name: str, clock: Clock) -> str:
    """Return ``slug-YYYYMMDD-xxxx`` for a study's name.

    Raises
    ------
    StudyError
        When the name holds no letter or digit.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        msg = f"study name {name!r}: needs at least one letter or digit of a-z, 0-9"
        raise StudyError(msg)
    day = datetime.fromtimestamp(clock.now(), tz=UTC).strftime("%Y%m%d")
    return f"{slug[:48]}-{day}-{secrets.token_hex(2)}"


def search_trial_id(round_number: int, index: int) -> str:
    """Return the id of a search trial: rounds count from 1, indices from 0.

    Examples
    --------
    >>> search_trial_id(3, 17)
    'r03t017'
    """
    return f"r{round_number:02d}t{index:03d}"


def reserve_trial_id(purpose: Purpose, number: int) -> str:
    """Return the id of a trial that does not count against a round, for example ``f000``."""
    return f"{_LETTERS[purpose]}{number:03d}"


def parse_trial_id(trial: str) -> tuple[Purpose, int, int]:
    """Return purpose, round (0 for a reserve trial) and index of a trial id.

    Raises
    ------
    StudyError
        When the text is not a trial id.
    """
    match = _SEARCH.fullmatch(trial)
    if match:
        return Purpose.SEARCH, int(match[1]), int(match[2])
    match = _RESERVE.fullmatch(trial)
    if match:
        purpose = next(p for p, letter in _LETTERS.items() if letter == match[1])
        return purpose, 0, int(match[2])
    msg = f"{trial!r} is not a trial id; expected for example r01t000 (search) or f000 (floor)"
    raise StudyError(msg)
