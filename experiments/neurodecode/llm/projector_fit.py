"""Training of the projector on the frames of a frozen encoder.

Array names carry their axes: B sentence of a batch, H hidden, M typed word, W word read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from neurodecode.contracts import FloatArray
from neurodecode.decoding.ctc import greedy
from neurodecode.llm.config import ProjectorConfig
from neurodecode.llm.dtw import cosine_cost, dtw_path, first_match
from neurodecode.llm.features import WordTargets
from neurodecode.llm.projector import Projector, WordFrames, pack_words
from neurodecode.losses.siglip import INIT_BIAS, INIT_LOG_TAU, siglip_loss
from neurodecode.training.schedule import warmup_cosine
from neurodecode.training.steps import parameter_groups
from neurosweep.core.errors import DataError
from neurosweep.exec.job_api import Diverged

if TYPE_CHECKING:
    from neurodecode.training.encoder_fit import Encoded

_WARMUP = 0.1
_CLIP_NORM = 1.0

Log = Callable[..., None]


@dataclass(frozen=True)
class ProjectorResult:
    """Tell how training went.

    Attributes
    ----------
    epochs, best_epoch
        Passes that were made, and the one whose weights were kept.
    dev_loss, dev_accuracy
        What these weights reach on dev, the latter as share of read words whose nearest vector
        among all typed words of dev is that of their own; None without dev sentences.
    """

    epochs: int
    best_epoch: int
    dev_loss: float | None
    dev_accuracy: float | None


@dataclass(frozen=True)
class _Sentence:
    """Hold frames, cuts and typed words of a sentence."""

    feature_FD: FloatArray
    cuts: tuple[tuple[int, int], ...]
    target_MH: FloatArray


def fit_projector(
    train: tuple[Sequence[Encoded], Sequence[str]],
    dev: tuple[Sequence[Encoded], Sequence[str]],
    targets: WordTargets,
    config: ProjectorConfig,
    *,
    seed: int,
    log: Log = lambda *_, **__: None,
) -> tuple[Projector, ProjectorResult]:
    """Return a projector with the weights of its best epoch on dev.

    Parameters
    ----------
    train, dev
        What the frozen encoder gave, and what was typed; dev may be empty, then the last weights
        stay.
    targets
        True vector of any word.
    config
        Options.
    seed
        Decides weights, order and noise.
    log
        ``log(epoch, **metrics)``, called after every epoch.

    Raises
    ------
    DataError
        When no training sentence has a typed word.
    Diverged
        When a vector is not finite.
    """
    torch.manual_seed(seed)
    sentences, judges = _sentences(*train, targets), _sentences(*dev, targets)
    if not sentences:
        msg = "no training sentence has a typed word: the projector cannot be trained"
        raise DataError(msg)
    fitting = _Fitting(sentences, targets.hidden, config, seed)
    best = (math.inf, 0, math.nan, copy.deepcopy(fitting.projector.state_dict()))
    epoch = 0
    for epoch in range(1, config.epochs + 1):
        metrics = {"loss": fitting.run_epoch()}
        if judges:
            dev_loss, dev_accuracy = fitting.judge(judges)
            metrics |= {"dev_loss": dev_loss, "dev_accuracy": dev_accuracy}
            if dev_loss < best[0]:
                state = copy.deepcopy(fitting.projector.state_dict())
                best = (dev_loss, epoch, dev_accuracy, state)
        log(epoch, **metrics)
        if judges and epoch - best[1] >= config.patience:
            break
    if not judges:
        return fitting.projector.eval(), ProjectorResult(epoch, epoch, None, None)
    fitting.projector.load_state_dict(best[3])
    return fitting.projector.eval(), ProjectorResult(epoch, best[1], best[0], best[2])


def _sentences(
    encoded: Sequence[Encoded], typed: Sequence[str], targets: WordTargets
) -> list[_Sentence]:
    found = []
    for one, text in zip(encoded, typed, strict=True):
        if text.split() and len(one.feature_FD):
            target_MH = np.stack([targets(word) for word in text.split()])
            found.append(_Sentence(one.feature_FD, greedy(one.log_p_FK).word_frames, target_MH))
    return found


class _Fitting:
    """Take optimiser steps over sentences."""

    def __init__(
        self, sentences: Sequence[_Sentence], hidden: int, config: ProjectorConfig, seed: int
    ) -> None:
        self.sentences = sentences
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.projector = Projector(
            sentences[0].feature_FD.shape[1],
            config.hidden,
            hidden,
            config.dropout,
            config.feature_noise,
        )
        self.projector.standardise(_pack(sentences).frame_ND)
        self.log_tau = nn.Parameter(torch.tensor(INIT_LOG_TAU))
        self.bias = nn.Parameter(torch.tensor(INIT_BIAS))
        groups = parameter_groups(self.projector, config.weight_decay)
        groups.append({"params": [self.log_tau, self.bias], "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.per_epoch = math.ceil(len(sentences) / config.batch_size)
        self.done = 0

    def run_epoch(self) -> float:
        """Return the mean loss of one pass."""
        self.projector.train()
        order = torch.randperm(len(self.sentences), generator=self.generator).numpy()
        losses = [
            self._step([self.sentences[row] for row in rows_B])
            for rows_B in np.array_split(order, self.per_epoch)
        ]
        return sum(losses) / len(losses)

    def _step(self, batch: Sequence[_Sentence]) -> float:
        factor = warmup_cosine(self.done, self.config.epochs * self.per_epoch, _WARMUP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        words_WH = self.projector(_pack(batch), self.generator)
        if not bool(torch.isfinite(words_WH).all()):
            msg = f"a vector is not finite at step {self.done}; lower projector.learning_rate"
            raise Diverged(msg)
        loss = siglip_loss(words_WH, _match(words_WH, batch), self.log_tau, self.bias)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.projector.parameters(), _CLIP_NORM)
        self.optimizer.step()
        self.done += 1
        return float(loss.detach())

    @torch.no_grad()
    def judge(self, sentences: Sequence[_Sentence]) -> tuple[float, float]:
        """Return the loss, and the share of words nearest to their own true word."""
        self.projector.eval()
        total, matched, read = 0.0, [], []
        size = self.config.batch_size
        for start in range(0, len(sentences), size):
            batch = sentences[start : start + size]
            words_WH = self.projector(_pack(batch))
            target_WH = _match(words_WH, batch)
            loss = siglip_loss(words_WH, target_WH, self.log_tau, self.bias)
            total += float(loss) * len(words_WH)
            read.append(words_WH)
            matched.append(target_WH)
        vocabulary_MH = np.unique(np.concatenate([one.target_MH for one in sentences]), axis=0)
        nearest_W = cosine_cost(torch.cat(read).numpy(), vocabulary_MH).argmin(axis=1)
        right_W = (vocabulary_MH[nearest_W] == torch.cat(matched).numpy()).all(axis=1)
        return total / len(right_W), float(right_W.mean())


def _pack(sentences: Sequence[_Sentence]) -> WordFrames:
    return pack_words([(one.feature_FD, one.cuts) for one in sentences])


def _match(words_WH: Tensor, sentences: Sequence[_Sentence]) -> Tensor:
    """Return the true vector of every word read, by warping within its sentence."""
    read_WH = words_WH.detach().numpy()
    matched, start = [], 0
    for one in sentences:
        cost_WM = cosine_cost(read_WH[start : start + len(one.cuts)], one.target_MH)
        matched.append(one.target_MH[first_match(dtw_path(cost_WM))])
        start += len(one.cuts)
    return torch.from_numpy(np.concatenate(matched))
