"""Training of encoders: CTC learns, seeds repeat, and the schedules are the published ones."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _sentence_stores import Keyboard, make_sentence_facts, write_sentence_store
from _window_stores import Recorder

from neurodecode.models.conv_conformer import Config, build
from neurodecode.models.conv_conformer.network import ConvConformer
from neurodecode.training.encoder_fit import (
    FitResult,
    character_error_rate,
    encode,
    fit_encoder,
)
from neurodecode.training.encoder_steps import EncoderSteps
from neurodecode.training.interrupts import Interrupts
from neurodecode.training.schedule import linear_warmup_cosine, loss_weights
from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurodecode.training.sentences import SentenceSet, read_sentences
from neurosweep.exec.job_api import Diverged

CPU = torch.device("cpu")
SMALL = {
    "merger_channels": 16,
    "fourier_grid": 4,
    "merger_sharpness": 3.0,
    "merger_dropout": 0.0,
    "mixed_channels": 16,
    "conv_width": 32,
    "num_convs": 2,
    "width": 32,
    "num_layers": 1,
    "ffn_width": 32,
    "conformer_kernel": 5,
}
CHANNELS = 16
EASY = {"jitter_s": 0.0, "stretch": 0.0, "offset_sd": 0.0, "time_mask": 0, "learning_rate": 1e-2}


def _sets(folder: Path, train: int = 24, dev: int = 8, **options: Any) -> list[SentenceSet]:
    facts = make_sentence_facts(CHANNELS)
    write_sentence_store(folder, facts, {"train": train, "dev": dev}, **options)
    return [read_sentences(folder, part, facts.subjects) for part in ("train", "dev")]


def _encoder(seed: int = 0, **options: Any) -> ConvConformer:
    torch.manual_seed(seed)
    return build(Config.model_validate(SMALL | options), make_sentence_facts(CHANNELS))


def _fit(
    model: ConvConformer, train: SentenceSet, dev: SentenceSet, seed: int = 0, **options: Any
) -> tuple[FitResult, Recorder]:
    recorder = Recorder()
    config = EncoderTrainingConfig.model_validate(EASY | {"batch_size": 8} | options)
    return fit_encoder(model, train, dev, config, seed=seed, log=recorder.log), recorder


@pytest.mark.slow
def test_sentences_never_seen_are_read(tmp_path: Path) -> None:
    train, dev = _sets(tmp_path, 96, 24, keyboard=Keyboard.of(CHANNELS, signal=4.0))
    model = _encoder()
    result, recorder = _fit(model, train, dev, epochs=25, warmup_steps=30)
    assert result.dev_cer is not None
    assert result.dev_cer < 0.3
    assert character_error_rate(model, dev, CPU) == pytest.approx(result.dev_cer, abs=1e-9)
    assert recorder.lines[-1][2]["loss"] < 1.0 < recorder.lines[0][2]["loss"]


def test_the_best_epoch_is_kept_and_patience_ends_training(tmp_path: Path) -> None:
    train, dev = _sets(tmp_path, 8, 4)
    result, recorder = _fit(_encoder(), train, dev, epochs=30, patience=2)
    curve = [metrics["dev_cer"] for *_, metrics in recorder.lines]
    assert result.epochs == len(curve) == result.best_epoch + 2
    assert result.dev_cer == min(curve) == curve[result.best_epoch - 1]
    assert [epoch for _, epoch, _ in recorder.lines] == list(range(1, len(curve) + 1))


def test_without_dev_the_last_weights_stay(tmp_path: Path) -> None:
    train, dev = _sets(tmp_path, 8, 1)
    result, recorder = _fit(_encoder(), train, dev.subset([]), epochs=2)
    assert result == FitResult(2, 2, None, 0)
    assert "dev_cer" not in recorder.lines[0][2]


def test_equal_seeds_train_equal_weights(tmp_path: Path) -> None:
    train, dev = _sets(tmp_path, 8, 2)
    states = []
    for seed in (3, 3, 4):
        model = _encoder(7)
        _fit(model, train, dev, seed, epochs=2, stretch=0.2, jitter_s=0.2, time_mask=20)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_training_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    train, dev = _sets(tmp_path, 24, 2)
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) == 2

    config = EncoderTrainingConfig(batch_size=8, epochs=50)
    recorder = Recorder()
    result = fit_encoder(
        _encoder(),
        train,
        dev,
        config,
        seed=0,
        log=recorder.log,
        interrupts=Interrupts(should_stop),
    )
    assert result.epochs == 1
    assert recorder.lines[0][0] == 2


def test_an_infinite_loss_is_reported_as_diverged(tmp_path: Path) -> None:
    train, dev = _sets(tmp_path, 8, 2)
    train.x_TC[:] = np.nan
    with pytest.raises(Diverged, match=r"loss is nan at step 0; lower training.learning_rate"):
        _fit(_encoder(), train, dev)


def test_batches_hold_every_sentence_once_and_neighbours_in_length(tmp_path: Path) -> None:
    train, _ = _sets(tmp_path, 50, 1, words=3)
    config = EncoderTrainingConfig(batch_size=8, jitter_s=0.0, stretch=0.0)
    steps = EncoderSteps(_encoder(), train, config, seed=1)
    lengths = train.lengths()
    first, second = steps.draw(), steps.draw()
    assert sorted(np.concatenate(first).tolist()) == list(range(50))
    assert {len(rows) for rows in first} == {7, 8}
    waste = sum(lengths[rows].max() * len(rows) for rows in first) / lengths.sum()
    assert waste < 1.1
    assert [rows.tolist() for rows in first] != [rows.tolist() for rows in second]
    longest = [int(lengths[rows].max()) for rows in first]
    assert longest != sorted(longest)


def test_texts_that_do_not_fit_are_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = Keyboard.of(CHANNELS, interval_s=(0.005, 0.02))
    train, dev = _sets(tmp_path, 8, 2, keyboard=hasty, words=10)
    with caplog.at_level(logging.WARNING):
        result, _ = _fit(_encoder(), train, dev, epochs=2)
    assert result.too_long > 0
    assert caplog.text.count(f"{result.too_long} of 8 training sentences have fewer frames") == 1


def test_what_is_encoded_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    train, _ = _sets(tmp_path, 9, 1)
    model = _encoder()
    _fit(model, train, train.subset([]), epochs=1)
    hidden = train.subset(range(9))
    without_text = SentenceSet(
        hidden.x_TC, tuple(replace(s, typed=None) for s in hidden.spans), 100.0
    )
    many, single = encode(model, without_text, CPU), encode(model, without_text, CPU, 1)
    assert [one.item for one in many] == [span.item for span in train.spans]
    for one, other, length in zip(many, single, train.lengths(), strict=True):
        frames = model.num_frames(int(length))
        assert one.log_p_FK.shape == (frames, 28)
        assert one.feature_FD.shape == (frames, 32)
        np.testing.assert_allclose(np.exp(one.log_p_FK).sum(axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(one.log_p_FK, other.log_p_FK, atol=1e-5)
        np.testing.assert_allclose(one.feature_FD, other.feature_FD, atol=1e-5)


def test_the_learning_rate_takes_the_published_course() -> None:
    golden = {0: 8e-6, 250: 4.04e-4, 500: 8e-4, 2750: 4.005e-4, 5000: 1e-6}
    for step, rate in golden.items():
        assert linear_warmup_cosine(step, 8e-4, 500, 5000) == pytest.approx(rate, rel=1e-9)
    assert linear_warmup_cosine(6000, 8e-4, 500, 5000) == pytest.approx(1e-6)
    assert linear_warmup_cosine(0, 8e-4, 0, 10) == pytest.approx(8e-4)
    assert linear_warmup_cosine(10, 1e-7, 0, 10) == pytest.approx(1e-7)


def test_loss_weights_take_the_published_course() -> None:
    for epochs, expected in (
        ((0, 149), (1.0, 0.0, 0.0)),
        ((150, 224), (0.898990, 0.101010, 0.0)),
        ((225, 274), (0.89, 0.1, 0.01)),
    ):
        for epoch in epochs:
            assert loss_weights(epoch) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="no loss is active in epoch 2: the first starts in"):
        loss_weights(2, (3, 4, 5))
