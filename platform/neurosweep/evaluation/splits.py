"""Which data trains, which is searched on, which is kept: by sentence text, or by time."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TextPart = Literal["train", "dev", "val", "test"]
TRAIN_BELOW = 0.8
VAL_BELOW = 0.9
DEV_SHARE = 0.1


def split_score(text: str) -> float:
    """Return a number in [0, 1) that depends on the text alone.

    The same sentence gets the same number for every subject, machine and Python.

    Notes
    -----
    The hash seeds the generator as a float: an integer seed gives another split.
    """
    return random.Random(int(hashlib.sha256(text.encode()).hexdigest(), 16) + 0.0).random()


def part_of_text(text: str) -> TextPart:
    """Return the part of a sentence: 80 % train (a tenth of it dev), 10 % val, 10 % test."""
    score = split_score(text)
    if score >= VAL_BELOW:
        return "test"
    if score >= TRAIN_BELOW:
        return "val"
    return "dev" if dev_score(text) < DEV_SHARE else "train"


def dev_score(text: str) -> float:
    """Return a second number in [0, 1), which says nothing about `split_score`."""
    return split_score(f"dev\n{text}")


@dataclass(frozen=True)
class Fold:
    """Hold one way to divide items that are ordered in time.

    Attributes
    ----------
    train, dev, val
        Indices in order of time. Items in a gap are in none of them.
    """

    train: tuple[int, ...]
    dev: tuple[int, ...]
    val: tuple[int, ...]


def contiguous_parts(
    num_items: int, shares: Mapping[str, float], *, gap: int = 0
) -> dict[str, range]:
    """Divide items in order of time into contiguous blocks.

    Parameters
    ----------
    num_items
        Number of items.
    shares
        Part to share, in order of time; the shares add up to 1.
    gap
        Items left out between two blocks, so that slow drifts and overlapping windows are not
        on both sides.

    Raises
    ------
    ValueError
        When the shares do not add up to 1, or a part with a share would be empty.
    """
    if not math.isclose(sum(shares.values()), 1.0) or min(shares.values()) < 0:
        msg = f"shares {dict(shares)} must not be negative and must add up to 1"
        raise ValueError(msg)
    used = [name for name, share in shares.items() if share > 0]
    available = num_items - gap * (len(used) - 1)
    parts = dict.fromkeys(shares, range(0))
    start, before, given = 0, 0.0, 0
    for name in used:
        before += shares[name]
        until = round(before * available)
        parts[name] = range(start, start + until - given)
        start += until - given + gap
        given = until
    empty = [name for name in used if not parts[name]]
    if available < 1 or empty:
        msg = f"{num_items} items with a gap of {gap} leave nothing for {empty or used}"
        raise ValueError(msg)
    return parts


def contiguous_folds(
    num_items: int, num_folds: int, *, dev_share: float = DEV_SHARE, gap: int = 0
) -> list[Fold]:
    """Divide items in order of time into folds whose val blocks cover every item once.

    Parameters
    ----------
    num_items
        Number of items.
    num_folds
        Number of blocks; each is val once.
    dev_share
        Share of the remaining items that are dev: the contiguous block after the val block (or
        before it when there is nothing after).
    gap
        Items left out on each side of val and dev.

    Raises
    ------
    ValueError
        When there are fewer than two folds, or too few items for them.
    """
    if not 2 <= num_folds <= num_items:
        msg = f"{num_folds} folds of {num_items} items: at least 2 folds and an item for each"
        raise ValueError(msg)
    borders = [round(k * num_items / num_folds) for k in range(num_folds + 1)]
    folds = [
        _fold(num_items, range(borders[k], borders[k + 1]), dev_share, gap)
        for k in range(num_folds)
    ]
    if any(not fold.train or (dev_share > 0 and not fold.dev) for fold in folds):
        msg = f"{num_items} items in {num_folds} folds with a gap of {gap} leave nothing to train"
        raise ValueError(msg)
    return folds


def _fold(num_items: int, val: range, dev_share: float, gap: int) -> Fold:
    before = range(max(val.start - gap, 0))
    after = range(min(val.stop + gap, num_items), num_items)
    num_dev = max(1, round(dev_share * (len(before) + len(after)))) if dev_share > 0 else 0
    if len(after) >= num_dev + gap or len(after) >= len(before):
        dev = after[:num_dev]
        after = after[num_dev + gap :]
    else:
        dev = before[max(len(before) - num_dev, 0) :]
        before = before[: max(len(before) - num_dev - gap, 0)]
    return Fold((*before, *after), tuple(dev), tuple(val))
