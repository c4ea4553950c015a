"""Batches of plain sentences and of misread ones with word vectors, as embeddings.

Array names carry their axes: B sentence, H hidden, L token, N letter, V vocabulary, W word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from neurodecode.llm._pretrain_noise import Noisy, misread
from neurodecode.llm._pretrain_tokenizer import BOS_ID, EOS_ID, LETTER_IDS, PAD_ID, encode
from neurodecode.llm.alignment import word_ranges
from neurodecode.llm.word_vectors import centre_and_scale, word_vectors

CTC, MEG, OUTPUT = "CTC: ", "\nMEG: ", "\nOutput: "
IGNORED = -100
_VECTOR = -1
_ZERO = -2
_LEAST_HIDDEN = 0.3


@dataclass(frozen=True)
class PromptNoise:
    """How hard the misread sentences are.

    Attributes
    ----------
    max_rate
        A sentence's share of wrong characters is uniform below it.
    max_vector_noise
        The same of the noise on word vectors, in multiples of their norm.
    no_vectors
        Share of prompts without word vectors.
    blind
        Share of prompts in which read words are hidden, 30 to 100 % of them, and all word vectors
        are there. Without it, a model learns to read and never looks at the vectors.
    dropout
        Share of the other read characters, and of the word vectors, that are set to zero.
    """

    max_rate: float = 0.45
    max_vector_noise: float = 1.5
    no_vectors: float = 0.35
    blind: float = 0.35
    dropout: float = 0.1

    def weaker(self, strength: float) -> PromptNoise:
        """Return a share of this noise, at most all of it; word vectors are as rare as ever."""
        share = min(strength, 1.0)
        return replace(
            self,
            max_rate=share * self.max_rate,
            max_vector_noise=share * self.max_vector_noise,
            dropout=share * self.dropout,
        )


@dataclass(frozen=True)
class Row:
    """Hold one sequence: a token, a vector (-1) or zeros (-2) at every place.

    Attributes
    ----------
    places
        What stands where.
    targets
        The token that is to be learnt at a place, or `IGNORED`.
    words
        Letters behind every word vector, in order.
    vector_noise
        Noise on them, in multiples of their norm.
    """

    places: tuple[int, ...]
    targets: tuple[int, ...]
    words: tuple[str, ...] = ()
    vector_noise: float = 0.0


def plain_row(sentence: str) -> Row:
    """Return a sentence on its own, every token of which is learnt."""
    places = (BOS_ID, *encode(sentence), EOS_ID)
    return Row(places, (IGNORED, *places[1:]))


def denoising_row(sentence: str, noise: PromptNoise, rng: np.random.Generator) -> Row:
    """Return a prompt with a misread sentence, and the sentence to be learnt after it."""
    noisy = misread(sentence, rng.uniform(0, noise.max_rate), rng)
    blind = rng.random() < noise.blind
    words = noisy.words if blind or rng.random() >= noise.no_vectors else ()
    row = prompt_row(Noisy(noisy.text, words), rng.uniform(0, noise.max_vector_noise))
    places = np.array(row.places)
    read = slice(len(CTC), len(CTC) + len(noisy.text))
    dropped = np.zeros(len(places), bool)
    dropped[read] = True
    dropped |= places == _VECTOR
    dropped &= rng.random(len(places)) < (0.0 if blind else noise.dropout)
    if blind:
        dropped[read] = _hidden(noisy.text, rng.uniform(_LEAST_HIDDEN, 1), rng)
    kept = [word for word, gone in zip(words, dropped[places == _VECTOR], strict=True) if not gone]
    answer = (*encode(sentence), EOS_ID)
    return Row(
        (*np.where(dropped, _ZERO, places).tolist(), *answer),
        (*[IGNORED] * len(places), *answer),
        tuple(kept),
        row.vector_noise,
    )


def _hidden(text: str, share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which characters of a text belong to words that are hidden, `share` of all."""
    hidden = np.zeros(len(text), bool)
    for start, stop in word_ranges(text):
        hidden[start:stop] = rng.random() < share
    return hidden


def prompt_row(noisy: Noisy, vector_noise: float) -> Row:
    """Return ``CTC: … MEG: … Output: `` without an answer."""
    places = [*encode(CTC), *encode(noisy.text), *encode(MEG)]
    places += [*[_VECTOR] * len(noisy.words), *encode(OUTPUT)]
    return Row(tuple(places), (IGNORED,) * len(places), noisy.words, vector_noise)


def embed_rows(
    rows: Sequence[Row], embedding_VH: Tensor, generator: torch.Generator, *, left: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings, targets and which places are no padding.

    Parameters
    ----------
    rows
        Sequences.
    embedding_VH
        Static input embeddings. Gradients reach them through tokens, not through word vectors.
    generator
        Decides the noise on word vectors.
    left
        Pad on the left, as generation wants it, instead of on the right.

    Returns
    -------
    embedded_BLH, targets_BL, mask_BL
        Padding is zero, its target ignored.
    """
    longest = max(len(row.places) for row in rows)
    places_BL = torch.full((len(rows), longest), PAD_ID)
    targets_BL = torch.full((len(rows), longest), IGNORED)
    mask_BL = torch.zeros((len(rows), longest), dtype=torch.bool)
    for number, row in enumerate(rows):
        length = len(row.places)
        where = slice(longest - length, longest) if left else slice(length)
        places_BL[number, where] = torch.tensor(row.places)
        targets_BL[number, where] = torch.tensor(row.targets)
        mask_BL[number, where] = True
    embedded_BLH = embedding_VH[places_BL.clamp(min=0)]
    embedded_BLH = embedded_BLH * (mask_BL & (places_BL >= 0)).unsqueeze(-1)
    vectors_WH = _vectors(rows, embedding_VH.detach(), generator)
    embedded_BLH = embedded_BLH.masked_scatter((places_BL == _VECTOR)[..., None], vectors_WH)
    return embedded_BLH, targets_BL, mask_BL


def _vectors(rows: Sequence[Row], embedding_VH: Tensor, generator: torch.Generator) -> Tensor:
    words = [word for row in rows for word in row.words]
    noise_W = torch.tensor([row.vector_noise for row in rows for _ in row.words])
    letters = [(LETTER_IDS[ord(c) - ord("a")], i) for i, word in enumerate(words) for c in word]
    ids_N, word_N = torch.tensor(letters, dtype=torch.long).reshape(-1, 2).unbind(1)
    centre_H, scale = centre_and_scale(embedding_VH, LETTER_IDS)
    clean_WH = word_vectors(embedding_VH, ids_N, word_N, len(words), centre_H, scale)
    hidden = embedding_VH.shape[1]
    noise_WH = torch.randn(len(words), hidden, generator=generator) * (scale / hidden**0.5)
    return normalize(clean_WH + noise_W[:, None] * noise_WH, dim=1) * scale
