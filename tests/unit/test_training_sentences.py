"""Sentences of a store as batches, their augmentation, and trained encoders as files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _sentence_stores import make_sentence_facts, write_sentence_store

from neurodecode.decoding.alphabet import SYMBOLS, decode_ids
from neurodecode.models.conv_conformer import Config, build
from neurodecode.training.checkpoint import load_encoder, save_encoder
from neurodecode.training.sentence_augment import Course, SentenceAugment
from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurodecode.training.sentences import (
    SentenceSet,
    SentenceSpan,
    read_sentences,
    sentence_facts,
    targets,
)
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import DataError

CPU = torch.device("cpu")
COUNTS = {"train": 5, "dev": 2, "val": 3}


def _store(folder: Path, **options: Any) -> Path:
    facts = make_sentence_facts(4, 2, unplaced=(1,))
    write_sentence_store(folder, facts, COUNTS, **options)
    return folder


def _ramps(lengths: list[int], channels: int = 3) -> SentenceSet:
    """Every sentence counts its own samples, so that times can be read off its values."""
    spans, start = [], 0
    for number, length in enumerate(lengths):
        spans.append(SentenceSpan(f"s00/rec/{number}", start, start + length, 0, "a b", "a b"))
        start += length
    ramps = [np.repeat(np.arange(1.0, n + 1)[:, None], channels, axis=1) for n in lengths]
    return SentenceSet(np.concatenate(ramps).astype(np.float16), tuple(spans), 100.0)


def _augmented(
    augment: SentenceAugment, sentences: SentenceSet, seed: int = 0
) -> tuple[Any, Course]:
    generator = torch.Generator().manual_seed(seed)
    course = augment.draw(sentences, generator)
    rows = np.arange(len(sentences))
    return augment.batch(sentences, rows, course, generator, CPU), course


def test_sentences_are_read_with_their_texts_and_subjects(tmp_path: Path) -> None:
    _store(tmp_path)
    facts = sentence_facts(read_meta(tmp_path))
    assert facts == make_sentence_facts(4, 2, unplaced=(1,))
    train = read_sentences(tmp_path, "train", facts.subjects)
    assert len(train) == 5
    assert train.sfreq_hz == 100.0
    assert [span.subject_index for span in train.spans] == [0, 1, 0, 1, 0]
    assert all(set(text) <= set(SYMBOLS) for text in train.typed())
    assert train.lengths().sum() == len(train.x_TC)
    val = read_sentences(tmp_path, "val", facts.subjects)
    assert all(span.typed is None and span.text is None for span in val.spans)
    with pytest.raises(DataError, match="3 of 3 sentences have no text; only train and dev"):
        val.typed()


def test_a_batch_is_padded_with_zeros(tmp_path: Path) -> None:
    train = read_sentences(_store(tmp_path), "train", ("s00", "s01"))
    x_BTC, length_B, subject_B = train.batch([3, 0], CPU)
    assert x_BTC.shape == (2, int(length_B.max()), 4)
    assert subject_B.tolist() == [1, 0]
    for place, row in enumerate((3, 0)):
        span = train.spans[row]
        expected = torch.from_numpy(train.x_TC[span.start : span.stop].astype(np.float32))
        assert torch.equal(x_BTC[place, : length_B[place]], expected)
        assert not x_BTC[place, length_B[place] :].any()


def test_a_subset_keeps_its_samples(tmp_path: Path) -> None:
    train = read_sentences(_store(tmp_path), "train", ("s00", "s01"))
    some = train.subset([4, 1])
    assert [span.item for span in some.spans] == [train.spans[4].item, train.spans[1].item]
    assert torch.equal(some.batch([0], CPU).x_BTC, train.batch([4], CPU).x_BTC)


def test_targets_are_classes_of_typed_characters() -> None:
    target_BL, lengths_B = targets(["ab z", "q"])
    assert target_BL.tolist() == [[1, 2, 27, 26], [17, 0, 0, 0]]
    assert lengths_B.tolist() == [4, 1]
    assert decode_ids(target_BL[0].tolist()) == "ab z"


def test_broken_stores_are_refused(tmp_path: Path) -> None:
    folder = _store(tmp_path)
    with pytest.raises(DataError, match=r"test: cannot be read .*prepare the data again"):
        read_sentences(folder, "test", ("s00", "s01"))
    with pytest.raises(DataError, match="cannot be read"):
        read_sentences(folder, "train", ("s00",))
    items = json.loads((folder / "train" / "items.json").read_text())
    items[2]["stop"] = 10**6
    (folder / "train" / "items.json").write_text(json.dumps(items))
    with pytest.raises(DataError, match=r"train002 names rows \d+ to 1000000 of"):
        read_sentences(folder, "train", ("s00", "s01"))
    meta = read_meta(folder)
    with pytest.raises(DataError, match="holds windows, this model needs sentences"):
        sentence_facts(meta | {"kind": "windows"})
    with pytest.raises(DataError, match="symbols are 'abc', expected"):
        sentence_facts(meta | {"symbols": ["a", "b", "c"]})


def test_without_changes_the_batch_is_the_sentences() -> None:
    sentences = _ramps([40, 25, 31])
    batch, course = _augmented(SentenceAugment(), sentences)
    for found, expected in zip(batch, sentences.batch([0, 1, 2], CPU), strict=True):
        assert torch.equal(found, expected)
    assert course.length_N.tolist() == [40, 25, 31]


def test_jitter_cuts_the_start_and_nothing_else() -> None:
    sentences = _ramps([100] * 200)
    batch, course = _augmented(SentenceAugment(jitter=30), sentences)
    cut = batch.x_BTC[:, 0, 0] - 1
    assert cut.min() == 0
    assert cut.max() == 30
    assert float(cut.mean()) == pytest.approx(15, abs=2.5)
    for place in range(200):
        length = int(batch.length_B[place])
        assert length == 100 - int(cut[place]) == course.length_N[place]
        assert float(batch.x_BTC[place, length - 1, 0]) == 100
        assert not batch.x_BTC[place, length:].any()
    short, _ = _augmented(SentenceAugment(jitter=30), _ramps([16, 20]))
    assert short.length_B.min() >= 16


def test_every_sentence_is_stretched_by_a_factor_of_its_own() -> None:
    sentences = _ramps([101] * 100)
    batch, course = _augmented(SentenceAugment(stretch=0.2), sentences)
    factors = 1 / course.pace_N
    assert 0.8 <= factors.min() < 0.83
    assert 1.17 < factors.max() <= 1.2
    for place, factor in enumerate(factors):
        length = int(batch.length_B[place])
        assert length == int(np.floor(100 * factor + 1e-9)) + 1
        times = batch.x_BTC[place, :length, 1].numpy() - 1
        np.testing.assert_allclose(times, np.arange(length) / factor, atol=1e-3)
        assert not batch.x_BTC[place, length:].any()


def test_offsets_are_constant_and_stay_inside() -> None:
    sentences = _ramps([60, 30], channels=200)
    batch, _ = _augmented(SentenceAugment(offset_sd=0.3), sentences)
    change = batch.x_BTC - sentences.batch([0, 1], CPU).x_BTC
    torch.testing.assert_close(change[0], change[0, :1].expand(60, -1), atol=1e-4, rtol=0)
    assert float(change[0, 0].std()) == pytest.approx(0.3, rel=0.2)
    assert not torch.allclose(change[0, 0], change[1, 0], atol=0.1)
    assert not batch.x_BTC[1, 30:].any()


def test_noise_is_white_and_stays_inside() -> None:
    sentences = _ramps([60, 30], channels=50)
    batch, _ = _augmented(SentenceAugment(noise_sd=0.5), sentences)
    change = batch.x_BTC - sentences.batch([0, 1], CPU).x_BTC
    assert float(change[0].std()) == pytest.approx(0.5, rel=0.05)
    assert not batch.x_BTC[1, 30:].any()


def test_masks_silence_times_and_channels_each_sentence_its_own() -> None:
    sentences = _ramps([200] * 150 + [50] * 50, channels=40)
    augment = SentenceAugment(time_mask=50, time_mask_share=0.2, channel_mask=100)
    batch, _ = _augmented(augment, sentences)
    silent = batch.x_BTC == 0
    times = [silent[i, : int(batch.length_B[i])].all(dim=1) for i in range(200)]
    channels = [silent[i, : int(batch.length_B[i])].all(dim=0) for i in range(200)]
    assert max(int(t.sum()) for t in times[:150]) in range(38, 41)
    assert max(int(t.sum()) for t in times[150:]) in range(8, 11)
    assert max(int(c.sum()) for c in channels) in range(18, 21)
    for one in (*times, *channels):
        assert int(one.to(torch.int8).diff().abs().sum()) <= 2
    assert Counter(tuple(t.tolist()) for t in times[:150]).most_common(1)[0][1] < 20


def test_equal_seeds_change_alike() -> None:
    augment = SentenceAugment.of(EncoderTrainingConfig(channel_mask=2, noise_sd=0.1), 100.0)
    assert (augment.jitter, augment.stretch, augment.time_mask) == (30, 0.2, 50)
    sentences = _ramps([80, 60])
    first, again, other = (_augmented(augment, sentences, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first.x_BTC, again.x_BTC)
    assert first.x_BTC.shape != other.x_BTC.shape or not torch.equal(first.x_BTC, other.x_BTC)


def _small() -> Config:
    sizes = {"merger_channels": 8, "mixed_channels": 8, "conv_width": 16, "width": 16}
    return Config.model_validate(sizes | {"fourier_grid": 4, "ffn_width": 16, "num_layers": 1})


def test_a_saved_encoder_says_the_same(tmp_path: Path) -> None:
    facts = make_sentence_facts(5, 2, unplaced=(3,))
    encoder = build(_small(), facts).eval()
    save_encoder(tmp_path / "encoder", encoder, _small(), facts)
    loaded, loaded_facts = load_encoder(tmp_path / "encoder")
    assert loaded_facts == facts
    assert not loaded.training
    batch = torch.randn(2, 50, 5), torch.tensor([50, 40]), torch.tensor([0, 1])
    assert torch.equal(loaded(*batch).logits_BFK, encoder(*batch).logits_BFK)
    assert (tmp_path / "encoder" / "encoder.safetensors").is_file()


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    facts = make_sentence_facts(5)
    save_encoder(tmp_path, build(_small(), facts), _small(), facts)
    description = json.loads((tmp_path / "encoder.json").read_text())
    wider = description | {"model": description["model"] | {"width": 32}}
    (tmp_path / "encoder.json").write_text(json.dumps(wider))
    with pytest.raises(DataError, match="no encoder that can be loaded"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps(description))
    (tmp_path / "encoder.safetensors").write_bytes(b"not tensors")
    with pytest.raises(DataError, match="no encoder that can be loaded"):
        load_encoder(tmp_path)
    with pytest.raises(DataError, match=r"encoder\.json"):
        load_encoder(tmp_path / "absent")
