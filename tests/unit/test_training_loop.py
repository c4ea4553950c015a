"""Training: learns what can be learned, repeats itself, stops when it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from _window_stores import Recorder, make_facts, make_windows
from torch import nn

from neurodecode.contracts import DataFacts
from neurodecode.models import linear, sync_conv
from neurodecode.training.augment import Augment
from neurodecode.training.config import TrainingConfig
from neurodecode.training.evaluate import DevScore, predict_log_proba, score_dev
from neurodecode.training.interrupts import Interrupts
from neurodecode.training.loop import Best, FitResult, fit
from neurodecode.training.steps import Steps, parameter_groups
from neurodecode.training.windows import WindowSet
from neurosweep.exec.job_api import Diverged

CPU = torch.device("cpu")
SMALL = {"width": 8, "num_blocks": 1, "stem_kernel": 5, "pooling": "flatten", "dropout": 0.1}
EMPTY = WindowSet(
    np.zeros((0, 3, 20), dtype=np.float32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=int), ()
)


def _network(facts: DataFacts, seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return sync_conv.build(sync_conv.Config.model_validate(SMALL | options), facts)


def _fit(
    model: nn.Module, train: WindowSet, dev: WindowSet, seed: int = 0, **options: Any
) -> tuple[FitResult, Recorder]:
    recorder = Recorder()
    config = TrainingConfig.model_validate({"batch_size": 32, "learning_rate": 1e-2} | options)
    result = fit(model, train, dev, config, sfreq_hz=100.0, seed=seed, log=recorder.log)
    return result, recorder


def test_a_small_problem_is_learned_by_heart() -> None:
    facts = make_facts(classes=4)
    train = make_windows(64, facts, seed=0, signal=0.2)
    model = _network(facts, dropout=0.0, dropout_input=0.0, width=32)
    result, recorder = _fit(model, train, EMPTY, epochs=60, weight_decay=1e-6)
    assert score_dev(model, train, CPU).error == 0.0
    assert recorder.lines[-1][2]["loss"] < 0.1 < recorder.lines[0][2]["loss"]
    assert result == FitResult(60, 60, None)


def test_what_is_learned_holds_for_new_windows() -> None:
    facts = make_facts(classes=4)
    train, dev, fresh = (make_windows(n, facts, seed=s) for s, n in enumerate((240, 80, 200)))
    model = _network(facts)
    result, _ = _fit(model, train, dev, epochs=12)
    assert score_dev(model, fresh, CPU).error < 0.1
    assert result.dev is not None
    assert score_dev(model, dev, CPU).loss == pytest.approx(result.dev.loss, rel=1e-5)


def test_permuted_labels_stay_at_chance() -> None:
    """Three seeds of 300 fresh windows: the standard error of the mean is 0.017."""
    facts = make_facts(classes=2)
    errors = []
    for seed in range(3):
        train, dev, fresh = (
            make_windows(n, facts, 9 + 3 * seed + i) for i, n in enumerate((240, 80, 300))
        )
        for part in (train, dev):
            np.random.default_rng(seed).shuffle(part.targets())
        model = _network(facts, seed)
        _fit(model, train, dev, epochs=6)
        errors.append(score_dev(model, fresh, CPU).error)
    assert np.mean(errors) == pytest.approx(0.5, abs=0.07)


def test_equal_seeds_train_equal_weights() -> None:
    facts = make_facts()
    train, dev = make_windows(96, facts, 0), make_windows(32, facts, 1)
    states = []
    for seed in (5, 5, 6):
        model = _network(facts, seed)
        _fit(model, train, dev, seed, epochs=2, noise_sd=0.2, shift_s=0.02)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_the_best_epoch_is_kept_and_patience_ends_training() -> None:
    """On labels without a pattern dev only gets worse after a while."""
    facts = make_facts()
    train, dev = make_windows(64, facts, 0, signal=0.0), make_windows(64, facts, 1, signal=0.0)
    model = _network(facts, dropout=0.0, dropout_input=0.0, width=32)
    result, recorder = _fit(model, train, dev, epochs=60, patience=4)
    curve = [metrics["dev_loss"] for *_, metrics in recorder.lines]
    assert result.epochs == len(curve) == result.best_epoch + 4 < 60
    assert result.dev is not None
    assert result.dev.loss == min(curve) == curve[result.best_epoch - 1]
    assert score_dev(model, dev, CPU).loss == pytest.approx(min(curve), rel=1e-5)


def test_only_a_strictly_better_epoch_counts() -> None:
    best = Best("error", patience=2)
    model = nn.Linear(1, 1)
    for epoch, error in enumerate((0.5, 0.4, 0.4), start=1):
        best.offer(epoch, DevScore(loss=1.0 / epoch, error=error), model)
    assert best.epoch == 2
    assert not best.exhausted(3)
    assert best.exhausted(4)


def test_a_closed_form_start_is_kept_unless_training_improves_it() -> None:
    facts = make_facts()
    train, dev = make_windows(200, facts, 0, signal=0.4), make_windows(100, facts, 1, signal=0.4)
    model = linear.build(linear.Config(), facts)
    result, _ = _fit(model, train, dev, epochs=2, learning_rate=1e-1)
    assert result.dev is not None
    assert score_dev(model, dev, CPU).error < 0.2
    untouched = linear.build(linear.Config(), facts)
    untouched.initialise(train.x_WCT, train.targets())
    assert result.dev.loss <= score_dev(untouched, dev, CPU).loss + 1e-6


def test_an_infinite_loss_is_reported_as_diverged() -> None:
    facts = make_facts()
    train = make_windows(32, facts, 0)
    train.x_WCT[3] = np.nan
    with pytest.raises(Diverged, match=r"loss is nan at step 0; lower training.learning_rate"):
        _fit(_network(facts), train, make_windows(32, facts, 1))


def test_training_ends_when_it_is_asked_to() -> None:
    facts = make_facts()
    train, dev = make_windows(96, facts, 0), make_windows(32, facts, 1)
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) == 2

    recorder = Recorder()
    config = TrainingConfig(batch_size=32, epochs=50)
    result = fit(
        _network(facts),
        train,
        dev,
        config,
        sfreq_hz=100.0,
        seed=0,
        log=recorder.log,
        interrupts=Interrupts(should_stop),
    )
    assert len(asked) == 2
    assert result.epochs == 1
    assert recorder.lines[0][0] == 2


def test_every_window_is_seen_once_an_epoch_in_parts_of_nearly_equal_size() -> None:
    facts = make_facts()
    config = TrainingConfig(batch_size=32)
    steps = Steps(_network(facts), make_windows(65, facts, 0), config, Augment(), seed=1)
    parts = steps.draw()
    assert sorted(int(row) for part in parts for row in part) == list(range(65))
    assert [len(part) for part in parts] == [22, 22, 21]


def test_offsets_and_scales_do_not_decay() -> None:
    decayed, free = parameter_groups(_network(make_facts()), 0.3)
    assert decayed["weight_decay"] == 0.3
    assert free["weight_decay"] == 0.0
    assert all(p.ndim >= 2 for p in decayed["params"])  # type: ignore[attr-defined]
    assert all(p.ndim < 2 for p in free["params"])  # type: ignore[attr-defined]


def test_log_probabilities_sum_to_one_in_any_number_of_batches() -> None:
    facts = make_facts(classes=3)
    model = _network(facts)
    windows = make_windows(700, facts, 0)
    log_p_WK = predict_log_proba(model, windows, CPU)
    assert log_p_WK.shape == (700, 3)
    np.testing.assert_allclose(np.exp(log_p_WK).sum(axis=1), 1.0, rtol=1e-5)
    some = WindowSet(windows.x_WCT[600:], windows.subject_W[600:], None, ())
    np.testing.assert_allclose(predict_log_proba(model, some, CPU), log_p_WK[600:], atol=1e-5)


def test_the_dev_error_is_balanced() -> None:
    class Always(nn.Module):
        def forward(self, x_BCT: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0]]).repeat(len(x_BCT), 1)

    windows = make_windows(10, make_facts(), 0)
    windows.targets()[:] = [0] * 9 + [1]
    assert score_dev(Always(), windows, CPU).error == 0.5
