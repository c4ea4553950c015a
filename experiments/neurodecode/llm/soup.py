"""Averages of adapters: the "soup" of adapters that were tuned apart.

Array names carry their axes: H hidden input, O output, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from neurosweep.core.errors import ConfigError

Adapter = Mapping[str, Tensor]
_A, _B = ".lora_A.", ".lora_B."


def adapter_state(model: PeftModel) -> dict[str, Tensor]:
    """Return a copy of the matrices of a model's adapter, by name."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach().clone() for name, value in state.items()}


def use_adapter(model: PeftModel, adapter: Adapter) -> None:
    """Give a model the matrices of an adapter of the same rank.

    Raises
    ------
    ConfigError
        When they do not fit.
    """
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    _check_alike([own, adapter])
    set_peft_model_state_dict(model, dict(adapter))


def soup(adapters: Sequence[Adapter], by: Literal["matrices", "products"] = "matrices") -> Adapter:
    """Return the uniform average of adapters.

    Parameters
    ----------
    adapters
        At least one; all have the same layers and the same rank.
    by
        ``matrices`` averages A and B each for itself, as the paper does; ``products`` averages
        the changes BA of the weights, as close as one adapter of the same rank comes to them.

    Raises
    ------
    ConfigError
        When there is none, or they differ in layers or ranks.

    Notes
    -----
    Brain2Qwerty v2: the best results are those of a uniform average of adapters tuned for one
    subject each. The average of products has a rank of up to their sum; its best approximation
    of the same rank comes from its singular values.
    """
    if not adapters:
        msg = "a soup needs at least one adapter, none was given"
        raise ConfigError(msg)
    _check_alike(adapters)
    if by == "matrices":
        return {name: torch.stack([a[name] for a in adapters]).mean(0) for name in adapters[0]}
    averaged: dict[str, Tensor] = {}
    for name_a in (name for name in adapters[0] if _A in name):
        name_b = name_a.replace(_A, _B)
        change_OH = torch.stack([a[name_b] @ a[name_a] for a in adapters]).mean(0)
        rank = len(adapters[0][name_a])
        averaged[name_a], averaged[name_b] = _factors(change_OH, rank)
    return {name: averaged[name] for name in adapters[0]}


def _factors(change_OH: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the matrices (rank, hidden) and (output, rank) whose product is closest."""
    left_OR, size_R, right_RH = torch.linalg.svd(change_OH.float(), full_matrices=False)
    root_R = size_R[:rank].sqrt()
    a_RH = torch.zeros(rank, change_OH.shape[1])
    b_OR = torch.zeros(change_OH.shape[0], rank)
    a_RH[: len(root_R)] = root_R[:, None] * right_RH[:rank]
    b_OR[:, : len(root_R)] = left_OR[:, :rank] * root_R
    return a_RH.to(change_OH), b_OR.to(change_OH)


def _check_alike(adapters: Sequence[Adapter]) -> None:
    shapes = [{name: tuple(value.shape) for name, value in a.items()} for a in adapters]
    for number, other in enumerate(shapes):
        differing = [n for n in {**shapes[0], **other} if shapes[0].get(n) != other.get(n)]
        if differing:
            name = differing[0]
            msg = f"adapter {number} has {name} of shape {other.get(name)}, adapter 0 of shape"
            msg += f" {shapes[0].get(name)}; a soup is made of adapters of the same layers and rank"
            raise ConfigError(msg)
