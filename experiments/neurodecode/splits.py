"""Train, dev and val by blocks of time; labels permuted for the null.

Neighbouring windows of a recording resemble each other whatever their labels, so a shuffled
split measures how well a model remembers. All splits here are contiguous.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurodecode.contracts import Item, Windows
from neurosweep.core.errors import DataError
from neurosweep.evaluation.splits import Fold as IndexFold
from neurosweep.evaluation.splits import contiguous_folds

HOLDOUT = 5
_FOLDED = ("train", "pool")
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
        When a fold would be empty, or its training items are all of one class.
    """
    if folds < 1:
        raise DataError(f"data.folds: is {folds}, must be at least 1")
    made = _make_folds(windows, folds)
    for number, fold in enumerate(made):
        present = {label for item in fold.train for label in item.labels}
        if len(present) < 2:
            of = f" of fold {number}" if len(made) > 1 else ""
            msg = f"all {len(fold.train)} training items{of} are of the class"
            msg += f" '{windows.classes[present.pop()]}', at least two classes are needed; check"
            raise DataError(f"{msg} the labels of the recording, or use other folds")
    return made


def _make_folds(windows: Windows, folds: int) -> tuple[Fold, ...]:
    val = [item for item in windows.items if item.part == "val"]
    if folds == 1 and val:
        train = (item for item in windows.items if item.part in _FOLDED)
        return (_train_and_dev(train, val, windows),)
    if folds == 1:
        return _cross_validation(windows, HOLDOUT)[-1:]
    return _cross_validation(windows, folds)


def unused_items(windows: Windows, folds: int) -> int:
    """Return how many official val items cross-validation leaves out."""
    return sum(item.part == "val" for item in windows.items) if folds > 1 else 0


def test_items(windows: Windows) -> tuple[Item, ...]:
    """Return the items of the sealed test part."""
    return tuple(item for item in windows.items if item.part == "test")


def full_training(windows: Windows) -> Fold:
    """Return all items but the test part, as train and dev: what a final model trains on."""
    return _train_and_dev((i for i in windows.items if i.part != "test"), (), windows)


def describe(windows: Windows, folds: int) -> str:
    """Return one sentence on how the data were split."""
    if folds > 1:
        text = f"{folds} contiguous blocks of every recording, each validated once"
    elif any(item.part == "val" for item in windows.items):
        return windows.split
    else:
        text = f"the last of {HOLDOUT} contiguous blocks of every recording validates"
    return text + _describe_test(windows)


def _describe_test(windows: Windows) -> str:
    test = test_items(windows)
    if not test:
        return ""
    tested = {(item.subject, item.recording) for item in test}
    others = {(item.subject, item.recording) for item in windows.items if item.part != "test"}
    if tested & others:
        return f"; the last items of a recording, {len(test)} in all, are the sealed test"
    names = sorted("/".join(name) for name in tested)
    listed = ", ".join(names) if len(names) <= 3 else f"{len(names)} recordings of their own"
    return f"; {listed} with {len(test)} items is the sealed test"


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

    Raises
    ------
    DataError
        When items without codes have different numbers of windows.
    """
    if seed == 0:
        return windows
    groups: dict[tuple[str, str, tuple[str, ...]], list[int]] = defaultdict(list)
    for index, item in enumerate(windows.items):
        if item.part != "test":
            groups[item.subject, item.recording, item.symbols].append(index)
    rng = np.random.default_rng(seed)
    items = list(windows.items)
    for (subject, recording, symbols), indices in groups.items():
        lengths = {len(windows.items[index].labels) for index in indices}
        if not symbols and len(lengths) > 1:
            msg = f"data.permute_labels: items of {subject}/{recording} have {min(lengths)} to"
            msg += f" {max(lengths)} windows; labels can be permuted among items of equal length"
            raise DataError(f"{msg} only")
        for target, source in zip(indices, rng.permutation(indices), strict=True):
            items[target] = _relabelled(windows.items[target], windows.items[int(source)])
    return replace(windows, items=tuple(items))


def _relabelled(item: Item, source: Item) -> Item:
    labels = source.labels
    if item.codes_WS is not None:
        column = item.symbols.index(source.reference)
        labels = tuple(int(code) for code in item.codes_WS[:, column])
    return replace(item, labels=labels, reference=source.reference, typed=source.typed)


def _index_folds(num_items: int, folds: int, dev_fraction: float, where: str) -> list[IndexFold]:
    try:
        return contiguous_folds(num_items, folds, dev_share=dev_fraction)
    except ValueError as error:
        msg = f"data.folds: {where} cannot be cut into {folds} contiguous blocks ({error})"
        raise DataError(f"{msg}; use fewer folds or more data") from error


def _cross_validation(windows: Windows, folds: int) -> tuple[Fold, ...]:
    train: list[list[Item]] = [[] for _ in range(folds)]
    dev: list[list[Item]] = [[] for _ in range(folds)]
    val: list[list[Item]] = [[] for _ in range(folds)]
    for items in _by_recording(item for item in windows.items if item.part in _FOLDED):
        where = f"the {len(items)} items of {items[0].subject}/{items[0].recording}"
        for k, fold in enumerate(_index_folds(len(items), folds, windows.dev_fraction, where)):
            train[k] += [items[i] for i in fold.train]
            dev[k] += [items[i] for i in fold.dev]
            val[k] += [items[i] for i in fold.val]
    return tuple(_purged(*parts, windows) for parts in zip(train, dev, val, strict=True))


def _train_and_dev(items: Iterable[Item], val: Sequence[Item], windows: Windows) -> Fold:
    train: list[Item] = []
    dev: list[Item] = []
    for of_recording in _by_recording(items):
        size = max(1, round(windows.dev_fraction * len(of_recording)))
        train += of_recording[:-size]
        dev += of_recording[-size:]
    return _purged(train, dev, val, windows)


def _by_recording(items: Iterable[Item]) -> list[list[Item]]:
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        groups[item.subject, item.recording].append(item)
    return list(groups.values())


def _purged(
    train: Sequence[Item], dev: Sequence[Item], val: Sequence[Item], windows: Windows
) -> Fold:
    """Drop dev items that touch val, and train items that touch dev or val."""
    dev_left = _apart(dev, val, windows)
    train_left = _apart(train, [*dev_left, *val], windows)
    if not train_left or not dev_left:
        msg = f"of {len(train) + len(dev)} items, {len(train_left)} are left for training and"
        msg += f" {len(dev_left)} for early stopping, once those that touch held-out ones are"
        raise DataError(f"{msg} dropped; use other folds, shorter windows or more data")
    return Fold(tuple(train_left), tuple(dev_left), tuple(val))


def _apart(items: Sequence[Item], held_out: Sequence[Item], windows: Windows) -> list[Item]:
    """Return the items of continuous recordings that do not lie on or beside held-out ones."""
    if windows.epoched:
        return list(items)
    spans_of = {
        (of_recording[0].subject, of_recording[0].recording): _spans(of_recording, windows)
        for of_recording in _by_recording(held_out)
    }
    left: list[Item] = []
    for of_recording in _by_recording(items):
        spans = spans_of.get((of_recording[0].subject, of_recording[0].recording))
        if spans is None:
            left += of_recording
            continue
        own = _spans(of_recording, windows)
        before = own[:, None, 1] <= spans[None, :, 0] - _PURGE_S
        after = own[:, None, 0] >= spans[None, :, 1] + _PURGE_S
        free: npt.NDArray[np.bool_] = np.all(before | after, axis=1)
        left += [item for item, keep in zip(of_recording, free, strict=True) if keep]
    return left


def _spans(items: Sequence[Item], windows: Windows) -> npt.NDArray[np.float64]:
    start, stop = windows.window_s
    return np.array([(item.onsets_s[0] + start, item.onsets_s[-1] + stop) for item in items])
