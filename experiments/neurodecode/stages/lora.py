"""Stage: an adapter of the language model, tuned for one subject or for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from neurodecode.jobs.folds import job_arithmetic
from neurodecode.jobs.llm import Progress, predict
from neurodecode.llm.feature_store import FeatureItem, FeatureStore, read_feature_store
from neurodecode.llm.lora import save_adapter
from neurodecode.llm.reading import backend_for
from neurodecode.llm.sources import reading_of
from neurodecode.stages._given import ADAPTER, config_of, element_of, input_with, out_of
from neurodecode.stages.features import FEATURES
from neurosweep.core.errors import DataError
from neurosweep.exec.job_api import JobContext


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Tune an adapter on a subject's features, keep it as ``out/adapter``, and read a part.

    The element is the subject; without one the adapter is tuned on all of them.

    Parameters
    ----------
    ctx
        Configuration, seed, features, and ways to report progress.

    Yields
    ------
    dict
        One prediction for each of the subject's items.

    Raises
    ------
    neurosweep.exec.job_api.Diverged
        When a loss is not finite.
    neurosweep.core.errors.DataError
        When the subject has no sentences, or features are damaged or for another language model.
    """
    config = config_of(ctx)
    folder = input_with(ctx, FEATURES, "features")
    with job_arithmetic(ctx.threads):
        ctx.beat("load")
        store = of_subject(read_feature_store(folder, ("train", "dev", ctx.part)), element_of(ctx))
        backend = backend_for(store.meta, config)
        model = Progress(ctx).train(backend, store, config.llm, 0)
        save_adapter(model, out_of(ctx) / ADAPTER)
        ctx.beat("predict")
        readings = [reading_of(item) for item in store.parts[ctx.part]]
        beat = partial(ctx.beat, "predict")
        yield from predict(backend, model, readings, config.llm, config.decoding, beat)


def of_subject(store: FeatureStore, subject: str) -> FeatureStore:
    """Return a store with the sentences of one subject; of all, when none is named.

    Where a subject has no sentence of dev, the dev sentences of all judge its adapter.

    Raises
    ------
    DataError
        When the subject has no sentences to train on or to read.
    """
    if not subject:
        return store
    parts: dict[str, tuple[FeatureItem, ...]] = {
        part: tuple(item for item in items if item.subject == subject)
        for part, items in store.parts.items()
    }
    empty = [part for part, items in parts.items() if not items and part != "dev"]
    if empty:
        known = sorted({item.subject for items in store.parts.values() for item in items})
        msg = f"subject {subject!r} has no sentences in {' and '.join(empty)}; subjects are"
        raise DataError(f"{msg} {', '.join(known)}")
    return replace(store, parts=parts | {"dev": parts["dev"] or store.parts["dev"]})
