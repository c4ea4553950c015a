"""Training: optimise on train, keep the weights of the best epoch on dev.

Array names carry their axes: C channel, T sample, W window.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from neurodecode.training.augment import Augment
from neurodecode.training.config import TrainingConfig
from neurodecode.training.evaluate import DevScore, score_dev
from neurodecode.training.interrupts import UNINTERRUPTED, Interrupts, set_random_state
from neurodecode.training.steps import Steps
from neurodecode.training.windows import WindowSet

Log = Callable[..., None]


@runtime_checkable
class Initialised(Protocol):
    """A model that looks at the training windows once, before the first step."""

    def initialise(self, x_WCT: npt.NDArray[np.float32], target_W: npt.NDArray[np.int64]) -> None:
        """Set weights from windows (window, channel, time) and their classes."""
        ...


@dataclass(frozen=True)
class FitResult:
    """Tell how training went.

    Attributes
    ----------
    epochs
        Passes that were made.
    best_epoch
        The pass whose weights were kept; 0 is before the first.
    dev
        What these weights reach on dev; None without dev windows.
    """

    epochs: int
    best_epoch: int
    dev: DevScore | None


class Best:
    """Remember the weights of the best epoch."""

    def __init__(self, monitor: str, patience: int) -> None:
        self.monitor = monitor
        self.patience = patience
        self.epoch = 0
        self.score: DevScore | None = None
        self._state: dict[str, Tensor] | None = None

    def offer(self, epoch: int, score: DevScore, model: nn.Module) -> None:
        """Keep the weights when the monitored value is strictly lower than ever before."""
        if self.score is None or self._value(score) < self._value(self.score):
            self.epoch, self.score = epoch, score
            self._state = copy.deepcopy(model.state_dict())

    def exhausted(self, epoch: int) -> bool:
        """Whether no epoch was better for as long as patience lasts."""
        return self.score is not None and epoch - self.epoch >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give the model the weights that were kept, when there are any."""
        if self._state is not None:
            model.load_state_dict(self._state)

    def state(self) -> dict[str, Any]:
        """Return what is remembered."""
        score = None if self.score is None else [self.score.loss, self.score.error]
        return {"epoch": self.epoch, "score": score, "weights": self._state}

    def remember(self, state: Mapping[str, Any]) -> None:
        """Remember what a state holds."""
        score = state["score"]
        self.epoch, self.score = state["epoch"], None if score is None else DevScore(*score)
        self._state = state["weights"]

    def _value(self, score: DevScore) -> float:
        return score.loss if self.monitor == "loss" else score.error


def fit(
    model: nn.Module,
    train: WindowSet,
    dev: WindowSet,
    config: TrainingConfig,
    *,
    sfreq_hz: float,
    seed: int,
    log: Log,
    interrupts: Interrupts = UNINTERRUPTED,
) -> FitResult:
    """Train a model in place, leaving it with the weights of its best epoch.

    Parameters
    ----------
    model
        Maps windows (batch, channel, time) and subjects (batch,) to logits (batch, class). An
        `Initialised` one sees the training windows before the first step.
    train, dev
        Windows with labels; dev may be empty, then the last weights stay.
    config
        Options.
    sfreq_hz
        Sampling rate, for shifts in seconds.
    seed
        Decides order and noise.
    log
        ``log(step, epoch, **metrics)``, called after every epoch.
    interrupts
        Ends training early, with the best weights so far, or lets it go on later.

    Raises
    ------
    Diverged
        When the loss is not finite.
    """
    device = next(model.parameters()).device
    steps = Steps(model, train, config, Augment.of(config, sfreq_hz), seed)
    best = Best(config.monitor, config.patience)

    def keep() -> None:
        if interrupts.due():
            interrupts.save({"epoch": epoch, "steps": steps.state(), "best": best.state()})

    epoch = 0
    state = interrupts.load()
    if state is not None:
        steps.restore(state["steps"])
        best.remember(state["best"])
        set_random_state(state["random"])
        epoch = state["epoch"]
    elif isinstance(model, Initialised):
        model.initialise(train.x_WCT, train.targets())
        if len(dev):
            best.offer(0, score_dev(model, dev, device), model)
    first = steps.next_epoch(epoch)
    for epoch in range(first, config.epochs + 1):
        loss, stopped = steps.run_epoch(interrupts.should_stop, keep)
        metrics = {"loss": loss, "learning_rate": steps.learning_rate}
        if len(dev):
            score = score_dev(model, dev, device)
            best.offer(epoch, score, model)
            metrics |= {"dev_loss": score.loss, "dev_error": score.error}
        log(steps.done, epoch, **metrics)
        if stopped or best.exhausted(epoch):
            break
        if epoch < config.epochs:  # after the last pass the job keeps the weights themselves
            keep()
    best.restore(model)
    return FitResult(epoch, best.epoch if best.score else epoch, best.score)
