"""Pass after pass over training examples, in steps that can be interrupted between any two.

Array names carry their axes: B batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Rows = list[npt.NDArray[np.int64]]


class Passes(ABC):
    """Take optimiser steps over batches, and know where they stand.

    Parameters
    ----------
    model
        Changed in place, on its own device.
    optimizer
        Takes the steps.
    seed
        Of the random numbers that order and change examples.

    Attributes
    ----------
    done
        Steps taken.
    losses
        Loss of every step of this pass.
    left
        Rows of the batches that this pass has left; None between two passes.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.optimizer = optimizer
        self.generator = torch.Generator().manual_seed(seed)
        self.done = 0
        self.losses: list[float] = []
        self.left: Rows | None = None

    @abstractmethod
    def draw(self) -> Rows:
        """Return the batches of a new pass."""

    @abstractmethod
    def step(self, rows_B: npt.NDArray[np.int64]) -> float:
        """Take a step on a batch, and return its loss."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def run_epoch(
        self, should_stop: Callable[[], bool], after_step: Callable[[], None] = lambda: None
    ) -> tuple[float, bool]:
        """Return the mean loss of one pass, and whether it was asked to stop.

        Of a pass that was interrupted the rest is taken; the mean is that of the whole.
        """
        self.model.train()
        if self.left is None:
            self.left, self.losses = self.draw(), []
        stopped = False
        while self.left and not stopped:
            self.losses.append(self.step(self.left.pop(0)))
            after_step()
            stopped = should_stop()
        self.left = None
        return sum(self.losses) / len(self.losses), stopped

    def next_epoch(self, epoch: int) -> int:
        """Return the pass to go on with: the next one, or the one that was interrupted."""
        return epoch + 1 if self.left is None else epoch

    def state(self) -> dict[str, Any]:
        """Return all that decides the steps to come, but for random numbers outside."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "done": self.done,
            "losses": self.losses,
            "left": None if self.left is None else tensors(self.left),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the middle of a pass or between two."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.done, self.losses = state["done"], list(state["losses"])
        self.left = None if state["left"] is None else arrays(state["left"])


def tensors(rows: Sequence[npt.NDArray[Any]]) -> list[Tensor]:
    """Return arrays as a state holds them."""
    return [torch.from_numpy(np.ascontiguousarray(one)) for one in rows]


def arrays(state: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
    """Return arrays from a state."""
    return [one.numpy() for one in state]
