"""Stage: the sentences of a part, by the language model with an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from neurodecode.jobs.folds import job_arithmetic
from neurodecode.jobs.llm import predict
from neurodecode.llm.feature_store import read_feature_store
from neurodecode.llm.lora import load_adapter
from neurodecode.llm.reading import backend_for
from neurodecode.llm.sources import reading_of
from neurodecode.stages._given import ADAPTER, config_of, input_with
from neurodecode.stages.features import FEATURES
from neurosweep.exec.job_api import JobContext


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Read every sentence of a part, of all subjects.

    Parameters
    ----------
    ctx
        Configuration, features and an adapter.

    Yields
    ------
    dict
        One prediction an item, as those of `neurodecode.jobs.llm`.

    Raises
    ------
    neurosweep.core.errors.DataError
        When an input is missing, or features are damaged or for another language model.
    neurosweep.core.errors.ConfigError
        When the adapter does not fit.
    """
    config = config_of(ctx)
    folder = input_with(ctx, FEATURES, "features")
    adapter = input_with(ctx, ADAPTER, "an adapter")
    with job_arithmetic(ctx.threads):
        ctx.beat("load")
        store = read_feature_store(folder, (ctx.part,))
        backend = backend_for(store.meta, config)
        model = load_adapter(backend, adapter)
        readings = [reading_of(item) for item in store.parts[ctx.part]]
        beat = partial(ctx.beat, "predict")
        yield from predict(backend, model, readings, config.llm, config.decoding, beat)
