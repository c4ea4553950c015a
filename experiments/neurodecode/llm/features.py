"""From an encoder's frames to text and word vectors, and the like of them for training.

Array names carry their axes: D feature, F frame, H hidden, W word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from neurodecode.contracts import FloatArray
from neurodecode.decoding.ctc import greedy
from neurodecode.llm.alignment import nearest_word
from neurodecode.llm.confusion import Confusions
from neurodecode.llm.projector import Projector, pack_words

if TYPE_CHECKING:
    from neurodecode.llm.residuals import Residuals
    from neurodecode.training.encoder_fit import Encoded

_TINY_NORM = 1e-6


@dataclass(frozen=True)
class SentenceWords:
    """Hold what an encoder and a projector read from a sentence.

    Attributes
    ----------
    item
        Name of the item.
    greedy
        Text of the likeliest path.
    words_WH
        Vector of every word of it, as the language model is handed it; of the whole sentence
        when there is no word.
    typed
        What was typed; None where nobody may know.
    """

    item: str
    greedy: str
    words_WH: FloatArray
    typed: str | None = None


class WordTargets:
    """Return true vectors of words, each computed once.

    Parameters
    ----------
    word_target
        Text to vector (hidden,): mean of the static embeddings of its tokens.
    scale
        Length that every vector gets, that of an embedding of the language model.
    hidden
        Size of the vectors.
    """

    def __init__(self, word_target: Callable[[str], Tensor], scale: float, hidden: int) -> None:
        self.word_target = word_target
        self.scale = float(scale)
        self.hidden = hidden
        self._known: dict[str, FloatArray] = {}

    def __call__(self, text: str) -> FloatArray:
        """Return the vector (hidden,) of a word."""
        if text not in self._known:
            with torch.no_grad():
                vector_H = self.word_target(text).detach().float().cpu().numpy()
            self._known[text] = scaled(vector_H[None], self.scale)[0]
        return self._known[text]


def scaled(words_WH: FloatArray, scale: float) -> FloatArray:
    """Return word vectors stretched to one length."""
    norm_W1 = np.linalg.norm(words_WH, axis=1, keepdims=True)
    return np.asarray(scale * words_WH / np.maximum(norm_W1, _TINY_NORM), dtype=np.float32)


def read_words(
    encoded: Sequence[Encoded],
    projector: Projector,
    scale: float,
    typed: Sequence[str | None] | None = None,
) -> list[SentenceWords]:
    """Return text and word vectors of sentences.

    Parameters
    ----------
    encoded
        What the encoder gave for every sentence.
    projector
        Frames to vectors.
    scale
        Length of the vectors.
    typed
        What was typed, one text a sentence.
    """
    projector.eval()
    device = next(projector.parameters()).device
    found = []
    for one, truth in zip(encoded, typed or [None] * len(encoded), strict=True):
        read = greedy(one.log_p_FK)
        words = pack_words([(one.feature_FD, read.word_frames)]).to(device)
        with torch.inference_mode():
            words_WH = projector(words).float().cpu().numpy()
        found.append(SentenceWords(one.item, read.text, scaled(words_WH, scale), truth))
    return found


def noisy_words(
    typed: str,
    confusions: Confusions,
    residuals: Residuals,
    targets: WordTargets,
    rng: np.random.Generator,
) -> tuple[str, FloatArray]:
    """Return a text and word vectors as the encoder might give them for a new sentence.

    Parameters
    ----------
    typed
        What was typed.
    confusions
        Errors of the text.
    residuals
        Errors of the vectors; they are drawn from words of dev that are as long and as wrong.
    targets
        True vector of any word.
    rng
        Draws both.

    Returns
    -------
    str
        The text, wrong as often as on dev.
    numpy.ndarray
        Vectors (word, hidden): one a word of that text, each near the vector of the typed word
        that it comes from.
    """
    spoiled = confusions.corrupt(typed, rng)
    vectors = []
    for read, source in zip(spoiled.text.split() or [""], spoiled.source, strict=True):
        at = nearest_word(typed, source)
        true = typed[slice(*at)] if at else typed
        vectors.append(residuals.spoil(true, read, targets, rng))
    return spoiled.text, np.stack(vectors)
