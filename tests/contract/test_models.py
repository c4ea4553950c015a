"""What every model family keeps, whichever files the folder holds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from _window_stores import make_facts

from neurodecode.config import MODELS
from neurosweep.core.config import fields_of
from neurosweep.core.plugins import find_plugins, load_plugin

FAMILIES = sorted(find_plugins(MODELS))
FACTS = make_facts(channels=5, samples=31, classes=4, subjects=2)


def _build(family: str, seed: int = 0) -> torch.nn.Module:
    module = load_plugin(MODELS, family, needs=("Config", "build"))
    torch.manual_seed(seed)
    model: torch.nn.Module = module.build(module.Config(), FACTS)
    return model


def _batch(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 5, 31, generator=generator), torch.arange(size) % 2


def test_both_families_are_found() -> None:
    assert {"linear", "sync_conv"} <= set(FAMILIES)


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


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_have_one_column_a_class(family: str) -> None:
    logits_BK = _build(family)(*_batch())
    assert logits_BK.shape == (6, 4)
    assert torch.isfinite(logits_BK).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient(family: str) -> None:
    model = _build(family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.autograd.backward((model(*_batch()) * torch.randn(6, 4)).sum())
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_is_judged_alone(family: str) -> None:
    """In evaluation the answer does not depend on what else is in the batch."""
    model = _build(family)
    model.train()
    model(*_batch())
    model.eval()
    x_BCT, subject_B = _batch()
    together = model(x_BCT, subject_B)
    alone = torch.cat([model(x_BCT[i : i + 1], subject_B[i : i + 1]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-5)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(model(x_BCT[order], subject_B[order]), together[order], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_build_equal_models(family: str) -> None:
    first, second, other = (_build(family, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    if family != "linear":  # it starts at zero whatever the seed
        assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("samples", [8, 25, 64])
def test_windows_of_any_length_fit(family: str, samples: int) -> None:
    module = load_plugin(MODELS, family)
    facts = make_facts(channels=2, samples=samples, classes=3)
    for field in fields_of(module.Config):
        for choice in field.choices or ():
            model = module.build(module.Config.model_validate({field.path: choice}), facts)
            subject_B = torch.zeros(2, dtype=torch.int64)
            assert model(torch.randn(2, 2, samples), subject_B).shape == (2, 3)
