"""The loss: gradients, class weights, smoothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.losses.cross_entropy import class_weights, smoothed_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_the_gradient_is_the_derivative(smoothing: float) -> None:
    torch.manual_seed(0)
    logits_BK = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    target_B = torch.tensor([0, 2, 1, 1, 0])
    weight_K = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda logits: smoothed_cross_entropy(logits, target_B, weight_K, smoothing), (logits_BK,)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_it_is_the_cross_entropy_of_torch(smoothing: float) -> None:
    torch.manual_seed(1)
    logits_BK, target_B = torch.randn(8, 4), torch.randint(4, (8,))
    expected = torch.nn.functional.cross_entropy(logits_BK, target_B, label_smoothing=smoothing)
    found = smoothed_cross_entropy(logits_BK, target_B, torch.ones(4), smoothing)
    assert found == pytest.approx(float(expected), rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_every_class_present_weighs_alike(labels: list[int]) -> None:
    target_B = torch.tensor(labels)
    weight_K = class_weights(target_B, 5)
    shares = [float(weight_K[k] * (target_B == k).sum()) for k in set(labels)]
    assert shares == pytest.approx([len(labels) / len(set(labels))] * len(set(labels)), rel=1e-5)
    assert all(weight_K[k] == 0 for k in range(5) if k not in labels)


def test_a_rare_class_pulls_as_hard_as_a_common_one() -> None:
    target_B = torch.tensor([0] * 9 + [1])
    logits_BK = torch.zeros(10, 2, requires_grad=True)
    loss = smoothed_cross_entropy(logits_BK, target_B, class_weights(target_B, 2), 0.0)
    (gradient_BK,) = torch.autograd.grad(loss, logits_BK)
    assert float(gradient_BK.sum(dim=0).abs().max()) < 1e-6
