"""Text from the frames of a CTC encoder.

Array names carry their axes: F frame, K class, N prefix, W word.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from neurodecode.decoding.alphabet import BLANK, NUM_CLASSES, SPACE, decode_ids, greedy_text

FloatArray = npt.NDArray[np.floating]
Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Greedy:
    """Hold the text of the likeliest path.

    Attributes
    ----------
    text
        Words with single spaces between them.
    word_frames
        First frame, and the one after the last, of every word of the text; the whole sequence
        when there is no word.
    """

    text: str
    word_frames: tuple[tuple[int, int], ...]


def greedy(log_p_FK: FloatArray) -> Greedy:
    """Return the text of the likeliest class of every frame, cut into words.

    Parameters
    ----------
    log_p_FK
        Log-probabilities (frame, class), valid frames only; logits do as well.

    Notes
    -----
    As Brain2Qwerty v2 cuts: frames of a space part words, blank frames belong to the word
    around them. A stretch without a letter is no word.
    """
    path_F = np.asarray(log_p_FK).argmax(axis=1)
    borders = [-1, *np.flatnonzero(path_F == SPACE).tolist(), len(path_F)]
    stretches = [(before + 1, after) for before, after in pairwise(borders)]
    words = [(greedy_text(path_F[first:end].tolist()), (first, end)) for first, end in stretches]
    found = [(word, frames) for word, frames in words if word]
    text = " ".join(word for word, _ in found)
    return Greedy(text, tuple(frames for _, frames in found) or ((0, len(path_F)),))


def prefix_beam(log_p_FK: FloatArray, beam: int, nbest: int) -> list[tuple[str, float]]:
    """Return the likeliest texts with their log-probabilities, best first.

    A text's probability is the sum over all paths that collapse to it, as far as their prefixes
    stay in the beam: exact when the beam holds every prefix.

    Parameters
    ----------
    log_p_FK
        Log-probabilities (frame, class), valid frames only.
    beam
        Prefixes that are kept after every frame.
    nbest
        Texts to return at most.

    Raises
    ------
    ValueError
        When `beam` or `nbest` is below 1.
    """
    if beam < 1 or nbest < 1:
        msg = f"beam is {beam} and nbest {nbest}; both must be at least 1"
        raise ValueError(msg)
    state = _Beam([()], np.zeros(1), np.full(1, -np.inf))
    # Outputs beyond the alphabet are never a target and spell nothing.
    for log_p_K in np.asarray(log_p_FK, dtype=np.float64)[:, :NUM_CLASSES]:
        state = state.advance(log_p_K, beam)
    total_N = state.total()
    order_N = np.argsort(-total_N, kind="stable")[:nbest]
    return [(decode_ids(state.prefixes[index]), float(total_N[index])) for index in order_N]


@dataclass(frozen=True)
class _Beam:
    """Hold prefixes with the log-probability of paths that end in a blank, and in a symbol."""

    prefixes: list[Prefix]
    blank_N: npt.NDArray[np.float64]
    symbol_N: npt.NDArray[np.float64]

    def total(self) -> npt.NDArray[np.float64]:
        """Return the log-probability of every prefix."""
        total_N: npt.NDArray[np.float64] = np.logaddexp(self.blank_N, self.symbol_N)
        return total_N

    def advance(self, log_p_K: npt.NDArray[np.float64], beam: int) -> _Beam:
        """Return the likeliest prefixes after one more frame."""
        total_N = self.total()
        size_N, size_K = len(self.prefixes), len(log_p_K)
        last_N = np.array([prefix[-1] if prefix else BLANK for prefix in self.prefixes])
        longer_NK = total_N[:, None] + log_p_K[None, :]
        # After a symbol, the same symbol again makes a longer text only across a blank.
        rows_N = np.flatnonzero(last_N != BLANK)
        longer_NK[rows_N, last_N[rows_N]] = self.blank_N[rows_N] + log_p_K[last_N[rows_N]]
        longer_NK[:, BLANK] = -np.inf
        symbol_N = np.where(last_N == BLANK, -np.inf, self.symbol_N + log_p_K[last_N])
        place = {prefix: index for index, prefix in enumerate(self.prefixes)}
        for index, prefix in enumerate(self.prefixes):
            parent = place.get(prefix[:-1]) if prefix else None
            if parent is not None:
                symbol_N[index] = np.logaddexp(symbol_N[index], longer_NK[parent, prefix[-1]])
                longer_NK[parent, prefix[-1]] = -np.inf
        blank_N = total_N + log_p_K[BLANK]
        score_N = np.concatenate([np.logaddexp(blank_N, symbol_N), longer_NK.ravel()])
        kept_N = np.argsort(-score_N, kind="stable")[:beam]
        kept_N = kept_N[score_N[kept_N] > -np.inf]
        prefixes = [
            self.prefixes[index]
            if index < size_N
            else (*self.prefixes[(index - size_N) // size_K], int((index - size_N) % size_K))
            for index in kept_N.tolist()
        ]
        nothing_NK = np.full(size_N * size_K, -np.inf)
        return _Beam(
            prefixes,
            np.concatenate([blank_N, nothing_NK])[kept_N],
            np.concatenate([symbol_N, longer_NK.ravel()])[kept_N],
        )
