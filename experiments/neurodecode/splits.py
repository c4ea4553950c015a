"""Train, dev and val by blocks of time; labels permuted for the null.

Neighbouring windows of a recording resemble each other whatever their labels, so a shuffled
split measures how well a model remembers. All splits here are contiguous.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurodecode.contracts import Item, Windows
from neurosweep.core.errors import DataError

HOLDOUT = 5
_PURGE_S = 0.5


@dataclass(frozen=True)
class Fold:
    """Items of one split, in their order of time within a recording.

    Attributes
    ----------
    train, dev, val
        Disjoint; `dev` judges early stopping and has labels, `val` is scored.
    """

    train: tuple[Item, ...]
    dev: tuple[Item, ...]
    val: tuple[Item, ...]


def make_folds(windows: Windows, folds: int) -> tuple[Fold, ...]:
    """Split items.

    Parameters
    ----------
    windows
        Items with their official parts.
    folds
        1 keeps the official split, or holds out the last fifth of every recording where
        there is none. More cuts every recording into as many contiguous blocks, each of
        which is validated once; official val items are then left out.

    Raises
    ------
    DataError
        When a fold would be empty.
    """
    if folds < 1:
        raise DataError(f"data.folds: is {folds}, must be at least 1")
    official = any(item.part == "val" for item in windows.items)
    train = [item for item in windows.items if item.part in ("train", "pool")]
    if folds == 1 and official:
        val = tuple(item for item in windows.items if item.part == "val")
        return (_fold(train, val, windows),)
    blocks = _blocks(train, folds if folds > 1 else HOLDOUT)
    chosen = blocks if folds > 1 else blocks[-1:]
    return tuple(_fold(train, tuple(block), windows) for block in chosen)


def unused_items(windows: Windows, folds: int) -> int:
    """Return how many official val items cross-validation leaves out."""
    return sum(item.part == "val" for item in windows.items) if folds > 1 else 0


def test_items(windows: Windows) -> tuple[Item, ...]:
    """Return the items of the sealed test part."""
    return tuple(item for item in windows.items if item.part == "test")


def full_training(windows: Windows) -> Fold:
    """Return all items but the test part, as train and dev: what a final model trains on."""
    return _fold([item for item in windows.items if item.part != "test"], (), windows)


def describe(windows: Windows, folds: int) -> str:
    """Return one sentence on how the data were split."""
    if folds > 1:
        return f"{folds} contiguous blocks of every recording, each validated once"
    if any(item.part == "val" for item in windows.items):
        return windows.split
    return f"the last of {HOLDOUT} contiguous blocks of every recording validates"


def permute_labels(windows: Windows, seed: int) -> Windows:
    """Return the windows with labels and references permuted among items of a recording.

    The test part keeps its labels. A speller's item gets another item's symbol, and the
    labels that this symbol would have had.

    Parameters
    ----------
    windows
        Windows with true labels.
    seed
        Seed of the permutation; 0 changes nothing.
    """
    if seed == 0:
        return windows
    groups: dict[tuple[str, str, tuple[str, ...]], list[int]] = defaultdict(list)
    for index, item in enumerate(windows.items):
        if item.part != "test":
            groups[item.subject, item.recording, item.symbols].append(index)
    rng = np.random.default_rng(seed)
    items = list(windows.items)
    for indices in groups.values():
        for target, source in zip(indices, rng.permutation(indices), strict=True):
            items[target] = _relabelled(windows.items[target], windows.items[int(source)])
    return replace(windows, items=tuple(items))


def _relabelled(item: Item, source: Item) -> Item:
    labels = source.labels
    if item.codes_WS is not None:
        column = item.symbols.index(source.reference)
        labels = tuple(int(code) for code in item.codes_WS[:, column])
    elif len(item.labels) != len(labels):
        msg = f"{item.item}: has {len(item.labels)} windows, {source.item} has {len(labels)};"
        raise DataError(f"{msg} labels can be permuted among items of equal length only")
    return replace(item, labels=labels, reference=source.reference, typed=source.typed)


def _blocks(items: Sequence[Item], folds: int) -> list[list[Item]]:
    blocks: list[list[Item]] = [[] for _ in range(folds)]
    for of_recording in _by_recording(items):
        cuts = np.linspace(0, len(of_recording), folds + 1).round().astype(int)
        for block, start, stop in zip(blocks, cuts[:-1], cuts[1:], strict=True):
            block += of_recording[start:stop]
    if not all(blocks):
        msg = f"data.folds: {folds} blocks cannot be cut from {len(items)} items; use fewer folds"
        raise DataError(msg)
    return blocks


def _by_recording(items: Sequence[Item]) -> list[list[Item]]:
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        groups[item.subject, item.recording].append(item)
    return list(groups.values())


def _fold(candidates: Sequence[Item], val: tuple[Item, ...], windows: Windows) -> Fold:
    held_out = {item.item for item in val}
    spans = [(item.subject, item.recording, *_span(item, windows)) for item in val]
    left = [
        item
        for item in candidates
        if item.item not in held_out and not _overlaps(item, spans, windows)
    ]
    train: list[Item] = []
    dev: list[Item] = []
    for of_recording in _by_recording(left):
        size = max(1, round(windows.dev_fraction * len(of_recording)))
        train += of_recording[:-size]
        dev += of_recording[-size:]
    if not train or not dev:
        msg = f"{len(left)} items are left for training and early stopping; at least 2 a recording"
        raise DataError(f"{msg} are needed, use fewer folds or more data")
    return Fold(tuple(train), tuple(dev), val)


def _span(item: Item, windows: Windows) -> tuple[float, float]:
    start, stop = windows.window_s
    return item.onsets_s[0] + start, item.onsets_s[-1] + stop


def _overlaps(item: Item, spans: Sequence[tuple[str, str, float, float]], windows: Windows) -> bool:
    """Return whether an item of a continuous recording touches a held-out one."""
    if windows.epoched:
        return False
    start, stop = _span(item, windows)
    return any(
        subject == item.subject
        and recording == item.recording
        and start < held_stop + _PURGE_S
        and held_start - _PURGE_S < stop
        for subject, recording, held_start, held_stop in spans
    )
