"""Counts of an encoder's errors, smoothed to rates.

Array names carry their axes: K typed character (second K: what it is read as), S sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurodecode.decoding.alphabet import SYMBOLS, encode
from neurodecode.llm.alignment import Edit

Rates = npt.NDArray[np.float64]

_NUM = len(SYMBOLS)
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_MAX_SPREAD = 4.0

# Counts that the overall rate, and the keyboard's neighbours, weigh against those of a character.
_RATE_COUNTS = 10.0
_TARGET_COUNTS = 5.0
_NEIGHBOURS_SHARE = 0.5


class Counts:
    """Count the edits of readings, and smooth the counts to rates.

    Parameters
    ----------
    pairs
        Typed text and its reading.
    alignments
        Edits of every pair.

    Attributes
    ----------
    typed_K, deleted_K, inserted_K
        How often a character was typed, missed, read out of nothing.
    substituted_KK
        How often it was taken for another.
    gaps
        Places where something may be inserted.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]], alignments: Sequence[Sequence[Edit]]
    ) -> None:
        self.typed_K = np.zeros(_NUM)
        self.deleted_K = np.zeros(_NUM)
        self.substituted_KK = np.zeros((_NUM, _NUM))
        self.inserted_K = np.zeros(_NUM)
        self.gaps = 0
        for (typed, read), edits in zip(pairs, alignments, strict=True):
            self.gaps += len(typed) + 1
            typed_ids, read_ids = encode(typed), encode(read)
            np.add.at(self.typed_K, np.array(typed_ids, dtype=int) - 1, 1)
            for edit in edits:
                if edit.kind == "delete":
                    self.deleted_K[typed_ids[edit.typed] - 1] += 1
                elif edit.kind == "insert":
                    self.inserted_K[read_ids[edit.read] - 1] += 1
                elif edit.kind == "substitute":
                    at = typed_ids[edit.typed] - 1, read_ids[edit.read] - 1
                    self.substituted_KK[at] += 1

    def rates(self, wrong_K: Rates) -> Rates:
        """Return the share of every character, drawn towards the share of all."""
        overall = wrong_K.sum() / self.typed_K.sum()
        smoothed: Rates = (wrong_K + _RATE_COUNTS * overall) / (self.typed_K + _RATE_COUNTS)
        return smoothed

    def substitutions(self) -> Rates:
        """Return the probability of every substitution, drawn towards near keys."""
        counts_KK = self.substituted_KK + _TARGET_COUNTS * keyboard_prior()
        target_KK = counts_KK / counts_KK.sum(axis=1, keepdims=True)
        rate_K: Rates = self.rates(self.substituted_KK.sum(axis=1))
        return np.asarray(rate_K[:, None] * target_KK)

    def insertions(self) -> Rates:
        """Return the probability of every insertion before a character, drawn to uniform."""
        total = self.inserted_K.sum()
        share_K = (self.inserted_K + _TARGET_COUNTS / _NUM) / (total + _TARGET_COUNTS)
        return np.asarray(share_K * total / (total + self.gaps))


def keyboard_prior() -> Rates:
    """Return what a character is taken for when nothing is known: half near keys, half any."""
    places = {
        letter: (number + 0.4 * row, float(row))
        for row, letters in enumerate(_ROWS)
        for number, letter in enumerate(letters)
    }
    other_KK = 1.0 - np.eye(_NUM)
    near_KK = np.zeros((_NUM, _NUM))
    for i, one in enumerate(SYMBOLS):
        for j, two in enumerate(SYMBOLS):
            if i != j and one in places and two in places:
                gap = np.subtract(places[one], places[two])
                near_KK[i, j] = float(np.hypot(*gap) < 1.3)
    any_KK = other_KK / other_KK.sum(axis=1, keepdims=True)
    num_near_K1 = near_KK.sum(axis=1, keepdims=True)
    mixed_KK = near_KK / np.maximum(num_near_K1, 1.0)
    share_K1 = np.where(num_near_K1 > 0, _NEIGHBOURS_SHARE, 0.0)
    prior_KK: Rates = share_K1 * mixed_KK + (1.0 - share_K1) * any_KK
    return prior_KK


def error_spread(errors_S: Rates, length_S: Rates, cer: float) -> float:
    """Return the extra variance of the sentences' error rates, by the method of moments.

    Parameters
    ----------
    errors_S, length_S
        Errors and typed characters of every sentence.
    cer
        Errors a character over all sentences.

    Returns
    -------
    float
        Variance beyond that of independent characters, relative to the squared mean.
    """
    expected_S = cer * length_S
    chance_S = expected_S * max(0.0, 1.0 - cer)
    beyond = float(((errors_S - expected_S) ** 2 - chance_S).sum())
    return float(np.clip(beyond / max(float((expected_S**2).sum()), 1e-12), 0.0, _MAX_SPREAD))
