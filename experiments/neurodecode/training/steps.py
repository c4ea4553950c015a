"""Optimiser steps over shuffled training windows.

Array names carry their axes: B batch, C channel, K class, T sample, W window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodecode.losses.cross_entropy import class_weights, smoothed_cross_entropy
from neurodecode.training.augment import Augment
from neurodecode.training.config import TrainingConfig
from neurodecode.training.passes import Passes, Rows
from neurodecode.training.schedule import warmup_cosine
from neurodecode.training.windows import WindowSet
from neurosweep.exec.job_api import Diverged


class Steps(Passes):
    """Take optimiser steps: AdamW, warm-up and cosine, clipped gradients.

    Parameters
    ----------
    model
        Changed in place, on its own device.
    train
        Windows with labels.
    config
        Options.
    augment
        Changes every batch.
    seed
        Decides order and augmentation.
    """

    def __init__(
        self,
        model: nn.Module,
        train: WindowSet,
        config: TrainingConfig,
        augment: Augment,
        seed: int,
    ) -> None:
        groups = parameter_groups(model, config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        super().__init__(model, optimizer, seed)
        self.train = train
        self.config = config
        self.augment = augment
        target_W = torch.from_numpy(train.targets())
        logits = int(target_W.max()) + 1
        weight_K = class_weights(target_W, logits) if config.class_balance else torch.ones(logits)
        self.target_W = target_W.to(self.device)
        self.weight_K = weight_K.to(self.device)
        self.per_epoch = math.ceil(len(train) / config.batch_size)

    def draw(self) -> Rows:
        """Return all windows in random order, in batches of nearly equal size."""
        order_W = torch.randperm(len(self.train), generator=self.generator).numpy()
        # Parts of nearly equal size: a last batch of one window breaks batch normalisation.
        return np.array_split(order_W, self.per_epoch)

    def step(self, rows_B: npt.NDArray[np.int64]) -> float:
        """Take a step on a batch, and return its loss."""
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
        weights = self.model.parameters()
        value = descend(loss, self.optimizer, weights, self.config.clip_norm, self.done)
        self.done += 1
        return value


def descend(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    weights: Iterable[nn.Parameter],
    clip_norm: float,
    step: int,
    rate: str = "training.learning_rate",
) -> float:
    """Take one step down a loss, gradients clipped, and return its value.

    Parameters
    ----------
    loss
        What to lower.
    optimizer, weights
        What takes the step, and what it changes.
    clip_norm
        Largest norm of the gradient of all weights.
    step, rate
        Steps done before, and the field to lower when they were too long; named in errors.

    Raises
    ------
    Diverged
        When the loss is not finite; nothing is changed then.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        msg = f"the loss is {value} at step {step}; lower {rate}"
        raise Diverged(msg)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(weights, clip_norm)
    optimizer.step()
    return value


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return optimiser groups: matrices and kernels decay, offsets and scales do not."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
