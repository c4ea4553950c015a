"""Training on a CUDA device gives what the CPU gives."""

from __future__ import annotations

import pytest
import torch
from _window_stores import Recorder, make_facts, make_windows

from neurodecode.models.sync_conv import Config, build
from neurodecode.training.config import TrainingConfig
from neurodecode.training.evaluate import pick_device, score_dev
from neurodecode.training.loop import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("pooling", ["attention", "flatten"])
def test_a_network_learns_on_the_device(pooling: str) -> None:
    facts = make_facts(classes=3, subjects=2)
    train, dev, fresh = (make_windows(n, facts, seed=s) for s, n in enumerate((480, 80, 200)))
    device = pick_device("auto")
    assert device.type == "cuda"
    torch.manual_seed(0)
    config = Config.model_validate({"width": 16, "num_blocks": 1, "stride": 1, "pooling": pooling})
    model = build(config, facts).to(device)
    training = TrainingConfig(learning_rate=1e-2, batch_size=32, epochs=15, noise_sd=0.1)
    fit(model, train, dev, training, sfreq_hz=100.0, seed=0, log=Recorder().log)
    on_device = score_dev(model, fresh, device)
    assert on_device.error < 0.1
    on_cpu = score_dev(model.to("cpu"), fresh, torch.device("cpu"))
    assert on_cpu.loss == pytest.approx(on_device.loss, abs=1e-3)
