"""Stage: an encoder of sentences, trained on all subjects together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from neurodecode.decoding.config import CtcDecodingConfig
from neurodecode.jobs.encoder import Progress, prediction
from neurodecode.jobs.folds import job_arithmetic
from neurodecode.stages._given import ENCODER, config_of, out_of
from neurodecode.training.checkpoint import save_encoder
from neurodecode.training.encoder_fit import encode
from neurodecode.training.sentences import read_sentences, sentence_facts
from neurodecode.training.windows import read_meta
from neurosweep.exec.job_api import JobContext


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Train an encoder, keep it as ``out/encoder``, and read a part with it alone.

    Parameters
    ----------
    ctx
        Configuration, seed, a store of sentences, and ways to report progress.

    Yields
    ------
    dict
        One prediction an item: the text of the likeliest path.

    Raises
    ------
    neurosweep.exec.job_api.Diverged
        When a loss is not finite.
    neurosweep.core.errors.DataError
        When a store is damaged or holds no sentences.
    """
    config = config_of(ctx)
    (folder,) = ctx.folds
    with job_arithmetic(ctx.threads):
        ctx.beat("load")
        facts = sentence_facts(read_meta(folder))
        train, dev = (read_sentences(folder, part, facts.subjects) for part in ("train", "dev"))
        model = Progress(ctx).fit(train, dev, facts, config, 0)
        save_encoder(out_of(ctx) / ENCODER, model, config.model, facts)
        ctx.beat("predict")
        unseen = read_sentences(folder, ctx.part, facts.subjects)
        device = next(model.parameters()).device
        for encoded in encode(model, unseen, device, beat=partial(ctx.beat, "predict")):
            yield prediction(encoded, CtcDecodingConfig())
