"""Training: optimise on train, keep the weights of the best epoch on dev.

Array names carry their axes: B batch, C channel, K class, T sample, W window.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodecode.losses.cross_entropy import class_weights, smoothed_cross_entropy
from neurodecode.training.augment import Augment
from neurodecode.training.config import TrainingConfig
from neurodecode.training.schedule import warmup_cosine
from neurodecode.training.windows import WindowSet
from neurosweep.exec.job_api import Diverged

_EVAL_BATCH = 512
Log = Callable[..., None]


@dataclass(frozen=True)
class DevScore:
    """Hold what a model reaches on dev: mean cross entropy and balanced error."""

    loss: float
    error: float


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

    def _value(self, score: DevScore) -> float:
        return score.loss if self.monitor == "loss" else score.error


def pick_device(name: str) -> torch.device:
    """Return the device to train on; ``auto`` takes CUDA when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def predict_log_proba(
    model: nn.Module, windows: WindowSet, device: torch.device
) -> npt.NDArray[np.float32]:
    """Return the log-probability of every class, (window, class)."""
    model.eval()
    parts: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(windows), _EVAL_BATCH):
            rows_B = np.arange(start, min(start + _EVAL_BATCH, len(windows)))
            logits_BK = model(*windows.batch(rows_B, device))
            parts.append(torch.log_softmax(logits_BK.float(), dim=-1).cpu())
    log_p_WK: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return log_p_WK


def score_dev(model: nn.Module, dev: WindowSet, device: torch.device) -> DevScore:
    """Return cross entropy and error on dev, both as the mean over the classes present."""
    log_p_WK = predict_log_proba(model, dev, device)
    target_W = dev.targets()
    loss_W = -log_p_WK[np.arange(len(target_W)), target_W]
    wrong_W = log_p_WK.argmax(axis=1) != target_W
    present = np.unique(target_W)
    return DevScore(
        loss=float(np.mean([loss_W[target_W == label].mean() for label in present])),
        error=float(np.mean([wrong_W[target_W == label].mean() for label in present])),
    )


def fit(
    model: nn.Module,
    train: WindowSet,
    dev: WindowSet,
    config: TrainingConfig,
    *,
    sfreq_hz: float,
    seed: int,
    log: Log,
    should_stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train a model in place, leaving it with the weights of its best epoch.

    Parameters
    ----------
    model
        Maps windows (batch, channel, time) and subjects (batch,) to logits (batch, class). One
        with a method ``initialise(x_WCT, target_W)`` sees the training windows once before the
        first step.
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
    should_stop
        Asked after every step; True ends training with the best weights so far.

    Raises
    ------
    Diverged
        When the loss is not finite.
    """
    device = next(model.parameters()).device
    steps = _Steps(model, train, config, Augment.of(config, sfreq_hz), seed)
    best = Best(config.monitor, config.patience)
    if hasattr(model, "initialise"):
        model.initialise(train.x_WCT, train.targets())
        if len(dev):
            best.offer(0, score_dev(model, dev, device), model)
    epoch = 0
    for epoch in range(1, config.epochs + 1):
        loss, stopped = steps.run_epoch(should_stop)
        metrics = {"loss": loss, "learning_rate": steps.learning_rate}
        if len(dev):
            score = score_dev(model, dev, device)
            best.offer(epoch, score, model)
            metrics |= {"dev_loss": score.loss, "dev_error": score.error}
        log(steps.done, epoch, **metrics)
        if stopped or best.exhausted(epoch):
            break
    best.restore(model)
    return FitResult(epoch, best.epoch if best.score else epoch, best.score)


class _Steps:
    """Take optimiser steps: AdamW, warm-up and cosine, clipped gradients."""

    def __init__(
        self,
        model: nn.Module,
        train: WindowSet,
        config: TrainingConfig,
        augment: Augment,
        seed: int,
    ) -> None:
        self.model = model
        self.train = train
        self.config = config
        self.augment = augment
        self.device = next(model.parameters()).device
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, config.weight_decay), lr=config.learning_rate
        )
        target_W = torch.from_numpy(train.targets())
        logits = int(target_W.max()) + 1
        weight_K = class_weights(target_W, logits) if config.class_balance else torch.ones(logits)
        self.target_W = target_W.to(self.device)
        self.weight_K = weight_K.to(self.device)
        self.per_epoch = math.ceil(len(train) / config.batch_size)
        self.done = 0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def run_epoch(self, should_stop: Callable[[], bool]) -> tuple[float, bool]:
        """Return the mean loss of one pass, and whether it was asked to stop."""
        self.model.train()
        total = 0.0
        count = 0
        for rows_B in self._batches():
            total += self._step(rows_B)
            count += 1
            if should_stop():
                return total / count, True
        return total / count, False

    def _batches(self) -> Iterator[npt.NDArray[np.int64]]:
        order_W = torch.randperm(len(self.train), generator=self.generator).numpy()
        # Parts of nearly equal size: a last batch of one window breaks batch normalisation.
        yield from np.array_split(order_W, self.per_epoch)

    def _step(self, rows_B: npt.NDArray[np.int64]) -> float:
        total_steps = self.config.epochs * self.per_epoch
        factor = warmup_cosine(self.done, total_steps, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        x_BCT, subject_B = self.train.batch(rows_B, self.device)
        logits_BK = self.model(self.augment(x_BCT, self.generator), subject_B)
        loss = smoothed_cross_entropy(
            logits_BK,
            self.target_W[torch.from_numpy(rows_B)],
            self.weight_K,
            self.config.label_smoothing,
        )
        value = float(loss.detach())
        if not math.isfinite(value):
            msg = f"the loss is {value} at step {self.done}; lower training.learning_rate"
            raise Diverged(msg)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.done += 1
        return value


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return optimiser groups: matrices and kernels decay, offsets and scales do not."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
