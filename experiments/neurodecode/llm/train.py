"""Tune an adapter so that the language model writes the sentence that an encoder misread.

Array names carry their axes: B sentence, L token, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel, set_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurodecode.llm.backend import Backend
from neurodecode.llm.config import LlmConfig
from neurodecode.llm.last_layer import last_positions
from neurodecode.llm.lora import adapter_weights, attach, folded
from neurodecode.llm.prompt import IGNORED, Batch, Dropout, Prompter, Reading, length_batches
from neurodecode.llm.sources import Source
from neurodecode.training.beat import Beat, silent
from neurodecode.training.interrupts import (
    UNINTERRUPTED,
    Interrupts,
    State,
    set_random_state,
)
from neurodecode.training.passes import arrays, tensors
from neurodecode.training.schedule import linear_warmup_cosine
from neurodecode.training.steps import descend

Log = Callable[..., None]

# A look at dev costs a third of a step a sentence: this keeps looks below a tenth of the time.
_TRAINED_PER_DEV = 8


def train_lora(
    backend: Backend,
    source: Source,
    dev: Sequence[Reading],
    config: LlmConfig,
    *,
    seed: int,
    log: Log,
    beat: Beat = silent,
    interrupts: Interrupts = UNINTERRUPTED,
) -> PeftModel:
    """Return the language model with a tuned adapter, that of the best dev loss.

    Parameters
    ----------
    backend
        Frozen language model; its layers are wrapped in place.
    source
        Training sentences.
    dev
        Sentences with targets, as the encoder reads new ones; may be empty, then the last adapter
        stays.
    config
        Options.
    seed
        Decides the first adapter, order and what is zeroed.
    log
        ``log(step, epoch, **metrics)``, called after every look at dev.
    beat
        Called after every step and every batch of dev.
    interrupts
        Ends training early, with the best adapter so far, or lets it go on later.

    Raises
    ------
    Diverged
        When the loss is not finite.

    Notes
    -----
    Brain2Qwerty v2, section on the language model: LoRA on a frozen model, label smoothing, and
    tokens zeroed in training.
    """
    return Tuning(backend, source, dev, config, seed, log, beat).run(interrupts)


class Tuning:
    """One training of an adapter; the arguments are those of `train_lora`."""

    def __init__(
        self,
        backend: Backend,
        source: Source,
        dev: Sequence[Reading],
        config: LlmConfig,
        seed: int,
        log: Log,
        beat: Beat = silent,
    ) -> None:
        self.source, self.dev, self.config = source, dev, config
        self.log, self.beat = log, beat
        self.prompter = Prompter(backend)
        self.model = attach(backend, config, seed)
        self.rng = np.random.default_rng(seed)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.per_epoch = max(1, math.ceil(len(source) / config.batch_size))
        self.total_steps = self.per_epoch * config.epochs
        looks = round(len(source) / (_TRAINED_PER_DEV * max(1, len(dev))))
        self.steps_per_look = math.ceil(self.per_epoch / max(1, looks))
        self.best = _BestAdapter(config.patience)
        self.steps = 0
        self._losses: list[float] = []
        self._pass: int = 1
        self._left: list[npt.NDArray[np.int64]] | None = None

    def run(self, interrupts: Interrupts) -> PeftModel:
        """Train, and return the model in evaluation mode."""
        state = interrupts.load()
        if state is not None:
            self._restore(state)
        self.model.train()
        with folded(self.model):
            while self._pass <= self.config.epochs and not self._epoch(interrupts):
                self._pass += 1
            if self._losses:
                self._look(min(self._pass, self.config.epochs))
        self.best.restore(self.model)
        return self.model.eval()

    def _epoch(self, interrupts: Interrupts) -> bool:
        """Take a pass, or what is left of it; return whether training ends within it."""
        readings = self.source.readings(self._pass)
        if self._left is None:
            lengths = [len(reading.greedy) + len(reading.target or "") for reading in readings]
            self._left = list(length_batches(lengths, self.per_epoch, self.rng))
        while self._left:
            self._step([readings[row] for row in self._left.pop(0)])
            self.beat()
            if self.steps % self.steps_per_look == 0 and self._look(self._pass):
                return True
            if self.steps < self.total_steps and interrupts.due():
                interrupts.save(self._state())
            if interrupts.should_stop():
                return True
        self._left = None
        return False

    def _state(self) -> State:
        """Return all that decides the steps to come, but for random numbers outside."""
        return {
            "adapter": adapter_weights(self.model),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "losses": self._losses,
            "pass": self._pass,
            "left": tensors(self._left or []),
            "best": self.best.state(),
        }

    def _restore(self, state: State) -> None:
        set_peft_model_state_dict(self.model, state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.steps, self._losses, self._pass = state["steps"], state["losses"], state["pass"]
        self._left = arrays(state["left"])
        self.best.remember(state["best"])
        set_random_state(state["random"])

    def _step(self, readings: Sequence[Reading]) -> None:
        config = self.config
        warmup = math.ceil(config.warmup * self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = linear_warmup_cosine(
                self.steps, config.learning_rate, warmup, self.total_steps
            )
        dropout = Dropout(config.ctc_dropout, config.meg_dropout, self.rng)
        batch = self.prompter.examples(readings, dropout)
        loss = batch_loss(self.model, batch, config.label_smoothing)
        field = "llm.learning_rate"
        value = descend(loss, self.optimizer, self.parameters, config.clip_norm, self.steps, field)
        self._losses.append(value)
        self.steps += 1

    def _look(self, epoch: int) -> bool:
        """Log, keep the best adapter, and return whether patience has ended."""
        metrics = {"loss": float(np.mean(self._losses))}
        metrics["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        self._losses = []
        if self.dev:
            metrics["dev_loss"] = dev_loss(self.model, self.prompter, self.dev, beat=self.beat)
            self.best.offer(metrics["dev_loss"], self.model)
            self.model.train()
        self.log(self.steps, epoch, **metrics)
        return bool(self.dev) and self.best.exhausted


def batch_loss(model: nn.Module, batch: Batch, smoothing: float, reduction: str = "mean") -> Tensor:
    """Return the cross entropy of the target tokens.

    Parameters
    ----------
    model
        Causal language model.
    batch
        Examples, padded on the right: no token sees what comes after it, so padding needs no mask.
    smoothing
        Share of the target that is spread over all tokens.
    reduction
        ``mean`` or ``sum`` over target tokens.
    """
    target_BL = batch.label_BL[:, 1:]
    first = int((target_BL != IGNORED).any(0).nonzero()[0])
    keep = target_BL.shape[1] + 1 - first
    with last_positions(model, keep):
        output: Any = model(inputs_embeds=batch.input_BLH, logits_to_keep=keep, use_cache=False)
    logits_BLV = output.logits[:, :-1].float()
    return cross_entropy(
        logits_BLV.flatten(0, 1),
        target_BL[:, first:].flatten(),
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction=reduction,
    )


@torch.inference_mode()
def dev_loss(
    model: nn.Module,
    prompter: Prompter,
    dev: Sequence[Reading],
    batch_size: int = 16,
    *,
    beat: Beat = silent,
) -> float:
    """Return the cross entropy a target token, nothing zeroed and nothing smoothed."""
    model.eval()
    order = sorted(range(len(dev)), key=lambda row: prompter.length(dev[row]))
    total, count = 0.0, 0
    for start in range(0, len(order), batch_size):
        batch = prompter.examples([dev[row] for row in order[start : start + batch_size]])
        total += float(batch_loss(model, batch, 0.0, "sum"))
        count += int((batch.label_BL != IGNORED).sum())
        beat()
    return total / count


class _BestAdapter:
    """Remember the adapter of the best look."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.loss = math.inf
        self.looks_since = 0
        self._weights: dict[str, Tensor] | None = None

    @property
    def exhausted(self) -> bool:
        """Whether no look was better for as long as patience lasts."""
        return self.looks_since >= self.patience

    def offer(self, loss: float, model: PeftModel) -> None:
        self.looks_since += 1
        if loss < self.loss:
            self.loss, self.looks_since = loss, 0
            self._weights = {name: value.clone() for name, value in adapter_weights(model).items()}

    def restore(self, model: PeftModel) -> None:
        if self._weights is not None:
            set_peft_model_state_dict(model, self._weights)

    def state(self) -> State:
        return {"loss": self.loss, "looks_since": self.looks_since, "weights": self._weights}

    def remember(self, state: State) -> None:
        self.loss, self.looks_since = state["loss"], state["looks_since"]
        self._weights = state["weights"]
