"""What the language model reads: ``CTC: ... MEG: ... Output: `` as input vectors.

Array names carry their axes: B sentence, H hidden, L token, W word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodecode.llm.backend import Backend

CTC, MEG, OUTPUT = "CTC: ", "\nMEG: ", "\nOutput: "
IGNORED = -100
_WORD = -1

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """Hold what an encoder read from one sentence.

    Attributes
    ----------
    item
        Which sentence.
    greedy
        Greedy CTC text.
    words_WH
        One vector a word, in the space of the language model's embeddings.
    target
        The sentence that is to be written; None when it is not known here.
    """

    item: str
    greedy: str
    words_WH: npt.NDArray[np.float32]
    target: str | None = None

    def without_words(self) -> Reading:
        """Return the reading without word vectors; in the prompt their heading stays."""
        return replace(self, words_WH=self.words_WH[:0])


@dataclass(frozen=True)
class Dropout:
    """Which shares of the tokens are zeroed, independently of each other.

    Attributes
    ----------
    ctc
        Share of the tokens of the greedy text.
    meg
        Share of the word vectors.
    rng
        Decides which.
    """

    ctc: float
    meg: float
    rng: np.random.Generator


@dataclass(frozen=True)
class Batch:
    """Hold input vectors of several sentences.

    Attributes
    ----------
    input_BLH
        Input vectors; padding is zero.
    mask_BL
        Which positions are no padding.
    label_BL
        Tokens to be predicted at their own position, `IGNORED` elsewhere.
    """

    input_BLH: Tensor
    mask_BL: Tensor
    label_BL: Tensor


class Prompter:
    """Make input vectors.

    Parameters
    ----------
    backend
        The language model that reads them.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._ctc, self._meg, self._output = (
            np.array(backend.encode(piece), dtype=np.int64) for piece in (CTC, MEG, OUTPUT)
        )

    def length(self, reading: Reading) -> int:
        """Return the number of positions of a prompt without its target."""
        return len(self._places(reading)[0])

    def prompts(self, readings: Sequence[Reading]) -> Batch:
        """Return prompts without targets, padded on the left as generation needs them."""
        rows = [self._places(reading)[0] for reading in readings]
        words = [reading.words_WH for reading in readings]
        labels = [np.full(len(row), IGNORED) for row in rows]
        return self._batch(rows, words, labels, left=True)

    def examples(self, readings: Sequence[Reading], dropout: Dropout | None = None) -> Batch:
        """Return prompts with their targets, padded on the right.

        Parameters
        ----------
        readings
            Sentences with a target.
        dropout
            What is zeroed; nothing unless given.

        Raises
        ------
        ValueError
            When a reading has no target.
        """
        rows, words, labels, zeros = [], [], [], []
        for reading in readings:
            if reading.target is None:
                msg = f"{reading.item}: has no target to be trained on"
                raise ValueError(msg)
            places_L, num_ctc = self._places(reading)
            answer = [*self.backend.encode(reading.target), self.backend.eos_id]
            labels.append(np.concatenate([np.full(len(places_L), IGNORED), answer]))
            rows.append(np.concatenate([places_L, answer]))
            words.append(reading.words_WH)
            zeros.append(self._zeros(rows[-1], num_ctc, dropout))
        return self._batch(rows, words, labels, zeros=zeros)

    def _places(self, reading: Reading) -> tuple[Places, int]:
        """Return the token, or `_WORD`, of every position, and how many are CTC tokens."""
        greedy = np.array(self.backend.encode(reading.greedy), dtype=np.int64)
        words = np.full(len(reading.words_WH), _WORD)
        pieces = (self._ctc, greedy, self._meg, words, self._output)
        return np.concatenate(pieces), len(greedy)

    def _zeros(self, places_L: Places, num_ctc: int, dropout: Dropout | None) -> npt.NDArray[Any]:
        zero_L = np.zeros(len(places_L), dtype=bool)
        if dropout is not None:
            start = len(self._ctc)
            zero_L[start : start + num_ctc] = dropout.rng.random(num_ctc) < dropout.ctc
            word_W = np.flatnonzero(places_L == _WORD)
            zero_L[word_W] = dropout.rng.random(len(word_W)) < dropout.meg
        return zero_L

    def _batch(
        self,
        rows: Sequence[Places],
        words: Sequence[npt.NDArray[np.float32]],
        labels: Sequence[Places],
        *,
        zeros: Sequence[npt.NDArray[Any]] | None = None,
        left: bool = False,
    ) -> Batch:
        shape = (len(rows), max(len(row) for row in rows))
        place_BL = np.zeros(shape, dtype=np.int64)
        label_BL = np.full(shape, IGNORED, dtype=np.int64)
        mask_BL, zero_BL = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
        for b, row in enumerate(rows):
            where = slice(shape[1] - len(row), None) if left else slice(len(row))
            place_BL[b, where], label_BL[b, where] = row, labels[b]
            mask_BL[b, where] = True
            zero_BL[b, where] = False if zeros is None else zeros[b]
        embedding_VH = self.backend.embeddings
        device = embedding_VH.device
        input_BLH = embedding_VH[torch.from_numpy(np.maximum(place_BL, 0)).to(device)]
        is_word_BL = torch.from_numpy(place_BL == _WORD).to(device)
        vectors_WH = torch.from_numpy(np.concatenate(words)).to(input_BLH)
        input_BLH[is_word_BL] = vectors_WH
        input_BLH[torch.from_numpy(zero_BL).to(device)] = 0.0
        to = (torch.from_numpy(array).to(device) for array in (mask_BL, label_BL))
        return Batch(input_BLH, *to)


def length_batches(
    lengths: Sequence[int], num_batches: int, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Return batches of rows of similar length, in random order.

    Parameters
    ----------
    lengths
        Length of every row.
    num_batches
        How many; they differ by one row at most.
    rng
        Decides which rows of similar length meet, and the order of batches.

    Notes
    -----
    Lengths are blurred by a tenth of their spread, so that the same rows do not always meet.
    """
    length_N = np.asarray(lengths, dtype=np.float64)
    blurred_N = length_N + 0.1 * length_N.std() * rng.standard_normal(len(length_N))
    order_N = np.argsort(blurred_N, kind="stable")
    batches = np.array_split(order_N, num_batches)
    return [batches[b] for b in rng.permutation(num_batches)]
