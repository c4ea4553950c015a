"""Rates of labelled windows: the balanced error, and what guessing gives."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

CLASS_ALPHABET = string.digits + string.ascii_lowercase + string.ascii_uppercase
"""One character a window names its class, in this order: ``0`` is class 0, ``a`` class 10."""

CountArray = npt.NDArray[np.int64]


def encode_windows(labels: Sequence[int]) -> str:
    """Return class indices as a text of one character a window.

    Raises
    ------
    ValueError
        When an index is negative or above 61.

    Examples
    --------
    >>> encode_windows([0, 1, 10])
    '01a'
    """
    wrong = [label for label in labels if not 0 <= label < len(CLASS_ALPHABET)]
    if wrong:
        msg = f"class index {wrong[0]} is outside 0 to {len(CLASS_ALPHABET) - 1}"
        raise ValueError(msg)
    return "".join(CLASS_ALPHABET[label] for label in labels)


def window_counts(
    references: Mapping[str, str], hypotheses: Mapping[str, str | None]
) -> tuple[list[str], CountArray, CountArray]:
    """Count windows and wrong windows per item and true class.

    Parameters
    ----------
    references
        Item to true classes, one character a window.
    hypotheses
        Item to predicted classes of the same length; None or absent counts as all wrong.

    Returns
    -------
    items, wrong, total
        Items in order; wrong and total are (item, class).
    """
    items = list(references)
    classes = sorted(set("".join(references.values())))
    column = np.zeros(128, dtype=np.int64)
    column[[ord(name) for name in classes]] = np.arange(len(classes))
    wrong = np.zeros((len(items), len(classes)), dtype=np.int64)
    total = np.zeros_like(wrong)
    for row, item in enumerate(items):
        truth = _codes(references[item])
        guess = hypotheses.get(item)
        missed = np.ones(truth.size, np.bool_) if guess is None else truth != _codes(guess)
        total[row] = np.bincount(column[truth], minlength=len(classes))
        wrong[row] = np.bincount(column[truth[missed]], minlength=len(classes))
    return items, wrong, total


def _codes(windows: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(windows.encode("ascii", "replace"), dtype=np.uint8)


def balanced_error(
    wrong: npt.NDArray[np.floating | np.integer], total: npt.NDArray[np.floating | np.integer]
) -> npt.NDArray[np.float64]:
    """Return the mean over classes of the share of wrong windows of the class.

    Parameters
    ----------
    wrong, total
        (..., class). A class without windows does not count.

    Returns
    -------
    numpy.ndarray
        (...); NaN where no class has a window.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = wrong / total
    present = (total > 0).sum(axis=-1)
    summed = np.where(total > 0, rates, 0.0).sum(axis=-1)
    result: npt.NDArray[np.float64] = np.where(present > 0, summed / np.maximum(present, 1), np.nan)
    return result


def chance_accuracy(references: Sequence[str]) -> float:
    """Return the accuracy of always answering the most frequent reference.

    Raises
    ------
    ValueError
        When there are no references.
    """
    if not references:
        msg = "no references to compute a chance level from"
        raise ValueError(msg)
    _, counts = np.unique(np.array(list(references)), return_counts=True)
    return float(counts.max() / counts.sum())


def chance_balanced_error(num_classes: int) -> float:
    """Return the balanced error of a guess that does not look at the data."""
    return 1.0 - 1.0 / num_classes
