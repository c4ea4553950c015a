"""How far the words read by an encoder lie from their true vectors, and new words that far off.

Array names carry their axes: H hidden, R residual, W word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from neurodecode.contracts import FloatArray
from neurodecode.llm.alignment import edit_distance, nearest_word, word_sources
from neurodecode.llm.features import SentenceWords, WordTargets

_MOST_ERRORS = 3
_ERROR_WEIGHT = 10
_NEIGHBOURS = 12
_TINY_NORM = 1e-6
_SAME = 1e-3


@dataclass(frozen=True)
class Residuals:
    """Hold what separates word vectors of dev from their true vectors.

    The vector of a word that was read wrongly lies between the true word and the one that was
    read: text and vector come from the same frames. So that part is known apart from the rest;
    without it, spoiled vectors would tell more of the true word than an encoder's do.

    Attributes
    ----------
    noise_RH
        Part of the unit vector that is orthogonal to the true one and to the read one.
    cosine_R
        Cosine with the true one.
    toward_R
        Part along the read one, as far as that is orthogonal to the true one; 0 where the word
        was read rightly.
    length_R
        Letters of the word that was read.
    errors_R
        Edits between it and the true word.
    """

    noise_RH: FloatArray
    cosine_R: FloatArray
    toward_R: FloatArray
    length_R: tuple[int, ...]
    errors_R: tuple[int, ...]

    def __post_init__(self) -> None:
        rows = (self.noise_RH, self.cosine_R, self.toward_R, self.length_R, self.errors_R)
        axes = (self.noise_RH.ndim, self.cosine_R.ndim, self.toward_R.ndim)
        if axes != (2, 1, 1) or len({len(one) for one in rows}) != 1:
            raise ValueError("residuals need a vector, two parts, a length and errors of each word")
        if not all(np.isfinite(one).all() for one in rows[:3]):
            raise ValueError("residuals must be finite")

    def __len__(self) -> int:
        return len(self.noise_RH)

    @classmethod
    def measure(cls, sentences: Sequence[SentenceWords], targets: WordTargets) -> Residuals:
        """Compare the words of dev sentences with the typed words that they come from.

        Parameters
        ----------
        sentences
            Sentences with their typed text.
        targets
            True vector of any word.
        """
        found = list(_compared(sentences, targets))
        noise_RH = np.array([one.noise_H for one in found], dtype=np.float32)
        return cls(
            noise_RH.reshape(len(found), targets.hidden),
            np.array([one.cosine for one in found], dtype=np.float32),
            np.array([one.toward for one in found], dtype=np.float32),
            tuple(one.length for one in found),
            tuple(one.errors for one in found),
        )

    def spoil(
        self, true: str, read: str, targets: WordTargets, rng: np.random.Generator
    ) -> FloatArray:
        """Return a vector as far from the true one as that of a similar word of dev.

        Parameters
        ----------
        true, read
            Word that was typed, and the one that was read: residuals come from words of similar
            length with as many errors.
        targets
            True vector of any word.
        rng
            Draws the residual.
        """
        true_H = targets(true)
        if not len(self):
            return true_H
        row = int(rng.choice(self._similar(len(read), edit_distance(true, read))))
        unit_H = _unit(true_H)
        aside_H = _aside(targets(read), unit_H)
        cosine, toward = float(self.cosine_R[row]), float(self.toward_R[row])
        toward = toward if aside_H.any() else 0.0
        noise_H = self.noise_RH[row]
        noise_H = noise_H - (noise_H @ unit_H) * unit_H - (noise_H @ aside_H) * aside_H
        size = float(np.sqrt(max(0.0, 1.0 - cosine**2 - toward**2)))
        spoiled_H = cosine * unit_H + toward * aside_H + size * _unit(noise_H)
        return np.asarray(np.linalg.norm(true_H) * spoiled_H, dtype=np.float32)

    def _similar(self, length: int, errors: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the rows of words nearest in errors, then in length."""
        key = length, min(errors, _MOST_ERRORS)
        if key not in self._rows:
            far_R = _ERROR_WEIGHT * np.abs(np.minimum(self.errors_R, _MOST_ERRORS) - key[1])
            far_R = far_R + np.abs(np.array(self.length_R) - length)
            limit = np.sort(far_R)[min(_NEIGHBOURS, len(far_R)) - 1]
            self._rows[key] = np.flatnonzero(far_R <= limit)
        return self._rows[key]

    @cached_property
    def _rows(self) -> dict[tuple[int, int], np.ndarray[tuple[int], np.dtype[np.int64]]]:
        return {}


class _Compared(NamedTuple):
    """Hold one row of `Residuals`."""

    noise_H: FloatArray
    cosine: float
    toward: float
    length: int
    errors: int


def _compared(sentences: Sequence[SentenceWords], targets: WordTargets) -> Iterator[_Compared]:
    pairs = [(sentence.typed or "", sentence.greedy) for sentence in sentences]
    for sentence, (typed, text), sources in zip(sentences, pairs, word_sources(pairs), strict=True):
        words = text.split() or [""]
        ranges = sources or [(0, len(typed))]
        for vector_H, read, source in zip(sentence.words_WH, words, ranges, strict=True):
            at = nearest_word(typed, source)
            if at is None:
                continue
            true = typed[slice(*at)]
            unit_H, true_H = _unit(vector_H), _unit(targets(true))
            aside_H = _aside(targets(read), true_H)
            cosine, toward = float(unit_H @ true_H), float(unit_H @ aside_H)
            noise_H = unit_H - cosine * true_H - toward * aside_H
            yield _Compared(noise_H, cosine, toward, len(read), edit_distance(true, read))


def _aside(read_H: FloatArray, true_H: FloatArray) -> FloatArray:
    """Return the direction to a read word, orthogonal to the true one; zeros when they agree."""
    unit_H = _unit(read_H)
    aside_H = unit_H - (unit_H @ true_H) * true_H
    return _unit(aside_H) if np.linalg.norm(aside_H) > _SAME else np.zeros_like(true_H)


def _unit(x_H: FloatArray) -> FloatArray:
    x_H = np.asarray(x_H, dtype=np.float32)
    return x_H / np.float32(max(float(np.linalg.norm(x_H)), _TINY_NORM))
