"""What a word looks like to a language model when it is one vector and no text.

Array names carry their axes: H hidden, N token, V vocabulary, W word.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize


def centre_and_scale(embedding_VH: Tensor, letter_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return where the embeddings of letters lie, and how long they are.

    Parameters
    ----------
    embedding_VH
        Static input embeddings of a language model.
    letter_ids
        Tokens of the letters a to z.

    Returns
    -------
    centre_H
        Mean of the letters' embeddings.
    scale
        Root mean square of their norms, a scalar.
    """
    letters_NH = embedding_VH[torch.as_tensor(letter_ids, device=embedding_VH.device)]
    return letters_NH.mean(dim=0), letters_NH.square().sum(dim=1).mean().sqrt()


def word_vectors(
    embedding_VH: Tensor,
    ids_N: Tensor,
    word_N: Tensor,
    num_words: int,
    centre_H: Tensor,
    scale: Tensor | float,
) -> Tensor:
    """Return the vector of every word, all as long as an embedding.

    Parameters
    ----------
    embedding_VH
        Static input embeddings.
    ids_N, word_N
        Tokens, and the word that each belongs to.
    num_words
        Number of words.
    centre_H, scale
        As `centre_and_scale` returns them.

    Returns
    -------
    vector_WH
        Mean embedding of a word's tokens minus the centre, at norm `scale`. A word without
        tokens is all zeros.
    """
    sums_WH = embedding_VH.new_zeros(num_words, embedding_VH.shape[1])
    sums_WH.index_add_(0, word_N, embedding_VH[ids_N] - centre_H)
    return normalize(sums_WH, dim=1) * scale


def word_vector(
    embedding_VH: Tensor, ids: Sequence[int], centre_H: Tensor, scale: Tensor | float
) -> Tensor:
    """Return the vector (H,) of one word, given its tokens; the rule is that of `word_vectors`."""
    ids_N = torch.as_tensor(ids, dtype=torch.long, device=embedding_VH.device)
    zeros_N = torch.zeros_like(ids_N)
    return word_vectors(embedding_VH, ids_N, zeros_N, 1, centre_H, scale)[0]
