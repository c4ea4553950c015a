"""Changes of training windows."""

from __future__ import annotations

import pytest
import torch

from neurodecode.training.augment import Augment
from neurodecode.training.config import TrainingConfig


def _draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_is_changed_unless_asked() -> None:
    x_BCT = torch.randn(3, 2, 10)
    assert torch.equal(Augment.of(TrainingConfig(), 100.0)(x_BCT, _draws()), x_BCT)


def test_noise_has_the_spread_that_is_asked_for() -> None:
    x_BCT = torch.zeros(50, 4, 100)
    noisy = Augment(noise_sd=0.3)(x_BCT, _draws())
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.05)


def test_an_offset_is_constant_over_time_and_differs_between_channels() -> None:
    moved = Augment(offset_sd=1.0)(torch.zeros(2, 3, 10), _draws())
    assert torch.equal(moved, moved[..., :1].expand(-1, -1, 10))
    assert len(moved[..., 0].unique()) == 6


def test_a_shift_moves_whole_windows_and_fills_with_nothing() -> None:
    x_BCT = torch.arange(1.0, 11.0).expand(40, 2, 10).contiguous()
    shifted = Augment(max_shift=3)(x_BCT, _draws())
    seen = set()
    for window_CT in shifted:
        assert torch.equal(window_CT[0], window_CT[1])
        candidates = {}
        for shift in range(-3, 4):
            moved_T = torch.zeros(10)
            kept_T = torch.arange(max(0, shift), min(10, 10 + shift))
            moved_T[kept_T] = x_BCT[0, 0, kept_T - shift]
            candidates[shift] = moved_T
        matches = [s for s, moved_T in candidates.items() if torch.equal(moved_T, window_CT[0])]
        assert len(matches) == 1
        seen |= set(matches)
    assert seen == set(range(-3, 4))


def test_dropped_channels_are_silent_and_the_rest_is_kept() -> None:
    x_BCT = torch.ones(400, 5, 3)
    dropped = Augment(channel_drop=0.25)(x_BCT, _draws())
    silent = (dropped == 0).all(dim=-1)
    assert bool(((dropped == 1).all(dim=-1) | silent).all())
    assert float(silent.float().mean()) == pytest.approx(0.25, abs=0.04)


def test_equal_seeds_draw_alike() -> None:
    augment = Augment(0.1, 0.1, 2, 0.2)
    x_BCT = torch.randn(4, 3, 20)
    assert torch.equal(augment(x_BCT, _draws(7)), augment(x_BCT, _draws(7)))
    assert not torch.equal(augment(x_BCT, _draws(7)), augment(x_BCT, _draws(8)))


def test_a_shift_is_given_in_seconds() -> None:
    assert Augment.of(TrainingConfig(shift_s=0.05), 200.0).max_shift == 10
