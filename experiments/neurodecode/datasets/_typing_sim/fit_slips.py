"""Count the slips of people who typed sentences: which kinds there are, where they land."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neurodecode.datasets._typing_sim.keyboard import neighbours
from neurosweep.core.errors import DataError

SLIPS = ("substitution", "omission", "doubling", "insertion", "swap")
_OTHER = re.compile("[^a-z ]")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read what was asked for and what was typed, both in letters a to z and spaces.

    Raises
    ------
    DataError
        When the file is absent or has no such columns.
    """
    import pandas as pd

    columns = ["sentence", "user_input"]
    try:
        table = pd.read_csv(path, keep_default_na=False, usecols=columns)
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}); a table with {', '.join(columns)} is expected"
        raise DataError(msg) from error
    rows = zip(table["sentence"], table["user_input"], strict=True)
    return [(_plain(asked), _plain(typed)) for asked, typed in rows]


def _plain(text: str) -> str:
    return " ".join(_OTHER.sub("", text.lower()).split())


def slip_of(asked: str, typed: str) -> tuple[str, str, str] | None:
    """Return the only slip of a sentence: its kind, what was asked for there, what was typed.

    None when there is no slip, or more than one.
    """
    start = 0
    while start < min(len(asked), len(typed)) and asked[start] == typed[start]:
        start += 1
    end = 0
    while end < min(len(asked), len(typed)) - start and asked[-1 - end] == typed[-1 - end]:
        end += 1
    was, became = asked[start : len(asked) - end], typed[start : len(typed) - end]
    sizes = (len(was), len(became))
    if sizes == (1, 1):
        return "substitution", was, became
    if sizes == (1, 0):
        return "omission", was, became
    if sizes == (0, 1):
        # The common start runs over the first of two equal letters.
        doubled = start > 0 and asked[start - 1] == became
        return "doubling" if doubled else "insertion", asked[max(start - 1, 0) : start + 1], became
    if sizes == (2, 2) and was == became[::-1]:
        return "swap", was, became
    return None


def slip_figures(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the share of every kind of slip, and how many land on a neighbour's key."""
    kinds: Counter[str] = Counter()
    near: Counter[str] = Counter()
    for asked, typed in pairs:
        found = slip_of(asked, typed)
        if found is None:
            continue
        kind, was, became = found
        kinds[kind] += 1
        if kind in ("substitution", "insertion"):
            near[kind] += any(became in neighbours(character) for character in was)
    total = sum(kinds.values())
    return {
        "num_slips": total,
        "shares": {kind: round(kinds[kind] / max(total, 1), 3) for kind in SLIPS},
        "beside": {
            kind: round(near[kind] / max(kinds[kind], 1), 3)
            for kind in ("substitution", "insertion")
        },
    }
