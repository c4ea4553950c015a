"""One training job: stores and a configuration in, predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from neurodecode.config import MODELS, WindowRecipe, read_config
from neurodecode.contracts import DataFacts
from neurodecode.decoding.items import Hypothesis, decode, log_prior
from neurodecode.jobs.folds import Numbering, fold_seed, job_arithmetic
from neurodecode.training.evaluate import pick_device, predict_log_proba
from neurodecode.training.loop import fit
from neurodecode.training.windows import WindowSet, data_facts, read_meta, read_windows
from neurosweep.core.plugins import load_plugin
from neurosweep.exec.job_api import JobContext


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Train on every fold and predict its items.

    Parameters
    ----------
    ctx
        Configuration, seed, stores, and ways to report progress.

    Yields
    ------
    dict
        One prediction an item: ``item``, ``hypothesis``, ``nbest``, ``logp``, and ``windows``,
        the class of every window as one character each.

    Raises
    ------
    neurosweep.exec.job_api.Diverged
        When a loss is not finite.
    neurosweep.core.errors.DataError
        When a store is damaged.
    """
    config = read_config(ctx.config, "run.json config")
    assert isinstance(config, WindowRecipe)
    progress = Progress(ctx)
    with job_arithmetic(ctx.threads):
        for number, folder in enumerate(ctx.folds):
            ctx.beat(f"load fold {number}")
            fold = Fold.read(folder)
            model = progress.train(fold, config, number)
            ctx.beat(f"predict fold {number}")
            for hypothesis in fold.predict(model, config, ctx.part):
                yield hypothesis.to_dict()


@dataclass(frozen=True)
class Fold:
    """Hold one store of train, dev and the part to predict.

    Attributes
    ----------
    folder
        Where it lies.
    meta
        Its description.
    facts
        What a model must know of it.
    train, dev
        Windows with labels.
    """

    folder: Path
    meta: Mapping[str, Any]
    facts: DataFacts
    train: WindowSet
    dev: WindowSet

    @classmethod
    def read(cls, folder: Path) -> Fold:
        """Read train and dev."""
        meta = read_meta(folder)
        subjects = tuple(meta["subjects"])
        train, dev = (read_windows(folder, part, subjects) for part in ("train", "dev"))
        return cls(folder, meta, data_facts(meta, train.x_WCT.shape[2]), train, dev)

    def predict(self, model: nn.Module, config: WindowRecipe, part: str) -> Iterator[Hypothesis]:
        """Yield what the model reads from every item of a part."""
        windows = read_windows(self.folder, part, self.facts.subjects)
        device = next(model.parameters()).device
        log_p_WK = predict_log_proba(model, windows, device)
        prior_K = self._log_prior(balanced=config.training.class_balance)
        yield from decode(windows, log_p_WK, prior_K, self.meta["symbols"], config.decoding)

    def _log_prior(self, *, balanced: bool) -> npt.NDArray[np.float64]:
        num_classes = self.facts.num_classes
        if balanced:
            return np.full(num_classes, -np.log(num_classes))
        return log_prior(self.train.targets(), num_classes)


class Progress(Numbering):
    """Train folds and number their steps and epochs through."""

    def train(self, fold: Fold, config: WindowRecipe, number: int) -> nn.Module:
        """Return a model trained on a fold; seed and fold alone decide weights and order."""
        seed = fold_seed(self.ctx.seed, number)
        torch.manual_seed(seed)
        family = load_plugin(MODELS, config.model.family, needs=("Config", "build"))
        model: nn.Module = family.build(config.model, fold.facts)
        model.to(pick_device(config.training.device))
        weights = self.trained(number)
        if weights is not None:
            model.load_state_dict(weights)
            return model
        fit(
            model,
            fold.train,
            fold.dev,
            config.training,
            sfreq_hz=fold.facts.sfreq_hz,
            seed=seed,
            log=self.log_of(number),
            interrupts=self.interrupts_of(number),
        )
        self.keep(number, model.state_dict())
        return model
