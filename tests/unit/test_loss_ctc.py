"""The CTC loss of both heads: golden values, weights, targets that do not fit."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from neurodecode.decoding.alphabet import BLANK
from neurodecode.losses.ctc import ctc_loss, frames_needed
from neurodecode.models.conv_conformer.network import EncoderOutput


def _output(logits_BFK: Tensor, aux_BFK: Tensor, frames: list[int]) -> EncoderOutput:
    return EncoderOutput(logits_BFK, aux_BFK, logits_BFK, torch.tensor(frames))


def test_uniform_probabilities_give_the_golden_value() -> None:
    """28 of 29^5 paths spell three different characters in five frames."""
    uniform = torch.zeros(1, 5, 29)
    target, lengths = torch.tensor([[1, 2, 3]]), torch.tensor([3])
    loss = ctc_loss(_output(uniform, uniform, [5]), target, lengths, 0.7)
    assert float(loss) == pytest.approx(4.501424, abs=1e-6)
    assert float(loss) == pytest.approx((5 * math.log(29) - math.log(28)) / 3, abs=1e-6)


def test_the_loss_is_the_negative_log_of_all_paths() -> None:
    logits = torch.randn(1, 4, 4, dtype=torch.float64)
    p_FK = torch.softmax(logits[0], dim=-1)
    for target in ([1], [2, 2], [3, 1, 2]):
        total = sum(
            math.prod(float(p_FK[frame, k]) for frame, k in enumerate(path))
            for path in itertools.product(range(4), repeat=4)
            if [k for k, _ in itertools.groupby(path) if k != BLANK] == target
        )
        ids, lengths = torch.tensor([target]), torch.tensor([len(target)])
        loss = ctc_loss(_output(logits, logits, [4]), ids, lengths, 0.0)
        assert float(loss) == pytest.approx(-math.log(total) / len(target), abs=1e-9)


def test_heads_are_weighed_and_padding_is_ignored() -> None:
    final, aux = torch.randn(2, 9, 5), torch.randn(2, 9, 5)
    target, lengths = torch.tensor([[1, 2, 3], [4, 4, 0]]), torch.tensor([3, 2])
    parts = [
        float(ctc_loss(_output(logits, logits, [9, 6]), target, lengths, 0.0))
        for logits in (final, aux)
    ]
    both = ctc_loss(_output(final, aux, [9, 6]), target, lengths, 0.7)
    assert float(both) == pytest.approx(0.3 * parts[0] + 0.7 * parts[1], abs=1e-5)
    final[1, 6:], target[1, 2] = 77.0, 3
    padded = ctc_loss(_output(final, aux, [9, 6]), target, lengths, 0.7)
    assert float(padded) == pytest.approx(float(both), abs=1e-6)


def test_gradients_are_right_for_both_heads() -> None:
    final = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    aux = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    target, lengths = torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 2])

    def loss(final: Tensor, aux: Tensor) -> Tensor:
        return ctc_loss(_output(final, aux, [6, 5]), target, lengths, 0.7)

    assert torch.autograd.gradcheck(loss, (final, aux))


def test_a_target_that_does_not_fit_counts_as_nothing() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    target, lengths = torch.tensor([[1, 1, 0], [2, 2, 3]]), torch.tensor([2, 3])
    assert frames_needed(target, lengths).tolist() == [3, 4]
    loss = ctc_loss(_output(logits, logits, [3, 3]), target, lengths, 0.5)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert logits.grad is not None
    assert logits.grad[0].any()
    assert not logits.grad[1].any()
