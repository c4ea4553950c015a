"""Sentences that say nearly the same, so that no language model learns what it is scored on.

Two sentences are near-duplicates when one becomes the other by editing at most a fifth of the
longer one's characters, or when both have the same content words, two or more, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from neurodecode.text.corpus import load_sentences, load_tatoeba
from neurosweep.evaluation.splits import TRAIN_BELOW, part_of_text, split_score

THRESHOLD = 0.8
_LETTERS = "abcdefghijklmnopqrstuvwxyz "
_NUM_COLUMNS = 256
_NUM_OWN = 192
_ROWS = 256
_TOLERANCE = 1e-6
_FUNCTION_WORDS = """
a about all am an and any are as at be been but by can could did do does for from had has have
he her here him his how i if in into is it its just may me might must my no not of on or our
out shall she should so some than that the their them then there they this to too up us very
was we were what when where which who whom whose why will with would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def content_words(sentence: str) -> tuple[str, ...]:
    """Return the words of a sentence that are no function words, sorted."""
    return tuple(sorted(word for word in sentence.split() if word not in FUNCTION_WORDS))


def near_duplicates(
    candidates: Sequence[str], protected: Sequence[str], threshold: float = THRESHOLD
) -> set[int]:
    """Find the candidates that nearly repeat a protected sentence.

    Parameters
    ----------
    candidates, protected
        Normalised sentences.
    threshold
        Least similarity of a near-duplicate: 1 minus the edit distance in characters over the
        longer one's length. Above 0.5.

    Returns
    -------
    set of int
        Indices of candidates that reach the threshold, or have the same content words, two or
        more, as a protected sentence.

    Raises
    ------
    ValueError
        When the threshold is not in (0.5, 1].

    Notes
    -----
    The result is exact. An edit changes at most two pairs of neighbouring characters and one
    character, so sentences that share too few of them are never compared.
    """
    if not 0.5 < threshold <= 1:
        msg = f"threshold is {threshold}, must be above 0.5 and at most 1"
        raise ValueError(msg)
    same = {words for words in map(content_words, protected) if len(words) >= 2}
    found = {i for i, text in enumerate(candidates) if content_words(text) in same}
    if candidates and protected:
        columns = _columns(candidates)
        known, guarded = _Counts.of(candidates, columns), _Counts.of(protected, columns)
        for rows in guarded.runs():
            found |= _similar(guarded, rows, known, threshold)
    return found


@cache
def allowed_text() -> tuple[str, ...]:
    """Return the shipped sentences that a language model may learn from, sorted.

    Returns
    -------
    tuple of str
        Those of part train that nearly repeat no shipped sentence of part val or test. Part dev
        is left out as well, for it judges early stopping.
    """
    sentences = sorted({*load_sentences(), *load_tatoeba()})
    protected = [text for text in sentences if split_score(text) >= TRAIN_BELOW]
    candidates = [text for text in sentences if part_of_text(text) == "train"]
    left_out = near_duplicates(candidates, protected)
    return tuple(text for i, text in enumerate(candidates) if i not in left_out)


@dataclass(frozen=True)
class _Counts:
    """Sentences in order of length, and what they consist of.

    Attributes
    ----------
    order_S
        Position of every sentence in the list that was given.
    letters_SK
        How often every character occurs.
    pairs_SK
        How often every pair of neighbouring characters occurs; rare pairs share columns.
    """

    order_S: npt.NDArray[np.int64]
    sentences: list[str]
    length_S: npt.NDArray[np.int64]
    letters_SK: npt.NDArray[np.uint8]
    pairs_SK: npt.NDArray[np.float32]

    @classmethod
    def of(cls, sentences: Sequence[str], columns: Mapping[tuple[str, str], int]) -> _Counts:
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        ordered = [sentences[i] for i in order]
        letters_SK = np.zeros((len(ordered), len(_LETTERS)), np.uint8)
        pairs_SK = np.zeros((len(ordered), _NUM_COLUMNS), np.float32)
        for row, text in enumerate(ordered):
            letters_SK[row] = [text.count(letter) for letter in _LETTERS]
            used = [columns.get(pair, _shared_column(pair)) for pair in pairwise(text)]
            pairs_SK[row] = np.bincount(np.array(used, np.int64), minlength=_NUM_COLUMNS)
        lengths = np.array([len(text) for text in ordered])
        return cls(np.array(order), ordered, lengths, letters_SK, pairs_SK)

    def runs(self) -> Iterator[slice]:
        """Yield slices of sentences of one length."""
        starts = np.flatnonzero(np.diff(self.length_S, prepend=-1))
        for start, stop in pairwise([*starts.tolist(), len(self.sentences)]):
            for first in range(start, stop, _ROWS):
                yield slice(first, min(first + _ROWS, stop))


def _columns(sentences: Sequence[str]) -> dict[tuple[str, str], int]:
    """Give every frequent pair of characters a column of its own."""
    counts = Counter(pair for text in sentences for pair in pairwise(text))
    frequent = sorted(counts, key=lambda pair: (-counts[pair], pair))[:_NUM_OWN]
    return {pair: column for column, pair in enumerate(frequent)}


def _shared_column(pair: tuple[str, str]) -> int:
    return _NUM_OWN + (131 * ord(pair[0]) + ord(pair[1])) % (_NUM_COLUMNS - _NUM_OWN)


def _similar(short: _Counts, rows: slice, long: _Counts, threshold: float) -> set[int]:
    """Return where in `long`'s list sentences similar to rows of equal length are."""
    length = int(short.length_S[rows.start])
    first, last = np.searchsorted(
        long.length_S, [length * threshold - _TOLERANCE, length / threshold + _TOLERANCE]
    )
    longest_C = np.maximum(length, long.length_S[first:last])
    edits_C = np.floor((1 - threshold) * longest_C + _TOLERANCE)
    pairs_RC = short.pairs_SK[rows] @ long.pairs_SK[first:last].T
    row, column = np.nonzero(pairs_RC >= (longest_C - 1 - 2 * edits_C).astype(np.float32))
    letters_NK = np.minimum(
        short.letters_SK[rows][row], long.letters_SK[first:last][column], dtype=np.uint8
    )
    near = letters_NK.sum(axis=1) >= (longest_C - edits_C)[column]
    row, column = row[near] + rows.start, column[near] + first
    similarity_N = process.cpdist(
        [short.sentences[i] for i in row],
        [long.sentences[i] for i in column],
        scorer=Levenshtein.normalized_similarity,
        dtype=np.float64,
    )
    return set(long.order_S[column[similarity_N >= threshold - _TOLERANCE]].tolist())
