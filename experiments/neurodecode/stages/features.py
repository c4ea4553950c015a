"""Stage: text and word vectors that frozen encoders read from all sentences."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodecode.contracts import SentenceFacts
from neurodecode.jobs.folds import job_arithmetic
from neurodecode.llm.backend import load_backend
from neurodecode.llm.encoders import Encoder, given_encoder
from neurodecode.llm.prepare import features_meta, write_features
from neurodecode.llm.reading_parts import make_features, num_folds
from neurodecode.stages._given import ENCODER, config_of, inputs_with, out_of
from neurodecode.training.sentences import SentenceSet, sentence_facts
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json
from neurosweep.exec.job_api import JobContext

logger = logging.getLogger(__name__)

FEATURES = "features"


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Read every part, and keep it as a store of features under ``out/features``.

    One input holds the encoder of all sentences. With ``encoder.cross_fit`` folds, training
    sentences are read by encoders that were trained without them, which are the inputs whose
    names end with ``.1``, ``.2`` and so on.

    Raises
    ------
    neurosweep.core.errors.DataError
        When an input is missing, or a store is damaged.
    neurosweep.core.errors.ConfigError
        When an encoder was built for other data.
    """
    config = config_of(ctx)
    (store,) = ctx.folds
    meta = read_meta(store)

    def say(text: str) -> None:
        logger.info(text)
        ctx.beat("features")

    with job_arithmetic(ctx.threads):
        ctx.beat("load")
        backend = load_backend(config.llm)
        encoders = _Inputs.of(ctx, num_folds(config), sentence_facts(meta), config.training.device)
        made = make_features(config, (store, None), encoders, say, backend)
        for warning in made.warnings:
            logger.warning(warning)
        folder = out_of(ctx) / FEATURES
        write_features(folder, made, features_meta(meta, str(meta["data_fp"]), backend, made))
        atomic_write_json(folder / "summary.json", made.summary())
    return iter(())


@dataclass(frozen=True)
class _Inputs:
    """Give the encoders of earlier stages."""

    whole_one: Path
    folds: Mapping[int, Path]
    facts: SentenceFacts
    device: str

    @classmethod
    def of(cls, ctx: JobContext, folds: int, facts: SentenceFacts, device: str) -> _Inputs:
        """Find them among the inputs."""
        found = inputs_with(ctx, ENCODER)
        numbers = {name.partition(".")[2]: path for name, path in found.items()}
        wanted = {str(number + 1) for number in range(folds)}
        if set(numbers) != {"", *wanted}:
            lacking = sorted(wanted - set(numbers)) or ["that of all sentences"]
            msg = f"{len(found)} encoders are given for encoder.cross_fit = {folds}: "
            msg += f"{lacking[0]} is missing" if {"", *wanted} - set(numbers) else "some are more"
            raise DataError(f"{msg}; name the stages that train them under 'needs'")
        return cls(numbers[""], {int(n) - 1: numbers[n] for n in wanted}, facts, device)

    def whole(self, train: SentenceSet, dev: SentenceSet) -> Encoder:  # noqa: ARG002
        """Return the encoder of all sentences."""
        return given_encoder(self.whole_one, self.facts, self.device)

    def without(self, fold: tuple[int, int], seen: SentenceSet, dev: SentenceSet) -> Encoder:  # noqa: ARG002
        """Return the encoder of the sentences outside a fold."""
        return given_encoder(self.folds[fold[0]], self.facts, self.device)
