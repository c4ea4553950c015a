"""How far the words read by an encoder lie from their true vectors, and new words that far off.

Array names carry their axes: H hidden, R residual, W word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurodecode.contracts import FloatArray
from neurodecode.llm.alignment import edit_distance, nearest_word, word_sources
from neurodecode.llm.features import SentenceWords, WordTargets

_MOST_ERRORS = 3
_ERROR_WEIGHT = 10
_NEIGHBOURS = 12
_TINY_NORM = 1e-6


@dataclass(frozen=True)
class Residuals:
    """Hold what separates word vectors of dev from their true vectors.

    Attributes
    ----------
    noise_RH
        Part of the unit vector that is orthogonal to the true one.
    cosine_R
        Cosine with the true one.
    length_R
        Letters of the word that was read.
    errors_R
        Edits between it and the true word.
    """

    noise_RH: FloatArray
    cosine_R: FloatArray
    length_R: tuple[int, ...]
    errors_R: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.noise_RH), len(self.cosine_R), len(self.length_R), len(self.errors_R)}
        if self.noise_RH.ndim != 2 or self.cosine_R.ndim != 1 or len(sizes) != 1:
            raise ValueError("residuals need a vector, a cosine, a length and errors of each word")
        if not np.isfinite(self.noise_RH).all() or not np.isfinite(self.cosine_R).all():
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
        pairs = [(sentence.typed or "", sentence.greedy) for sentence in sentences]
        noise, cosine, lengths, errors = [], [], [], []
        for sentence, (typed, read), sources in zip(
            sentences, pairs, word_sources(pairs), strict=True
        ):
            words = read.split() or [""]
            for vector_H, word, source in zip(
                sentence.words_WH, words, sources or [(0, len(typed))], strict=True
            ):
                at = nearest_word(typed, source)
                if at is None:
                    continue
                true = typed[slice(*at)]
                unit_H, true_H = _unit(vector_H), _unit(targets(true))
                cosine.append(float(unit_H @ true_H))
                noise.append(unit_H - cosine[-1] * true_H)
                lengths.append(len(word))
                errors.append(edit_distance(true, word))
        return cls(
            np.array(noise, dtype=np.float32).reshape(len(noise), targets.hidden),
            np.array(cosine, dtype=np.float32),
            tuple(lengths),
            tuple(errors),
        )

    def spoil(
        self, true_H: FloatArray, read: str, true: str, rng: np.random.Generator
    ) -> FloatArray:
        """Return a vector as far from the true one as that of a similar word of dev.

        Parameters
        ----------
        true_H
            True vector of the word; the result has its length.
        read, true
            Word that was read, and the one that was typed: residuals come from words of similar
            length with as many errors.
        rng
            Draws the residual.
        """
        if not len(self):
            return true_H
        errors = edit_distance(true, read)
        row = int(rng.choice(self._similar(len(read), errors)))
        unit_H = _unit(true_H)
        noise_H = self.noise_RH[row] - float(self.noise_RH[row] @ unit_H) * unit_H
        size = float(np.sqrt(max(0.0, 1.0 - float(self.cosine_R[row]) ** 2)))
        spoiled_H = float(self.cosine_R[row]) * unit_H + size * _unit(noise_H)
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


def _unit(x_H: FloatArray) -> FloatArray:
    x_H = np.asarray(x_H, dtype=np.float32)
    return x_H / np.float32(max(float(np.linalg.norm(x_H)), _TINY_NORM))
