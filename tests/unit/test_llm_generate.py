"""Beam search: as transformers does it, whatever the padding and the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from _tiny_lm import tiny_backend, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from neurodecode.llm.backend import Backend
from neurodecode.llm.beam_search import BeamOptions, TokenHypothesis, beam_search
from neurodecode.llm.config import LlmDecodingConfig
from neurodecode.llm.generate import clean_text, generate, has_full_attention, transformers_search
from neurodecode.llm.prompt import Prompter, Reading

EOS = 1
SMALL = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}


def _prompts(lengths: Sequence[int], hidden: int = 16, seed: int = 0) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    mask_BL = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
    prompt_BLH = torch.randn(*mask_BL.shape, hidden, generator=generator)
    return prompt_BLH * mask_BL[..., None], mask_BL


def _options(beams: int, nbest: int = 1, new: int = 12, penalty: float = 0.2) -> BeamOptions:
    return BeamOptions(beams, nbest, new, penalty, EOS)


def _same(first: list[list[TokenHypothesis]], second: list[list[TokenHypothesis]]) -> None:
    assert [[h.ids for h in found] for found in first] == [[h.ids for h in f] for f in second]
    for left, right in zip(chain(*first), chain(*second), strict=True):
        assert left.score == pytest.approx(right.score, abs=1e-4)
        assert left.logp == pytest.approx(right.logp, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 2, 4, 9])
@pytest.mark.parametrize("penalty", [0.2, 0.0, 1.0, -0.5])
def test_the_search_finds_what_transformers_finds(beams: int, penalty: float) -> None:
    model = tiny_model(seed=beams)
    prompts = _prompts([5, 9, 14, 2, 14, 7, 1, 11])
    options = _options(beams, nbest=1 if beams == 1 else 2, penalty=penalty)
    found = beam_search(model, *prompts, options)
    _same(found, transformers_search(model, *prompts, options))
    assert penalty == 1.0 or len({len(hypotheses[0].ids) for hypotheses in found}) > 1


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.integers(2, 5),
    st.integers(1, 15),
    st.floats(-1.0, 2.0),
)
def test_it_finds_the_same_on_random_models(
    seed: int, lengths: list[int], beams: int, new: int, penalty: float
) -> None:
    model = tiny_model(layers=1, seed=seed)
    # A likelier end than chance, so that beams finish at different times.
    with torch.no_grad():
        model.model.norm.weight.add_(0.5 * model.lm_head.weight[EOS])
    prompts = _prompts(lengths, seed=seed)
    options = _options(beams, nbest=beams, new=new, penalty=penalty)
    _same(beam_search(model, *prompts, options), transformers_search(model, *prompts, options))


@pytest.mark.parametrize(
    "model",
    [
        Qwen3ForCausalLM(
            Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=8, intermediate_size=24)
        ),
        GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2)),
    ],
    ids=["qwen3", "gpt2"],
)
def test_other_models_are_searched_alike(model: Any) -> None:
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)
    assert has_full_attention(model)
    prompts = _prompts([3, 8, 5])
    options = _options(3, nbest=2)
    _same(beam_search(model, *prompts, options), transformers_search(model, *prompts, options))


def test_models_with_a_window_are_left_to_transformers() -> None:
    config = MistralConfig(**SMALL, num_key_value_heads=2, intermediate_size=24, sliding_window=4)
    assert not has_full_attention(MistralForCausalLM(config))
    config.sliding_window = None
    assert has_full_attention(MistralForCausalLM(config))


def test_neither_padding_nor_company_changes_a_search() -> None:
    model = tiny_model()
    prompt_BLH, mask_BL = _prompts([5, 9, 14, 2, 7])
    options = _options(3, nbest=3)
    together = beam_search(model, prompt_BLH, mask_BL, options)
    for b, length in enumerate(mask_BL.sum(1).tolist()):
        alone = beam_search(
            model, prompt_BLH[b : b + 1, -length:], mask_BL[b : b + 1, -length:], options
        )
        _same([together[b]], alone)


def test_a_beam_as_wide_as_the_vocabulary_squared_is_exhaustive() -> None:
    """Of all endings of at most two tokens the best are found."""
    model = tiny_model(seed=3)
    prompt_BLH, mask_BL = _prompts([4])
    vocabulary = model.config.vocab_size
    with torch.inference_mode():
        first_V = model(inputs_embeds=prompt_BLH).logits[0, -1].log_softmax(-1)
        table_VH = model.get_input_embeddings().weight
        longer_VLH = torch.cat([prompt_BLH.expand(vocabulary, -1, -1), table_VH[:, None]], dim=1)
        second_VV = model(inputs_embeds=longer_VLH).logits[:, -1].log_softmax(-1)
    endings = {(): float(first_V[EOS])}
    for a in set(range(vocabulary)) - {EOS}:
        for b in range(vocabulary):
            ids = (a,) if b == EOS else (a, b)
            endings[ids] = float(first_V[a] + second_VV[a, b]) / 2**0.2
    best = sorted(endings, key=lambda ids: -endings[ids])[:5]
    found = beam_search(model, prompt_BLH, mask_BL, _options(vocabulary // 2, nbest=5, new=2))[0]
    assert [hypothesis.ids for hypothesis in found] == best
    assert [h.score for h in found] == pytest.approx([endings[ids] for ids in best], abs=1e-4)


def test_log_probabilities_are_those_of_the_tokens() -> None:
    model = tiny_model(seed=5)
    prompt_BLH, mask_BL = _prompts([6])
    for hypothesis in beam_search(model, prompt_BLH, mask_BL, _options(4, nbest=4))[0]:
        ids = [*hypothesis.ids, EOS][:12]
        table = model.get_input_embeddings().weight
        with torch.inference_mode():
            whole = torch.cat([prompt_BLH, table[torch.tensor(ids)][None]], dim=1)
            log_p = model(inputs_embeds=whole).logits[0, 5:-1].log_softmax(-1)
        expected = sum(float(log_p[i, token]) for i, token in enumerate(ids))
        assert hypothesis.logp == pytest.approx(expected, abs=1e-3)
        assert hypothesis.score == pytest.approx(expected / len(ids) ** 0.2, abs=1e-3)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return tiny_backend(tmp_path_factory.mktemp("lm"))


def _readings(num: int) -> list[Reading]:
    rng = np.random.default_rng(4)
    texts = ["".join(rng.choice(list("abcde "), rng.integers(1, 30))) for _ in range(num)]
    return [
        Reading(f"i{n}", text, rng.standard_normal((1 + n % 4, 16)).astype(np.float32))
        for n, text in enumerate(texts)
    ]


def test_sentences_come_in_the_order_of_the_readings(backend: Backend) -> None:
    readings = _readings(70)
    config = LlmDecodingConfig(beam=4, max_new_tokens=6, nbest=3)
    together = generate(backend, backend.model, readings, config)
    assert len(together) == 70
    for row in (0, 13, 69):
        (alone,) = generate(backend, backend.model, readings[row : row + 1], config)
        assert [h.text for h in alone] == [h.text for h in together[row]]
        assert [h.logp for h in alone] == pytest.approx([h.logp for h in together[row]], abs=1e-4)
    for hypotheses in together:
        assert 1 <= len(hypotheses) <= 3
        assert len({h.text for h in hypotheses}) == len(hypotheses)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        assert all(math.isfinite(h.logp) and h.text == clean_text(h.text) for h in hypotheses)


def test_no_readings_give_no_sentences(backend: Backend) -> None:
    assert generate(backend, backend.model, [], LlmDecodingConfig()) == []


def test_word_vectors_change_what_is_written(backend: Backend) -> None:
    readings = _readings(20)
    config = LlmDecodingConfig(beam=2, max_new_tokens=6)
    with_words = generate(backend, backend.model, readings, config)
    without = generate(backend, backend.model, [r.without_words() for r in readings], config)
    assert with_words != without
    lengths = [
        Prompter(backend).length(r) - Prompter(backend).length(r.without_words()) for r in readings
    ]
    assert lengths == [len(r.words_WH) for r in readings]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("the cat", "the cat"),
        ("  It's 3 o'clock,\nMary! ", "its oclock mary"),
        ("caf\u00e9-bar don\u2019t", "caf bar dont"),
        ("", ""),
        ("42!", ""),
    ],
)
def test_sentences_are_letters_and_single_spaces(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean
