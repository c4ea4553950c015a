"""Low-rank adapters of a frozen language model."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import linear

from neurodecode.llm.backend import Backend
from neurodecode.llm.config import LlmConfig
from neurosweep.core.errors import ConfigError


def attach(backend: Backend, config: LlmConfig, seed: int) -> PeftModel:
    """Return the language model with a new adapter, which changes nothing yet.

    Parameters
    ----------
    backend
        Its layers are wrapped in place; its weights stay frozen.
    config
        Rank, scale, which layers, dropout.
    seed
        Decides the adapter's first matrices.

    Raises
    ------
    ConfigError
        When the model has none of the layers that ``llm.lora_targets`` asks for.
    """
    alpha: Any = config.lora_alpha * config.lora_rank
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
        lora_dropout=config.lora_dropout,
        target_modules=_targets(backend, config.lora_targets),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    with quiet_peft():
        return get_peft_model(backend.model, lora)


def _targets(backend: Backend, which: str) -> str | list[str]:
    if which == "all-linear":
        return which
    names = {
        path.rpartition(".")[2]
        for path, module in backend.model.named_modules()
        if isinstance(module, nn.Linear) and "attn" in path.lower().replace("attention", "attn")
    }
    if not names:
        msg = f"llm.lora_targets: is 'attention', but no linear layer of backend '{backend.name}'"
        raise ConfigError(f"{msg} is named so; use 'all-linear'")
    return sorted(names)


def adapter_weights(model: PeftModel) -> dict[str, Tensor]:
    """Return the adapter's own weights by name; they are not copied."""
    # "auto" would ask the network whether the base model's vocabulary was changed.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach() for name, value in state.items()}


def save_adapter(model: PeftModel, folder: Path) -> Path:
    """Write the adapter as ``PeftModel.from_pretrained`` reads it, and return the folder.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written.
    """
    try:
        # "auto" would ask the network whether the base model's vocabulary was changed.
        model.save_pretrained(str(folder), save_embedding_layers=False)
    except SafetensorError as error:
        # Its text is all that tells the system's error.
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(folder)) from error
    return folder


def load_adapter(backend: Backend, folder: Path) -> PeftModel:
    """Return the language model with a saved adapter, in evaluation mode.

    Raises
    ------
    ConfigError
        When the folder holds no adapter that fits the model.
    """
    try:
        # Without this file peft would ask the network for a repository of that name.
        if not (folder / "adapter_config.json").is_file():
            raise ValueError("no adapter_config.json")
        with quiet_peft():
            model = PeftModel.from_pretrained(backend.model, str(folder))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        msg = f"{folder}: holds no adapter for backend '{backend.name}' ({lines[0]})"
        raise ConfigError(f"{msg}; give the folder 'adapter' that a job saved") from error
    return model.eval()


@contextlib.contextmanager
def merged(model: PeftModel) -> Iterator[Any]:
    """Give the base model with the adapter added to its weights: faster where nothing is trained.

    Afterwards the adapter is apart again; the base weights come back exactly.
    """
    before = {
        name: module.get_base_layer().weight.detach().clone()
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and hasattr(module, "get_base_layer")
    }
    training = model.training
    model.eval()
    model.merge_adapter()
    try:
        yield model.get_base_model()
    finally:
        model.unmerge_adapter()
        modules = dict(model.named_modules())
        with torch.no_grad():
            for name, weight in before.items():
                modules[name].get_base_layer().weight.copy_(weight)
        model.train(training)


@contextlib.contextmanager
def folded(model: PeftModel) -> Iterator[None]:
    """Compute wide adapters together with the layer they change, for as long as this lasts.

    ``W x + s B (A x)`` is ``(W + s B A) x``: the same values and gradients up to rounding, and
    for a high rank less work. Narrow adapters, and those with dropout, stay as peft has them.
    """
    changed = [module for module in model.modules() if _is_wide(module)]
    for module in changed:
        module.forward = functools.partial(_forward_folded, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _is_wide(module: Any) -> bool:
    """Return whether folding pays, by measurements on one core."""
    if not isinstance(module, LoraLinear) or len(module.lora_A) != 1:
        return False
    (name,) = module.lora_A
    base: Any = module.get_base_layer()
    if not isinstance(base, nn.Linear) or not isinstance(module.lora_dropout[name], nn.Identity):
        return False
    rank, inputs, outputs = int(module.r[name]), base.in_features, base.out_features
    # Thin matrices run at a third of the speed of square ones, and every layer adds twice.
    return 10 * rank * (inputs + outputs) + 150 * outputs > inputs * outputs


def _forward_folded(module: Any, x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    (name,) = module.lora_A
    base = module.get_base_layer()
    change = module.lora_B[name].weight @ module.lora_A[name].weight
    return linear(x, base.weight + module.scaling[name] * change, base.bias)


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence one warning of transformers about how peft asks for gradient checkpointing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        yield
