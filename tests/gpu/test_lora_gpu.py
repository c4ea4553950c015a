"""Adapters on a CUDA device: trained, decoded with, and the same as on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from _tiny_lm import tiny_backend, write_tiny_lm

from neurodecode.llm.backend import Backend
from neurodecode.llm.config import LlmConfig, LlmDecodingConfig
from neurodecode.llm.generate import generate
from neurodecode.llm.lora import load_adapter, merged, save_adapter
from neurodecode.llm.prompt import Prompter, Reading
from neurodecode.llm.sources import StoredSource
from neurodecode.llm.train import dev_loss, train_lora

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CONFIG = LlmConfig(lora_rank=4, batch_size=8, epochs=12, learning_rate=3e-2, patience=100)
DECODING = LlmDecodingConfig(beam=3, max_new_tokens=6)


def _readings(num: int, seed: int) -> list[Reading]:
    """The word vector tells the target, the text does not."""
    rng = np.random.default_rng(seed)
    readings = []
    for n in range(num):
        which = int(rng.integers(2))
        vector = np.zeros((1, 16), np.float32)
        vector[0, which] = 4.0
        readings.append(Reading(f"i{n}", "c" * int(rng.integers(1, 6)), vector, "ab"[which] * 2))
    return readings


def _on_device(folder: Path) -> Backend:
    backend = tiny_backend(folder)
    backend.model.to("cuda")
    return backend


def test_an_adapter_of_the_device_reads_the_same_on_the_cpu(tmp_path: Path) -> None:
    folder = write_tiny_lm(tmp_path / "lm")
    backend = _on_device(folder)
    dev = _readings(24, 2)
    model = train_lora(
        backend,
        StoredSource(_readings(48, 1)),
        dev,
        CONFIG,
        seed=0,
        log=lambda *_, **__: None,
    )
    loss = dev_loss(model, Prompter(backend), dev)
    assert loss < 0.2
    save_adapter(model, tmp_path / "adapter")
    with merged(model) as base:
        found = generate(backend, base, dev, DECODING)
    assert np.mean([best.text == r.target for (best, *_), r in zip(found, dev, strict=True)]) > 0.9

    cpu = tiny_backend(folder)
    same = load_adapter(cpu, tmp_path / "adapter")
    assert dev_loss(same, Prompter(cpu), dev) == pytest.approx(loss, abs=1e-3)
    with merged(same) as base:
        again = generate(cpu, base, dev, DECODING)
    assert [best.text for best, *_ in again] == [best.text for best, *_ in found]
