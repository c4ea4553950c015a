"""What a language model reaches on sentences that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch.nn.functional import cross_entropy

from neurodecode.llm._pretrain_noise import Noisy, misread
from neurodecode.llm._pretrain_prompts import IGNORED, Row, embed_rows, plain_row, prompt_row
from neurodecode.llm._pretrain_tokenizer import CHARACTERS, EOS_ID, PAD_ID, SPECIAL

_BATCH = 50
_TYPED_LENGTH = 30


@torch.inference_mode()
def bits_per_character(model: Any, sentences: Sequence[str]) -> float:
    """Return the mean cost of a character of plain sentences, their end being one more each."""
    ordered = sorted(sentences, key=len)
    embedding_VH = model.get_input_embeddings().weight
    total, number = 0.0, 0
    for first in range(0, len(ordered), _BATCH):
        rows = [plain_row(text) for text in ordered[first : first + _BATCH]]
        embedded_BLH, targets_BL, _ = embed_rows(rows, embedding_VH, torch.Generator())
        logits_BLV = model(inputs_embeds=embedded_BLH, use_cache=False).logits[:, :-1].float()
        targets_BL = targets_BL[:, 1:]
        loss = cross_entropy(
            logits_BLV.flatten(0, 1), targets_BL.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        total += float(loss)
        number += int((targets_BL != IGNORED).sum())
    return total / number / math.log(2)


def denoising(
    model: Any, sentences: Sequence[str], *, rate: float, vector_noise: float, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return error rates of misread sentences, and of what the model makes of them.

    Parameters
    ----------
    model
        Language model, as it was trained here.
    sentences
        True sentences; those of at most 30 characters are used.
    rate
        Share of characters that are misread, as `misread` takes it.
    vector_noise
        Noise on the word vectors, in multiples of their norm.
    seed
        Decides all noise.

    Returns
    -------
    dict
        ``character_error_rate`` and ``word_error_rate``, each of the sentences as they were
        ``read``, and of greedy output with ``vectors`` and with ``no_vectors``.
    """
    rng = np.random.default_rng(seed)
    true = [text for text in sentences if len(text) <= _TYPED_LENGTH]
    noisy = [misread(text, rate, rng) for text in true]
    with_vectors = [prompt_row(one, vector_noise) for one in noisy]
    without = [prompt_row(Noisy(one.text, ()), 0.0) for one in noisy]
    made = {
        "read": [one.text for one in noisy],
        "vectors": _generate(model, with_vectors, seed),
        "no_vectors": _generate(model, without, seed),
    }
    return {
        "character_error_rate": {name: _error_rate(true, texts) for name, texts in made.items()},
        "word_error_rate": {
            name: _error_rate([t.split() for t in true], [t.split() for t in texts])
            for name, texts in made.items()
        },
    }


@torch.inference_mode()
def _generate(model: Any, rows: Sequence[Row], seed: int) -> list[str]:
    embedding_VH = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)
    made: list[str] = []
    for first in range(0, len(rows), _BATCH):
        embedded_BLH, _, mask_BL = embed_rows(
            rows[first : first + _BATCH], embedding_VH, generator, left=True
        )
        ids_BL = model.generate(
            inputs_embeds=embedded_BLH,
            attention_mask=mask_BL.long(),
            max_new_tokens=_TYPED_LENGTH + 15,
            do_sample=False,
            eos_token_id=EOS_ID,
            pad_token_id=PAD_ID,
        )
        made += [_text(ids) for ids in ids_BL.tolist()]
    return made


def _text(ids: Sequence[int]) -> str:
    until = ids.index(EOS_ID) if EOS_ID in ids else len(ids)
    letters = [CHARACTERS[i - len(SPECIAL)] for i in ids[:until] if i >= len(SPECIAL)]
    return "".join(letters).strip()


def _error_rate(true: Sequence[Sequence[str]], read: Sequence[Sequence[str]]) -> float:
    edits = sum(Levenshtein.distance(a, b) for a, b in zip(true, read, strict=True))
    return round(edits / sum(map(len, true)), 4)
