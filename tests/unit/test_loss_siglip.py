"""The pairwise sigmoid loss: golden values, gradients, duplicates, masks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.losses.siglip import INIT_BIAS, INIT_LOG_TAU, siglip_loss

LOG_TAU = torch.tensor(INIT_LOG_TAU, dtype=torch.float64)
BIAS = torch.tensor(INIT_BIAS, dtype=torch.float64)
NEGATIVE = math.log1p(math.exp(-10))


@pytest.mark.parametrize(("num", "golden"), [(1, 0.693147), (4, 0.693283), (8, 0.693465)])
def test_orthonormal_pairs_give_the_golden_values(num: int, golden: float) -> None:
    words_WH = torch.eye(num, 8, dtype=torch.float64)
    loss = float(siglip_loss(words_WH, 3.0 * words_WH, LOG_TAU, BIAS))
    assert loss == pytest.approx(golden, abs=1e-6)
    assert loss == pytest.approx(math.log(2) + (num - 1) * NEGATIVE, abs=1e-6)


def test_a_word_that_occurs_twice_is_not_its_own_negative() -> None:
    words_WH = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 0]]
    loss = float(siglip_loss(words_WH, words_WH, LOG_TAU, BIAS))
    assert loss == pytest.approx((4 * math.log(2) + 10 * NEGATIVE) / 4, abs=1e-6)
    assert loss == pytest.approx(0.693261, abs=1e-6)


def test_cross_pairs_of_duplicates_have_no_gradient() -> None:
    g_WH = torch.eye(3, dtype=torch.float64)[[0, 0]]
    p_WH = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    both = torch.autograd.grad(siglip_loss(p_WH, g_WH, LOG_TAU, BIAS), p_WH)[0]
    alone = [
        torch.autograd.grad(siglip_loss(p_WH[i : i + 1], g_WH[:1], LOG_TAU, BIAS), p_WH)[0]
        for i in range(2)
    ]
    assert torch.allclose(both, (alone[0] + alone[1]) / 2)


def test_the_gradient_is_the_derivative() -> None:
    generator = torch.Generator().manual_seed(0)
    p_WH, g_WH = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator)
    g_WH[3] = g_WH[1]
    log_tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)
    mask_W = torch.tensor([True, True, False, True, True])
    for mask in (None, mask_W):
        assert torch.autograd.gradcheck(
            lambda p, t, b, mask=mask: siglip_loss(p, g_WH, t, b, mask),
            (p_WH.requires_grad_(), log_tau, bias),
        )


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 10_000))
def test_masked_rows_are_as_good_as_absent(kept: int, dropped: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p_WH, g_WH = torch.randn(2, kept + dropped, 5, generator=generator)
    mask_W = torch.randperm(kept + dropped, generator=generator) < kept
    masked = siglip_loss(p_WH, g_WH, LOG_TAU, BIAS, mask_W)
    assert masked == pytest.approx(float(siglip_loss(p_WH[mask_W], g_WH[mask_W], LOG_TAU, BIAS)))


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_the_order_of_pairs_and_the_length_of_vectors_do_not_matter(num: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p_WH, g_WH = torch.randn(2, num, 5, generator=generator)
    order = torch.randperm(num, generator=generator)
    length_W1 = 0.1 + torch.rand(num, 1, generator=generator)
    expected = float(siglip_loss(p_WH, g_WH, LOG_TAU, BIAS))
    found = float(siglip_loss((length_W1 * p_WH)[order], g_WH[order], LOG_TAU, BIAS))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mask_W", [None, torch.zeros(3, dtype=torch.bool)])
def test_no_pair_gives_zero_and_can_be_differentiated(mask_W: torch.Tensor | None) -> None:
    num = 0 if mask_W is None else 3
    p_WH = torch.randn(num, 4, requires_grad=True)
    log_tau = LOG_TAU.clone().requires_grad_()
    loss = siglip_loss(p_WH, torch.randn(num, 4), log_tau, BIAS, mask_W)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0.0
    assert p_WH.grad is not None
    assert float(p_WH.grad.abs().sum()) == 0.0
    assert float(log_tau.grad or 0.0) == 0.0


def test_closer_pairs_cost_less() -> None:
    g_WH = torch.eye(4)
    far = siglip_loss(torch.roll(g_WH, 1, 0), g_WH, LOG_TAU, BIAS)
    assert float(far) > float(siglip_loss(g_WH, g_WH, LOG_TAU, BIAS))
