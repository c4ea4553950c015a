"""Spare a language model the work whose result nobody reads.

Array names carry their axes: B sentence, H hidden, L token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from peft import PeftModel
from torch import Tensor
from torch.nn.functional import pad


@contextlib.contextmanager
def last_positions(model: Any, keep: int) -> Iterator[None]:
    """Compute the last layer's feed-forward part at the last positions only.

    Logits of these positions and their gradients stay what they are: nothing follows that layer
    that would mix positions. In a prompt most positions are needed for keys and values alone.

    Parameters
    ----------
    model
        Causal language model, with or without an adapter; one whose layers are built otherwise
        than those of Llama computes everything.
    keep
        How many positions, counted from the end, have logits that are wanted.
    """
    mlp = _last_mlp(model)
    if mlp is None:
        yield
        return
    whole = mlp.forward

    def at_the_end(x_BLH: Tensor) -> Tensor:
        skipped = max(0, x_BLH.shape[1] - keep)
        y_BLH: Tensor = whole(x_BLH[:, skipped:])
        return pad(y_BLH, (0, 0, skipped, 0))

    mlp.forward = at_the_end
    try:
        yield
    finally:
        del mlp.forward


def _last_mlp(model: Any) -> Any:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    layers = getattr(getattr(base, "model", None), "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    return mlp if type(mlp).__name__.endswith("MLP") else None
