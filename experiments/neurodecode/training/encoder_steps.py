"""Optimiser steps over sentences, stretched and shifted anew in every pass.

Array names carry their axes: B batch, F frame, L letter, N sentence.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from neurodecode.losses.ctc import ctc_loss, frames_needed
from neurodecode.training.beat import Beat, silent
from neurodecode.training.passes import Passes, Rows, arrays, tensors
from neurodecode.training.schedule import linear_warmup_cosine
from neurodecode.training.sentence_augment import Course, SentenceAugment
from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurodecode.training.sentences import SentenceSet, targets
from neurodecode.training.steps import descend, parameter_groups

logger = logging.getLogger(__name__)

_LENGTH_SPREAD = 0.1


class EncoderSteps(Passes):
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
    too_long
        Sentences whose text does not fit into their frames.
    course
        Where the sentences of the last pass start, and at which pace they run.
    """

    def __init__(
        self,
        model: nn.Module,
        train: SentenceSet,
        config: EncoderTrainingConfig,
        seed: int,
        beat: Beat = silent,
    ) -> None:
        groups = parameter_groups(model, config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        super().__init__(model, optimizer, seed)
        self.train = train
        self.config = config
        self.beat = beat
        self.augment = SentenceAugment.of(config, train.sfreq_hz)
        self.target_NL, self.target_lengths_N = targets(train.typed())
        self.too_long = self._count_too_long()
        self.per_epoch = math.ceil(len(train) / config.batch_size)
        self.course: Course | None = None

    def draw(self) -> Rows:
        """Return batches of sentences of nearly equal length, in random order."""
        self.course = self.augment.draw(self.train, self.generator)
        length_N = self.course.length_N
        spread_N = torch.rand(len(length_N), generator=self.generator).numpy()
        order_N = np.argsort(length_N * (1 + _LENGTH_SPREAD * spread_N), kind="stable")
        batches = np.array_split(order_N, self.per_epoch)
        shuffled = torch.randperm(len(batches), generator=self.generator).tolist()
        return [batches[index] for index in shuffled]

    def state(self) -> dict[str, Any]:
        """Return all that decides the steps to come, but for random numbers outside."""
        course = self.course
        parts = [] if course is None else [course.start_N, course.pace_N, course.length_N]
        return super().state() | {"course": tensors(parts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the middle of a pass or between two."""
        super().restore(state)
        if state["course"]:
            self.course = Course(*arrays(state["course"]))

    def step(self, rows_B: npt.NDArray[np.int64]) -> float:
        """Take a step on a batch, and return its loss."""
        assert self.course is not None
        self._set_learning_rate()
        batch = self.augment.batch(self.train, rows_B, self.course, self.generator, self.device)
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
        self.beat()
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
