"""One training job of an encoder of sentences: stores and a configuration in, predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neurodecode.config import MODELS, EncoderRecipe, LlmRecipe, read_config
from neurodecode.contracts import SentenceFacts
from neurodecode.decoding.config import CtcDecodingConfig
from neurodecode.decoding.ctc import greedy, prefix_beam
from neurodecode.jobs.folds import Numbering, fold_name, fold_seed, job_arithmetic
from neurodecode.training.checkpoint import save_encoder
from neurodecode.training.encoder_fit import Encoded, encode, fit_encoder
from neurodecode.training.evaluate import pick_device
from neurodecode.training.sentences import SentenceSet, read_sentences, sentence_facts
from neurodecode.training.windows import read_meta
from neurosweep.core.plugins import load_plugin
from neurosweep.exec.job_api import JobContext

CHECKPOINT = "encoder"


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Train an encoder, keep it as a checkpoint, and read the sentences of a part.

    With several folds, each trains an encoder of its own; the first one's checkpoint is
    ``ckpt/encoder``, the others' are ``ckpt/encoder01`` and so on.

    Parameters
    ----------
    ctx
        Configuration, seed, stores, and ways to report progress.

    Yields
    ------
    dict
        One prediction an item: ``item``, ``hypothesis``, ``logp``, ``nbest``.

    Raises
    ------
    neurosweep.exec.job_api.Diverged
        When a loss is not finite.
    neurosweep.core.errors.DataError
        When a store is damaged or holds no sentences.
    """
    config = read_config(ctx.config, "run.json config")
    assert isinstance(config, EncoderRecipe)
    progress = Progress(ctx)
    with job_arithmetic(ctx.threads):
        for number, folder in enumerate(ctx.folds):
            ctx.beat(f"load fold {number}")
            facts = sentence_facts(read_meta(folder))
            model = progress.train(folder, facts, config, number)
            name = fold_name(CHECKPOINT, number)
            save_encoder(ctx.ckpt_dir / name, model, config.model, facts)
            ctx.beat(f"predict fold {number}")
            sentences = read_sentences(folder, ctx.part, facts.subjects)
            beat = partial(ctx.beat, f"predict fold {number}")
            device = next(model.parameters()).device
            for encoded in encode(model, sentences, device, beat=beat):
                yield prediction(encoded, config.decoding)


def prediction(encoded: Encoded, config: CtcDecodingConfig) -> dict[str, Any]:
    """Return what is read from one sentence, as a line of predictions.

    Parameters
    ----------
    encoded
        What the encoder says.
    config
        One prefix in the beam takes the likeliest class of every frame; the log-probability is
        then that of this one path.
    """
    if config.beam == 1:
        log_p = float(encoded.log_p_FK.max(axis=1).sum())
        nbest = [(greedy(encoded.log_p_FK).text, log_p)]
    else:
        found = prefix_beam(encoded.log_p_FK, config.beam, config.nbest)
        nbest = [(" ".join(text.split()), log_p) for text, log_p in found]
    text, log_p = nbest[0]
    line: dict[str, Any] = {"item": encoded.item, "hypothesis": text, "logp": log_p}
    return line | {"nbest": [[text, log_p] for text, log_p in nbest]}


class Progress(Numbering):
    """Train folds and number their steps and epochs through."""

    def train(
        self, folder: Path, facts: SentenceFacts, config: EncoderRecipe, number: int
    ) -> nn.Module:
        """Return a model trained on a fold; seed and fold alone decide weights and order."""
        train, dev = (read_sentences(folder, part, facts.subjects) for part in ("train", "dev"))
        return self.fit(train, dev, facts, config, number)

    def fit(
        self,
        train: SentenceSet,
        dev: SentenceSet,
        facts: SentenceFacts,
        config: EncoderRecipe | LlmRecipe,
        number: int,
    ) -> nn.Module:
        """Return a model trained on sentences."""
        seed = fold_seed(self.ctx.seed, number)
        torch.manual_seed(seed)
        family = load_plugin(MODELS, config.model.family, needs=("Config", "build"))
        model: nn.Module = family.build(config.model, facts)
        model.to(pick_device(config.training.device))
        weights = self.trained(number)
        if weights is not None:
            model.load_state_dict(weights)
            return model
        fit_encoder(
            model,
            train,
            dev,
            config.training,
            seed=seed,
            log=self.log_of(number),
            interrupts=self.interrupts_of(number),
            beat=partial(self.ctx.beat, f"train fold {number}"),
        )
        self.keep(number, model.state_dict())
        return model
