"""What every model family keeps, whichever files the folder holds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from _window_stores import make_facts

from neurodecode.config import MODELS
from neurodecode.contracts import SentenceFacts
from neurosweep.core.config import fields_of
from neurosweep.core.plugins import find_plugins, load_plugin

FAMILIES = sorted(find_plugins(MODELS))
OF_WINDOWS = [name for name in FAMILIES if load_plugin(MODELS, name).KIND == "windows"]
OF_SENTENCES = [name for name in FAMILIES if load_plugin(MODELS, name).KIND == "sentences"]
FACTS = make_facts(channels=5, samples=31, classes=4, subjects=2)


def _build(family: str, seed: int = 0) -> torch.nn.Module:
    module = load_plugin(MODELS, family, needs=("Config", "build"))
    torch.manual_seed(seed)
    model: torch.nn.Module = module.build(module.Config(), FACTS)
    return model


def _batch(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 5, 31, generator=generator), torch.arange(size) % 2


def test_every_family_reads_windows_or_sentences() -> None:
    assert {"linear", "sync_conv"} <= set(OF_WINDOWS)
    assert "conv_conformer" in OF_SENTENCES
    assert sorted(OF_WINDOWS + OF_SENTENCES) == FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_config_names_its_family_and_explains_every_field(family: str) -> None:
    config = load_plugin(MODELS, family).Config
    fields = {field.path: field for field in fields_of(config)}
    assert fields["family"].default == family
    assert [path for path, field in fields.items() if not field.doc] == []
    assert any(field.searchable for field in fields.values())
    assert all(field.check(field.default) is None for field in fields.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_config_is_read_without_torch(family: str) -> None:
    code = f"import sys; import {MODELS}.{family} as m; m.Config(); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("family", OF_WINDOWS)
def test_logits_have_one_column_a_class(family: str) -> None:
    logits_BK = _build(family)(*_batch())
    assert logits_BK.shape == (6, 4)
    assert torch.isfinite(logits_BK).all()


@pytest.mark.parametrize("family", OF_WINDOWS)
def test_every_parameter_gets_a_gradient(family: str) -> None:
    model = _build(family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.autograd.backward((model(*_batch()) * torch.randn(6, 4)).sum())
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("family", OF_WINDOWS)
def test_a_window_is_judged_alone(family: str) -> None:
    """In evaluation the answer does not depend on what else is in the batch."""
    model = _build(family).double()
    model.train()
    x_BCT, subject_B = _batch()
    x_BCT = x_BCT.double()
    model(x_BCT, subject_B)
    model.eval()
    together = model(x_BCT, subject_B)
    alone = torch.cat([model(x_BCT[i : i + 1], subject_B[i : i + 1]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-10)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(model(x_BCT[order], subject_B[order]), together[order], atol=1e-10)


@pytest.mark.parametrize("family", OF_WINDOWS)
def test_equal_seeds_build_equal_models(family: str) -> None:
    first, second, other = (_build(family, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    if family != "linear":  # it starts at zero whatever the seed
        assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("family", OF_WINDOWS)
@pytest.mark.parametrize("samples", [8, 25, 64])
def test_windows_of_any_length_fit(family: str, samples: int) -> None:
    module = load_plugin(MODELS, family)
    facts = make_facts(channels=2, samples=samples, classes=3)
    for field in fields_of(module.Config):
        for choice in field.choices or ():
            model = module.build(module.Config.model_validate({field.path: choice}), facts)
            subject_B = torch.zeros(2, dtype=torch.int64)
            assert model(torch.randn(2, 2, samples), subject_B).shape == (2, 3)


SENTENCE_FACTS = SentenceFacts(
    num_channels=6,
    sfreq_hz=100.0,
    positions_C2=((0.1, 0.2), (0.9, 0.3), (0.5, 0.5), (0.2, 0.8), (0.7, 0.9), (-0.1, -0.1)),
    num_subjects=2,
    subjects=("s01", "s02"),
    symbols="abc ",
)
LENGTHS = torch.tensor([60, 35, 90, 22])


def _reader(family: str, without: str | None = None) -> torch.nn.Module:
    """Return a reader; options whose name holds a word can be set to 0."""
    module = load_plugin(MODELS, family, needs=("Config", "build"))
    names = [f.path for f in fields_of(module.Config) if without is not None and without in f.path]
    torch.manual_seed(0)
    model: torch.nn.Module = module.build(
        module.Config.model_validate(dict.fromkeys(names, 0.0)), SENTENCE_FACTS
    )
    return model


def _sentences(
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_BTC = torch.randn(4, 90, 6, generator=generator).to(dtype)
    return x_BTC, LENGTHS, torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("family", OF_SENTENCES)
def test_every_frame_gets_a_logit_a_class(family: str) -> None:
    model = _reader(family)
    output = model(*_sentences())
    size, frames, classes = output.logits_BFK.shape
    assert (size, classes) == (4, len(SENTENCE_FACTS.symbols) + 1)
    assert output.aux_logits_BFK.shape == output.logits_BFK.shape
    assert output.feature_BFD.shape[:2] == (size, frames)
    assert output.frames_B.tolist() == [model.num_frames(int(n)) for n in LENGTHS]
    assert max(output.frames_B.tolist()) <= frames
    assert torch.isfinite(output.logits_BFK).all()


@pytest.mark.parametrize("family", OF_SENTENCES)
def test_a_sentence_is_read_alone(family: str) -> None:
    """Neither padding nor what else is in the batch changes what is read."""
    model = _reader(family).double()
    model.train()
    model(*_sentences(torch.float64))
    model.eval()
    x_BTC, length_B, subject_B = _sentences(torch.float64)
    together = model(x_BTC, length_B, subject_B)
    for i, length in enumerate(length_B.tolist()):
        frames = int(together.frames_B[i])
        alone = model(x_BTC[i : i + 1, :length], length_B[i : i + 1], subject_B[i : i + 1])
        rubbish = torch.cat([x_BTC[i : i + 1, :length], x_BTC.new_full((1, 31, 6), 7.0)], dim=1)
        padded = model(rubbish, length_B[i : i + 1], subject_B[i : i + 1])
        for other in (alone, padded):
            for name in ("logits_BFK", "aux_logits_BFK", "feature_BFD"):
                ours, theirs = getattr(together, name)[i, :frames], getattr(other, name)[0, :frames]
                assert torch.allclose(ours, theirs, atol=1e-10), name


@pytest.mark.parametrize("family", OF_SENTENCES)
def test_padding_does_not_reach_the_statistics(family: str) -> None:
    """What is learned in a step does not depend on how far sentences were padded."""
    gradients, states = [], []
    for extra in (0, 40):
        model = _reader(family, without="dropout").double()
        model.train()
        x_BTC, length_B, subject_B = _sentences(torch.float64)
        padded = torch.cat([x_BTC, x_BTC.new_full((4, extra, 6), 9.0)], dim=1)
        output = model(padded, length_B, subject_B)
        logits = [output.logits_BFK[i, : int(n)] for i, n in enumerate(output.frames_B)]
        torch.autograd.backward(torch.cat(logits).pow(2).mean())
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        states.append(model.state_dict())
    assert all(torch.allclose(states[0][n], states[1][n], atol=1e-10) for n in states[0])
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-10), name


@pytest.mark.parametrize("family", OF_SENTENCES)
def test_every_part_of_a_reader_learns(family: str) -> None:
    model = _reader(family)
    output = model(*_sentences())
    total = (output.logits_BFK * torch.randn_like(output.logits_BFK)).sum()
    torch.autograd.backward(total + output.aux_logits_BFK.pow(2).sum())
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
