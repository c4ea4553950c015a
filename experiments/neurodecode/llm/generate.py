"""Read sentences from a tuned language model.

Array names carry their axes: B sentence, H hidden, L token.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurodecode.llm.backend import Backend
from neurodecode.llm.beam_search import BeamOptions, TokenHypothesis, beam_search
from neurodecode.llm.config import LlmDecodingConfig
from neurodecode.llm.prompt import Prompter, Reading
from neurodecode.training.beat import Beat, silent

# Beams, and positions of prompts, that are searched at a time: more do not fit the processor's
# cache, fewer spend their time in Python.
_MAX_BEAMS = 256
_MAX_POSITIONS = 8192


@dataclass(frozen=True)
class LlmHypothesis:
    """Hold one sentence that the language model wrote.

    Attributes
    ----------
    text
        Letters a to z and single spaces.
    logp
        Log-probability of its tokens and its end, natural logarithm.
    score
        The same divided by the length to the power of the penalty: what the search ranks by.
    """

    text: str
    logp: float
    score: float


def generate(
    backend: Backend,
    model: Any,
    readings: Sequence[Reading],
    config: LlmDecodingConfig,
    beat: Beat = silent,
) -> list[list[LlmHypothesis]]:
    """Return what the model writes for every reading, best first, at least one each.

    Parameters
    ----------
    backend
        Tokenizer and embeddings.
    model
        The backend's model; with an adapter it is fastest with that merged into its weights.
    readings
        What the encoder read.
    config
        Beams, lengths.
    beat
        Called after every batch of sentences.

    Notes
    -----
    Brain2Qwerty v2: beam search with a length penalty of 0.2 and early stopping.
    """
    prompter = Prompter(backend)
    options = BeamOptions(
        beams=config.beam,
        nbest=min(config.nbest, config.beam),
        max_new_tokens=config.max_new_tokens,
        length_penalty=config.length_penalty,
        eos_id=backend.eos_id,
    )
    search = beam_search if has_full_attention(model) else transformers_search
    results: list[list[LlmHypothesis]] = [[] for _ in readings]
    lengths = [prompter.length(reading) for reading in readings]
    for rows in _batches(lengths, config.beam):
        batch = prompter.prompts([readings[row] for row in rows])
        found = search(model, batch.input_BLH, batch.mask_BL, options)
        for row, hypotheses in zip(rows, found, strict=True):
            results[row] = _readable(backend, hypotheses)
        beat()
    return results


@torch.inference_mode()
def transformers_search(
    model: Any, prompt_BLH: Tensor, mask_BL: Tensor, options: BeamOptions
) -> list[list[TokenHypothesis]]:
    """Return what `beam_search` does, found by transformers: slower, and for every kind of model.

    Parameters
    ----------
    model, prompt_BLH, mask_BL, options
        As those of `beam_search`.
    """
    output = model.generate(
        inputs_embeds=prompt_BLH,
        attention_mask=mask_BL.long(),
        num_beams=options.beams,
        num_return_sequences=options.nbest,
        max_new_tokens=options.max_new_tokens,
        length_penalty=options.length_penalty,
        early_stopping=options.beams > 1,
        do_sample=False,
        eos_token_id=options.eos_id,
        pad_token_id=options.eos_id,
        return_dict_in_generate=True,
        output_scores=True,
    )
    logp_XN = model.compute_transition_scores(
        output.sequences, output.scores, output.get("beam_indices"), normalize_logits=True
    )
    found = []
    for ids, logps in zip(output.sequences.tolist(), logp_XN.tolist(), strict=True):
        size = ids.index(options.eos_id) + 1 if options.eos_id in ids else len(ids)
        logp = sum(logps[:size])
        kept = tuple(token for token in ids[:size] if token != options.eos_id)
        found.append(TokenHypothesis(kept, logp / size**options.length_penalty, logp))
    return [found[i : i + options.nbest] for i in range(0, len(found), options.nbest)]


def has_full_attention(model: Any) -> bool:
    """Return whether every layer sees all tokens before it, as the search over a tree needs."""
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding" if window else "full_attention"]
    needed = {"position_ids", "past_key_values", "logits_to_keep"}
    takes = needed <= set(inspect.signature(model.forward).parameters)
    return takes and set(kinds) == {"full_attention"}


def clean_text(text: str) -> str:
    """Return a text in letters a to z and single spaces.

    Apostrophes go, everything else that is no letter counts as a space.

    Examples
    --------
    >>> clean_text("It's 3 o'clock, Mary!")
    'its oclock mary'
    """
    letters = re.sub(r"['\u2019]", "", text.lower())
    return " ".join(re.sub(r"[^a-z]+", " ", letters).split())


def _readable(backend: Backend, found: Sequence[TokenHypothesis]) -> list[LlmHypothesis]:
    """Return hypotheses as text; of those that read alike the best stays."""
    texts: dict[str, LlmHypothesis] = {}
    for hypothesis in found:
        text = clean_text(backend.decode(hypothesis.ids))
        texts.setdefault(text, LlmHypothesis(text, hypothesis.logp, hypothesis.score))
    return list(texts.values())


def _batches(lengths: Sequence[int], beams: int) -> Iterator[list[int]]:
    """Yield rows of similar length, as many as are searched at a time."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        full = (len(rows) + 1) * beams > _MAX_BEAMS
        if rows and (full or (len(rows) + 1) * lengths[row] > _MAX_POSITIONS):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
