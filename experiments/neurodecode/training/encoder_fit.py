"""Training of an encoder of whole sentences, and what it says about them.

Array names carry their axes: B batch, D feature, F frame, K class, N sentence.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodecode.decoding.ctc import greedy
from neurodecode.training.beat import Beat, silent
from neurodecode.training.encoder_steps import EncoderSteps
from neurodecode.training.interrupts import UNINTERRUPTED, Interrupts, set_random_state
from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurodecode.training.sentences import SentenceSet
from neurosweep.evaluation.rates import text_edits

Log = Callable[..., None]

_EVAL_BATCH = 16


@dataclass(frozen=True)
class FitResult:
    """Tell how training went.

    Attributes
    ----------
    epochs
        Passes that were made.
    best_epoch
        The pass whose weights were kept.
    dev_cer
        What these weights reach on dev, greedy against typed text; None without dev sentences.
    too_long
        Training sentences whose text does not fit into their frames, as they are unstretched;
        they teach nothing.
    """

    epochs: int
    best_epoch: int
    dev_cer: float | None
    too_long: int


@dataclass(frozen=True)
class Encoded:
    """Hold what an encoder says about one sentence: its valid frames only.

    Attributes
    ----------
    item
        Which one.
    log_p_FK
        Log-probabilities of CTC classes.
    feature_FD
        What they were made of.
    """

    item: str
    log_p_FK: npt.NDArray[np.float32]
    feature_FD: npt.NDArray[np.float32]


def fit_encoder(
    model: nn.Module,
    train: SentenceSet,
    dev: SentenceSet,
    config: EncoderTrainingConfig,
    *,
    seed: int,
    log: Log,
    beat: Beat = silent,
    interrupts: Interrupts = UNINTERRUPTED,
) -> FitResult:
    """Train an encoder in place, leaving it with the weights of its best epoch.

    Parameters
    ----------
    model
        Maps signals (batch, time, sensor), their lengths and subjects to what `ctc_loss` takes,
        on its own device.
    train, dev
        Sentences with typed texts; dev may be empty, then the last weights stay.
    config
        Options.
    seed
        Decides order, augmentation and dropout.
    log
        ``log(step, epoch, **metrics)``, called after every epoch.
    beat
        Called after every step and every batch of dev.
    interrupts
        Ends training early, with the best weights so far, or lets it go on later.

    Raises
    ------
    Diverged
        When the loss is not finite.
    neurosweep.core.errors.DataError
        When a part has no texts.
    """
    torch.manual_seed(seed)
    steps = EncoderSteps(model, train, config, seed, beat)
    best = _Best()

    def keep() -> None:
        if interrupts.due():
            interrupts.save({"epoch": epoch, "steps": steps.state(), "best": vars(best)})

    epoch = 0
    state = interrupts.load()
    if state is not None:
        steps.restore(state["steps"])
        best = _Best(**state["best"])
        set_random_state(state["random"])
        epoch = state["epoch"]
    first = steps.next_epoch(epoch)
    for epoch in range(first, config.epochs + 1):
        loss, stopped = steps.run_epoch(interrupts.should_stop, keep)
        metrics = {"loss": loss, "learning_rate": steps.learning_rate}
        if len(dev):
            metrics["dev_cer"] = character_error_rate(model, dev, steps.device, beat)
            best.offer(metrics["dev_cer"], epoch, model)
        log(steps.done, epoch, **metrics)
        if stopped or (best.epoch and epoch - best.epoch >= config.patience):
            break
        if epoch < config.epochs:  # after the last pass the job keeps the weights themselves
            keep()
    if best.weights is None:
        return FitResult(epoch, epoch, None, steps.too_long)
    model.load_state_dict(best.weights)
    return FitResult(epoch, best.epoch, best.cer, steps.too_long)


@dataclass
class _Best:
    """Remember the weights of the best epoch; 0 before the first."""

    cer: float = math.inf
    epoch: int = 0
    weights: dict[str, Tensor] | None = None

    def offer(self, cer: float, epoch: int, model: nn.Module) -> None:
        """Keep the weights when their error is strictly lower than ever before."""
        if cer < self.cer:
            self.cer, self.epoch = cer, epoch
            self.weights = copy.deepcopy(model.state_dict())


def encode(
    model: nn.Module,
    sentences: SentenceSet,
    device: torch.device,
    batch_size: int = _EVAL_BATCH,
    *,
    beat: Beat = silent,
) -> list[Encoded]:
    """Return what an encoder says about sentences, in their order.

    Parameters
    ----------
    model
        The encoder, on `device`; put into evaluation mode.
    sentences
        With or without texts.
    device
        Where it runs.
    batch_size
        Sentences at a time; the outcome does not depend on it.
    beat
        Called after every batch.
    """
    model.eval()
    order_N = np.argsort(sentences.lengths(), kind="stable")
    found: dict[int, Encoded] = {}
    with torch.inference_mode():
        for first in range(0, len(order_N), batch_size):
            rows_B = order_N[first : first + batch_size]
            output = model(*sentences.batch(rows_B, device))
            log_p_BFK = torch.log_softmax(output.logits_BFK.float(), dim=-1).cpu().numpy()
            feature_BFD = output.feature_BFD.float().cpu().numpy()
            for place, (row, frames) in enumerate(
                zip(rows_B.tolist(), output.frames_B.tolist(), strict=True)
            ):
                found[row] = Encoded(
                    sentences.spans[row].item,
                    log_p_BFK[place, :frames].copy(),
                    feature_BFD[place, :frames].copy(),
                )
            beat()
    return [found[row] for row in range(len(sentences))]


def character_error_rate(
    model: nn.Module, sentences: SentenceSet, device: torch.device, beat: Beat = silent
) -> float:
    """Return the mean over sentences of the greedy text's edits per typed character."""
    typed = dict(zip((span.item for span in sentences.spans), sentences.typed(), strict=True))
    encoded = encode(model, sentences, device, beat=beat)
    read = {one.item: greedy(one.log_p_FK).text for one in encoded}
    edits = text_edits(typed, read)
    return float(np.mean([characters.rate for _, characters in edits.values()]))
