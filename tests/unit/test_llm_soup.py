"""Averages of adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _tiny_lm import tiny_backend
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurodecode.llm.config import LlmConfig
from neurodecode.llm.lora import attach
from neurodecode.llm.soup import Adapter, adapter_state, soup, use_adapter
from neurosweep.core.errors import ConfigError

A, B = "layer.lora_A.weight", "layer.lora_B.weight"


def _adapter(seed: int, rank: int = 2, inputs: int = 7, outputs: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {A: (rank, inputs), B: (outputs, rank)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _change(adapter: Adapter) -> Tensor:
    return adapter[B] @ adapter[A]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(1, 6), st.integers(1, 9))
def test_a_soup_of_identical_adapters_is_the_adapter(seed: int, count: int, rank: int) -> None:
    adapter = _adapter(seed, rank)
    by_matrices = soup([adapter] * count)
    assert all(torch.allclose(by_matrices[name], adapter[name], atol=1e-6) for name in adapter)
    by_products = soup([adapter] * count, by="products")
    assert torch.allclose(_change(by_products), _change(adapter), atol=1e-4)
    assert {n: v.shape for n, v in by_products.items()} == {n: v.shape for n, v in adapter.items()}


def test_a_soup_of_opposites_is_nothing() -> None:
    adapter = _adapter(0)
    opposite = {name: -value for name, value in adapter.items()}
    assert not any(value.any() for value in soup([adapter, opposite]).values())
    negated = {**adapter, B: -adapter[B]}
    assert torch.allclose(_change(soup([adapter, negated], by="products")), torch.zeros(5, 7))
    # Opposite matrices make the same change: only their products tell.
    same = soup([adapter, opposite], by="products")
    assert torch.allclose(_change(same), _change(adapter), atol=1e-5)


def test_products_are_averaged_as_closely_as_the_rank_allows() -> None:
    adapters = [_adapter(seed, rank=2) for seed in range(3)]
    mean = torch.stack([_change(adapter) for adapter in adapters]).mean(0)
    error = torch.linalg.matrix_norm(mean - _change(soup(adapters, by="products")))
    best = torch.linalg.svdvals(mean)[2:].square().sum().sqrt()
    assert float(error) == pytest.approx(float(best), rel=1e-4)
    by_matrices = torch.linalg.matrix_norm(mean - _change(soup(adapters)))
    assert error < by_matrices


def test_one_rank_is_enough_for_changes_of_one_rank() -> None:
    adapter = _adapter(1, rank=1)
    scaled = {**adapter, B: 3 * adapter[B]}
    found = _change(soup([adapter, scaled], by="products"))
    assert torch.allclose(found, 2 * _change(adapter), atol=1e-5)


def test_what_cannot_be_averaged_is_said() -> None:
    with pytest.raises(ConfigError, match="at least one adapter"):
        soup([])
    with pytest.raises(ConfigError, match=r"adapter 1 has layer\.lora_A\.weight of shape \(3, 7\)"):
        soup([_adapter(0), _adapter(0, rank=3)])
    with pytest.raises(ConfigError, match=r"adapter 1 has .* of shape None"):
        soup([_adapter(0), {A: _adapter(0)[A]}])


def test_a_model_takes_a_soup(tmp_path: Path) -> None:
    backend = tiny_backend(tmp_path)
    model = attach(backend, LlmConfig(lora_rank=2), seed=0)
    first = adapter_state(model)
    second = {name: value + 1.0 for name, value in first.items()}
    use_adapter(model, soup([first, second]))
    now = adapter_state(model)
    assert all(torch.allclose(now[name], first[name] + 0.5) for name in first)
    with pytest.raises(ConfigError, match="same layers and rank"):
        use_adapter(model, {name: value[:1] for name, value in first.items()})
