"""Adapters: what is trained, what is kept, and that anyone can load them."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _limits import files_of_at_most
from _tiny_lm import tiny_backend, write_tiny_lm
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from neurodecode.llm.backend import Backend
from neurodecode.llm.config import LlmConfig
from neurodecode.llm.last_layer import last_positions
from neurodecode.llm.lora import attach, folded, load_adapter, merged, quiet_peft, save_adapter
from neurodecode.llm.prompt import IGNORED, Prompter, Reading
from neurodecode.llm.soup import adapter_state
from neurodecode.llm.sources import StoredSource
from neurodecode.llm.train import batch_loss, dev_loss, train_lora
from neurodecode.training.interrupts import Interrupts
from neurosweep.core.errors import ConfigError
from neurosweep.exec.job_api import Diverged

FAST: dict[str, Any] = {"lora_rank": 4, "batch_size": 8, "epochs": 12, "learning_rate": 3e-2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("lm") / "tiny")


def _readings(num: int, seed: int, words: tuple[str, ...] = ("aa", "bb")) -> list[Reading]:
    """The word vector tells the target, the text does not."""
    rng = np.random.default_rng(seed)
    readings = []
    for n in range(num):
        which = int(rng.integers(len(words)))
        vector = np.zeros((1, 16), np.float32)
        vector[0, which] = 4.0
        readings.append(Reading(f"i{n}", "c" * int(rng.integers(1, 6)), vector, words[which]))
    return readings


class Curves:
    def __init__(self) -> None:
        self.lines: list[tuple[int, int, dict[str, float]]] = []

    def log(self, step: int, epoch: int, **metrics: float) -> None:
        self.lines.append((step, epoch, metrics))


def _train(
    backend: Backend,
    *,
    seed: int = 0,
    dev: int = 12,
    should_stop: Callable[[], bool] = lambda: False,
    curves: Curves | None = None,
    **options: Any,
) -> PeftModel:
    return train_lora(
        backend,
        StoredSource(_readings(32, 1)),
        _readings(dev, 2),
        LlmConfig(**(FAST | options)),
        seed=seed,
        log=(curves or Curves()).log,
        interrupts=Interrupts(should_stop),
    )


def test_a_new_adapter_changes_nothing_and_alone_is_trained(folder: Path) -> None:
    backend = tiny_backend(folder)
    batch = Prompter(backend).examples(_readings(3, 0))
    before = backend.model(inputs_embeds=batch.input_BLH).logits
    model = attach(backend, LlmConfig(lora_rank=2), seed=0)
    assert torch.equal(model(inputs_embeds=batch.input_BLH).logits, before)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (
            "all-linear",
            {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"},
        ),
    ],
)
def test_layers_rank_and_scale_are_those_asked_for(
    folder: Path, targets: Any, layers: set[str]
) -> None:
    config = LlmConfig(lora_rank=4, lora_alpha=1.5, lora_targets=targets)
    model = attach(tiny_backend(folder), config, seed=0)
    adapted = {n.split(".")[-1]: m for n, m in model.named_modules() if hasattr(m, "lora_A")}
    assert set(adapted) == layers
    assert {m.lora_A["default"].weight.shape[0] for m in adapted.values()} == {4}
    assert {m.scaling["default"] for m in adapted.values()} == {1.5}


def test_a_model_without_attention_layers_is_said(folder: Path) -> None:
    backend = tiny_backend(folder)
    for layer in backend.model.model.layers:
        del layer.self_attn
    with pytest.raises(ConfigError, match=r"llm\.lora_targets: is 'attention'.*'all-linear'"):
        attach(backend, LlmConfig(lora_targets="attention"), seed=0)


def test_the_loss_is_that_of_every_target_token(folder: Path) -> None:
    backend = tiny_backend(folder)
    prompter = Prompter(backend)
    readings = _readings(5, 3, words=("aa", "a", "some words"))
    together = batch_loss(backend.model, prompter.examples(readings), 0.1, "sum")
    alone = 0.0
    for reading in readings:
        batch = prompter.examples([reading])
        logits_LV = backend.model(inputs_embeds=batch.input_BLH).logits[0]
        log_p_LV = logits_LV.log_softmax(-1)
        for place, label in enumerate(batch.label_BL[0].tolist()):
            if label != IGNORED:
                hit = float(log_p_LV[place - 1, label])
                alone -= 0.9 * hit + 0.1 * float(log_p_LV[place - 1].mean())
    assert float(together) == pytest.approx(alone, rel=1e-5)
    tokens = sum(len(r.target or "") + 1 for r in readings)
    mean = batch_loss(backend.model, prompter.examples(readings), 0.1)
    assert float(mean) == pytest.approx(alone / tokens, rel=1e-5)
    plain = dev_loss(backend.model, prompter, readings, batch_size=2)
    expected = batch_loss(backend.model, prompter.examples(readings), 0.0)
    assert plain == pytest.approx(float(expected), rel=1e-5)


def test_the_gradient_of_the_loss_is_right(folder: Path) -> None:
    """As the loss without any shortcut has it."""
    backend = tiny_backend(folder)
    model = attach(backend, LlmConfig(lora_rank=2), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    batch = Prompter(backend).examples(_readings(4, 5, words=("aa", "abcdef")))
    trained = [p for p in model.parameters() if p.requires_grad]
    mine = torch.autograd.grad(batch_loss(model, batch, 0.02), trained)
    full = model(inputs_embeds=batch.input_BLH, attention_mask=batch.mask_BL.long()).logits
    loss = cross_entropy(
        full[:, :-1].flatten(0, 1),
        batch.label_BL[:, 1:].flatten(),
        ignore_index=IGNORED,
        label_smoothing=0.02,
    )
    for left, right in zip(mine, torch.autograd.grad(loss, trained), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("keep", [1, 4, 12, 50])
def test_positions_that_are_not_read_are_not_needed(folder: Path, keep: int) -> None:
    backend = tiny_backend(folder)
    model = attach(backend, LlmConfig(lora_rank=2), seed=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(0, 0.1)
    input_BLH = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0))
    whole = model(inputs_embeds=input_BLH, logits_to_keep=min(keep, 12)).logits
    gradients = torch.autograd.grad(whole.square().sum(), trained)
    mlp = model.get_base_model().model.layers[-1].mlp
    with last_positions(model, keep):
        assert "forward" in vars(mlp)
        some = model(inputs_embeds=input_BLH, logits_to_keep=min(keep, 12)).logits
    assert "forward" not in vars(mlp)
    assert torch.allclose(some, whole, atol=1e-5)
    for left, right in zip(
        torch.autograd.grad(some.square().sum(), trained), gradients, strict=True
    ):
        assert torch.allclose(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 16])
def test_folding_changes_neither_values_nor_gradients(folder: Path, rank: int) -> None:
    backend = tiny_backend(folder)
    model = attach(backend, LlmConfig(lora_rank=rank, lora_alpha=1.5), seed=0).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(0, 0.1)
    batch = Prompter(backend).examples(_readings(4, 5))
    plain = batch_loss(model, batch, 0.02)
    gradients = torch.autograd.grad(plain, trained)
    changed: list[Any] = []
    with folded(model):
        loss = batch_loss(model, batch, 0.02)
        changed += [module for module in model.modules() if "forward" in vars(module)]
        for left, right in zip(gradients, torch.autograd.grad(loss, trained), strict=True):
            assert torch.allclose(left, right, atol=1e-5)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), abs=1e-5)
    assert len(changed) == 14
    assert not any("forward" in vars(module) for module in model.modules())


def test_adapters_with_dropout_and_thin_ones_are_not_folded(folder: Path, tmp_path: Path) -> None:
    wide = write_tiny_lm(tmp_path, hidden=192, layers=1)
    for path, options in ((folder, {"lora_rank": 16, "lora_dropout": 0.1}), (wide, {})):
        model = attach(tiny_backend(path), LlmConfig(**({"lora_rank": 1} | options)), seed=0)
        with folded(model):
            assert not any("forward" in vars(module) for module in model.modules())


def test_training_reads_the_word_vectors(folder: Path) -> None:
    backend = tiny_backend(folder)
    curves = Curves()
    model = _train(backend, curves=curves, patience=100)
    assert not model.training
    assert curves.lines[-1][2]["dev_loss"] < 0.1 < curves.lines[0][2]["dev_loss"]
    assert {"loss", "dev_loss", "learning_rate"} == set(curves.lines[0][2])
    steps = [step for step, _, _ in curves.lines]
    assert steps == sorted(steps)
    assert steps[-1] == 12 * 4


def test_without_them_chance_is_what_is_left(folder: Path) -> None:
    backend = tiny_backend(folder)
    curves = Curves()
    bare = StoredSource([reading.without_words() for reading in _readings(32, 1)])
    dev = [reading.without_words() for reading in _readings(12, 2)]
    train_lora(backend, bare, dev, LlmConfig(**FAST), seed=0, log=curves.log)
    # One of two words is a choice of ln 2, spread over the word's two letters and its end.
    best = min(metrics["dev_loss"] for _, _, metrics in curves.lines)
    assert best > 0.8 * math.log(2) / 3


def test_seeds_decide_everything(folder: Path) -> None:
    first, same, other = (
        adapter_state(_train(tiny_backend(folder), seed=seed, epochs=2, lora_dropout=0.1))
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_base_model_stays_as_it_was(folder: Path) -> None:
    backend = tiny_backend(folder)
    before = {name: p.clone() for name, p in backend.model.named_parameters()}
    model = _train(backend, epochs=2)
    with merged(model):
        pass
    after = {
        name.replace(".base_layer", ""): p
        for name, p in model.get_base_model().named_parameters()
        if "lora_" not in name
    }
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_best_adapter_on_dev_is_kept(folder: Path) -> None:
    backend = tiny_backend(folder)
    curves = Curves()
    model = _train(backend, curves=curves, learning_rate=3e-2, epochs=10, patience=100)
    losses = [metrics["dev_loss"] for _, _, metrics in curves.lines]
    kept = dev_loss(model, Prompter(backend), _readings(12, 2))
    assert kept == pytest.approx(min(losses), rel=1e-4)


def test_patience_ends_training(folder: Path) -> None:
    """What is learnt makes an impossible dev sentence ever less likely."""
    impossible = [Reading("d", "c", np.zeros((1, 16), np.float32), "zz")]
    curves = Curves()
    train_lora(
        tiny_backend(folder),
        StoredSource(_readings(32, 1)),
        impossible,
        LlmConfig(**(FAST | {"epochs": 50, "patience": 2})),
        seed=0,
        log=curves.log,
    )
    losses = [metrics["dev_loss"] for _, _, metrics in curves.lines]
    assert len(losses) < 200
    assert losses.index(min(losses)) == len(losses) - 3


def test_without_dev_the_last_adapter_stays(folder: Path) -> None:
    curves = Curves()
    model = _train(tiny_backend(folder), dev=0, curves=curves, epochs=3)
    assert set(curves.lines[-1][2]) == {"loss", "learning_rate"}
    assert any(value.any() for name, value in adapter_state(model).items() if "lora_B" in name)


def test_it_stops_when_it_is_asked(folder: Path) -> None:
    answers = iter([False, False, True])
    curves = Curves()
    _train(tiny_backend(folder), should_stop=lambda: next(answers), curves=curves)
    assert curves.lines[-1][0] == 3


def test_a_loss_that_is_no_number_is_reported(folder: Path) -> None:
    backend = tiny_backend(folder)
    readings = _readings(8, 1)
    readings[3].words_WH[:] = np.nan
    with pytest.raises(Diverged, match=r"the loss is nan at step 0; lower llm\.learning_rate"):
        train_lora(backend, StoredSource(readings), [], LlmConfig(**FAST), seed=0, log=Curves().log)


def test_an_adapter_on_a_full_disk_is_an_error_of_the_system(folder: Path, tmp_path: Path) -> None:
    model = attach(tiny_backend(folder), LlmConfig(lora_rank=64), seed=0)
    with files_of_at_most(20_000), pytest.raises(OSError, match="File too large") as caught:
        save_adapter(model, tmp_path / "adapter")
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "adapter")


def test_anyone_can_load_the_adapter(folder: Path, tmp_path: Path) -> None:
    backend = tiny_backend(folder)
    model = _train(backend, epochs=2)
    batch = Prompter(backend).examples(_readings(4, 9))
    expected = model(inputs_embeds=batch.input_BLH).logits
    save_adapter(model, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()

    base = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    with quiet_peft():
        plain = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    assert torch.equal(plain(inputs_embeds=batch.input_BLH).logits, expected)

    ours = load_adapter(tiny_backend(folder), tmp_path / "adapter")
    assert torch.equal(ours(inputs_embeds=batch.input_BLH).logits, expected)
    with merged(ours) as quick:
        found = quick(inputs_embeds=batch.input_BLH).logits
        assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(ours(inputs_embeds=batch.input_BLH).logits, expected)


def test_what_is_no_adapter_of_this_model_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: holds no adapter for backend 'folder'"):
        load_adapter(tiny_backend(folder), tmp_path / "nowhere")
    save_adapter(_train(tiny_backend(folder), epochs=1), tmp_path / "adapter")
    broken = shutil.copytree(tmp_path / "adapter", tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ConfigError, match=r"broken: holds no adapter for backend 'folder'"):
        load_adapter(tiny_backend(folder), broken)
    wider = tiny_backend(write_tiny_lm(tmp_path / "wider", hidden=24))
    with pytest.raises(ConfigError, match=r"adapter: holds no adapter for backend 'folder'"):
        load_adapter(wider, tmp_path / "adapter")
