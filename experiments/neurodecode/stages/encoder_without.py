"""Stage: an encoder that never saw the sentences of one fold, so that it can read them as new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neurodecode.jobs.encoder import Progress
from neurodecode.jobs.folds import job_arithmetic
from neurodecode.llm.reading_parts import folds_of, num_folds
from neurodecode.stages._given import ENCODER, config_of, element_of, out_of
from neurodecode.training.checkpoint import save_encoder
from neurodecode.training.sentences import read_sentences, sentence_facts
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import ConfigError
from neurosweep.exec.job_api import JobContext


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Train an encoder on the sentences outside a fold, and keep it as ``out/encoder``.

    The element is the number of the fold, from 1; ``encoder.cross_fit`` says how many there are.

    Raises
    ------
    neurosweep.exec.job_api.Diverged
        When a loss is not finite.
    ConfigError
        When there is no such fold.
    neurosweep.core.errors.DataError
        When a store is damaged or holds no sentences.
    """
    config = config_of(ctx)
    folds, element = num_folds(config), element_of(ctx)
    if not element.isdecimal() or not 1 <= int(element) <= folds:
        msg = f"fold {element!r}: encoder.cross_fit is {folds}; set foreach to the numbers from 1"
        raise ConfigError(
            f"{msg} to encoder.cross_fit, as texts, and encoder.cross_fit under [set]"
        )
    (folder,) = ctx.folds
    with job_arithmetic(ctx.threads):
        ctx.beat("load")
        facts = sentence_facts(read_meta(folder))
        train, dev = (read_sentences(folder, part, facts.subjects) for part in ("train", "dev"))
        seen = train.subset(np.flatnonzero(folds_of(train, folds) != int(element) - 1).tolist())
        model = Progress(ctx).fit(seen, dev, facts, config, 0)
        save_encoder(out_of(ctx) / ENCODER, model, config.model, facts)
    return iter(())
