"""An encoder of sentences trained on a CUDA device says there what it says on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from _sentence_stores import make_sentence_facts, write_sentence_store
from _window_stores import Recorder

from neurodecode.models.conv_conformer import Config, build
from neurodecode.training.encoder_fit import encode, fit_encoder
from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurodecode.training.sentences import read_sentences

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_an_encoder_trains_on_the_device(tmp_path: Path) -> None:
    facts = make_sentence_facts(16, 2)
    write_sentence_store(tmp_path, facts, {"train": 64, "dev": 8})
    train, dev = (read_sentences(tmp_path, part, facts.subjects) for part in ("train", "dev"))
    torch.manual_seed(0)
    model = build(Config(width=32, conv_width=32, fourier_grid=4), facts).cuda()
    recorder = Recorder()
    config = EncoderTrainingConfig(batch_size=8, epochs=6, noise_sd=0.1, channel_mask=2)
    fit_encoder(model, train, dev, config, seed=0, log=recorder.log)
    assert recorder.lines[-1][2]["loss"] < 0.7 * recorder.lines[0][2]["loss"]
    on_device = encode(model, dev, torch.device("cuda"))
    on_cpu = encode(model.cpu(), dev, torch.device("cpu"))
    for one, other in zip(on_device, on_cpu, strict=True):
        np.testing.assert_allclose(one.log_p_FK, other.log_p_FK, atol=1e-2)
