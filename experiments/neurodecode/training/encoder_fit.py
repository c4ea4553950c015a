"""Training of an encoder of whole sentences, and what it says about them.

Array names carry their axes: B batch, D feature, F frame, K class, N sentence.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodecode.decoding.ctc import greedy
from neurodecode.losses.ctc import ctc_loss, frames_needed
from neurodecode.training.beat import Beat, silent
from neurodecode.training.schedule import linear_warmup_cosine
from neurodecode.training.sentence_augment import SentenceAugment
from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurodecode.training.sentences import SentenceSet, targets
from neurodecode.training.steps import descend, parameter_groups
from neurosweep.evaluation.rates import text_edits

Log = Callable[..., None]

logger = logging.getLogger(__name__)

_EVAL_BATCH = 16
_LENGTH_SPREAD = 0.1


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
    should_stop: Callable[[], bool] = lambda: False,
    beat: Beat = silent,
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
    should_stop
        Asked after every step; True ends training with the best weights so far.
    beat
        Called after every step and every batch of dev.

    Raises
    ------
    Diverged
        When the loss is not finite.
    neurosweep.core.errors.DataError
        When a part has no texts.
    """
    torch.manual_seed(seed)
    steps = EncoderSteps(model, train, config, seed, beat)
    best: tuple[float, int] | None = None
    state: dict[str, Tensor] | None = None
    epoch = 0
    for epoch in range(1, config.epochs + 1):
        loss, stopped = steps.run_epoch(should_stop)
        metrics = {"loss": loss, "learning_rate": steps.learning_rate}
        if len(dev):
            cer = character_error_rate(model, dev, steps.device, beat)
            metrics["dev_cer"] = cer
            if best is None or cer < best[0]:
                best, state = (cer, epoch), copy.deepcopy(model.state_dict())
        log(steps.done, epoch, **metrics)
        if stopped or (best is not None and epoch - best[1] >= config.patience):
            break
    if best is None or state is None:
        return FitResult(epoch, epoch, None, steps.too_long)
    model.load_state_dict(state)
    return FitResult(epoch, best[1], best[0], steps.too_long)


class EncoderSteps:
    """Take optimiser steps: AdamW, warm-up and cosine, clipped gradients.

    Parameters
    ----------
    model
        Changed in place, on its own device.
    train
        Sentences with typed texts.
    config
        Options.
    seed
        Decides order and augmentation.
    beat
        Called after every step.

    Attributes
    ----------
    done
        Steps taken.
    too_long
        Sentences whose text does not fit into their frames.
    """

    def __init__(
        self,
        model: nn.Module,
        train: SentenceSet,
        config: EncoderTrainingConfig,
        seed: int,
        beat: Beat = silent,
    ) -> None:
        self.model = model
        self.train = train
        self.config = config
        self.beat = beat
        self.device = next(model.parameters()).device
        self.generator = torch.Generator().manual_seed(seed)
        self.augment = SentenceAugment.of(config, train.sfreq_hz)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True
        )
        self.target_NL, self.target_lengths_N = targets(train.typed())
        self.too_long = self._count_too_long()
        self.per_epoch = math.ceil(len(train) / config.batch_size)
        self.done = 0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def run_epoch(self, should_stop: Callable[[], bool]) -> tuple[float, bool]:
        """Return the mean loss of one pass, and whether it was asked to stop."""
        self.model.train()
        course = self.augment.draw(self.train, self.generator)
        losses: list[float] = []
        for rows_B in self._batches(course.length_N):
            batch = self.augment.batch(self.train, rows_B, course, self.generator, self.device)
            losses.append(self._step(rows_B, batch))
            self.beat()
            if should_stop():
                return sum(losses) / len(losses), True
        return sum(losses) / len(losses), False

    def _batches(self, length_N: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        """Yield batches of sentences of nearly equal length, in random order."""
        spread_N = torch.rand(len(length_N), generator=self.generator).numpy()
        order_N = np.argsort(length_N * (1 + _LENGTH_SPREAD * spread_N), kind="stable")
        batches = np.array_split(order_N, self.per_epoch)
        for index in torch.randperm(len(batches), generator=self.generator).tolist():
            yield batches[index]

    def _step(self, rows_B: npt.NDArray[np.int64], batch: tuple[Tensor, Tensor, Tensor]) -> float:
        self._set_learning_rate()
        lengths_B = self.target_lengths_N[rows_B]
        target_BL = self.target_NL[rows_B, : int(lengths_B.max())]
        output = self.model(*batch)
        loss = ctc_loss(
            output,
            target_BL.to(self.device),
            lengths_B.to(self.device),
            self.config.aux_weight,
        )
        weights = self.model.parameters()
        value = descend(loss, self.optimizer, weights, self.config.clip_norm, self.done)
        self.done += 1
        return value

    def _set_learning_rate(self) -> None:
        total = self.config.epochs * self.per_epoch
        warmup = min(self.config.warmup_steps, total // 2)
        rate = linear_warmup_cosine(self.done, self.config.learning_rate, warmup, total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _count_too_long(self) -> int:
        num_frames = getattr(self.model, "num_frames", None)
        if num_frames is None:
            return 0
        frames_N = num_frames(torch.from_numpy(self.train.lengths()))
        needed_N = frames_needed(self.target_NL, self.target_lengths_N)
        count = int((needed_N > frames_N).sum())
        if count:
            logger.warning(
                "%d of %d training sentences have fewer frames than their text needs and teach "
                "nothing; a smaller model.downsample_stride gives more frames",
                count,
                len(self.train),
            )
        return count


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
