"""What jobs that train fold after fold share: arithmetic, seeds, and numbering."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch

from neurodecode.training.evaluate import without_denormals
from neurodecode.training.interrupts import Interrupts, State
from neurosweep.exec.job_api import JobContext


@contextlib.contextmanager
def job_arithmetic(threads: int) -> Iterator[None]:
    """Compute with so many threads, reproducibly, tiny numbers taken as 0."""
    torch.set_num_threads(max(1, threads))
    torch.backends.cudnn.deterministic = True
    with without_denormals():
        yield


def fold_seed(seed: int, number: int) -> int:
    """Return the seed of a fold, so that the luck of a draw averages out over folds."""
    words = np.random.SeedSequence([seed, number]).generate_state(1)
    return int(words[0])


def fold_name(name: str, number: int) -> str:
    """Return what a fold's checkpoint is called: the first one's has no number."""
    return name if number == 0 else f"{name}{number:02d}"


class Numbering:
    """Number the steps and epochs of all folds through, across interruptions."""

    def __init__(self, ctx: JobContext) -> None:
        self.ctx = ctx
        self.steps = 0
        self.epochs = 0

    def log_of(self, number: int) -> Callable[..., None]:
        """Return ``log(step, epoch, **metrics)`` for a fold, which comes after those before."""
        first_step, first_epoch = self.steps, self.epochs

        def log(step: int, epoch: int, **metrics: float) -> None:
            self.steps, self.epochs = first_step + step, first_epoch + epoch
            self.ctx.log(self.steps, self.epochs, fold=number, **metrics)

        return log

    def interrupts_of(self, number: int) -> Interrupts:
        """Return how the training of a fold is interrupted."""
        return Interrupts(self.ctx.should_stop, self.ctx.saves, f"fold{number:02d}")

    def trained(self, number: int) -> State | None:
        """Return the weights of a fold that an earlier start of the job trained to its end."""
        state = self.interrupts_of(number).load()
        if state is None or "trained" not in state:
            return None
        self.steps, self.epochs = state["steps"], state["epochs"]
        weights: State = state["trained"]
        return weights

    def keep(self, number: int, weights: State) -> None:
        """Save the weights of a trained fold: it is not trained again."""
        state = {"trained": weights, "steps": self.steps, "epochs": self.epochs}
        self.interrupts_of(number).save(state)
