"""One training job of the language-model stage: features in, predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

# A fork server imports this module once for all trials; transformers would import the parts of
# itself in every one of them.
import transformers.models.auto.modeling_auto
import transformers.models.llama.modeling_llama  # noqa: F401
from peft import PeftModel, set_peft_model_state_dict

from neurodecode.config import LlmRecipe, read_config
from neurodecode.jobs.folds import Numbering, fold_name, fold_seed, job_arithmetic
from neurodecode.llm.backend import Backend
from neurodecode.llm.config import LlmConfig, LlmDecodingConfig
from neurodecode.llm.feature_store import FeatureStore, read_feature_store
from neurodecode.llm.features import WordTargets
from neurodecode.llm.generate import LlmHypothesis, generate
from neurodecode.llm.lora import adapter_weights, attach, merged, save_adapter
from neurodecode.llm.prompt import Reading
from neurodecode.llm.reading import backend_for
from neurodecode.llm.sources import NoisySource, Source, StoredSource, WithoutWords, reading_of
from neurodecode.llm.train import train_lora
from neurodecode.training.beat import Beat, silent
from neurosweep.exec.job_api import JobContext

ADAPTER = "adapter"


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Tune an adapter on stored features, keep it, and write the sentences of a part.

    With several folds, each tunes an adapter of its own; the first one is ``ckpt/adapter``, the
    others are ``ckpt/adapter01`` and so on.

    Parameters
    ----------
    ctx
        Configuration, seed, stores of features, and ways to report progress.

    Yields
    ------
    dict
        One prediction an item: ``item``, ``hypothesis``, ``logp``, ``nbest``, and ``variants``:
        ``greedy``, the encoder's own text, and ``no_meg``, what is written without word vectors.

    Raises
    ------
    neurosweep.exec.job_api.Diverged
        When a loss is not finite.
    neurosweep.core.errors.DataError
        When a store is damaged or was made for another language model.
    """
    config = read_config(ctx.config, "run.json config")
    assert isinstance(config, LlmRecipe)
    progress = Progress(ctx)
    with job_arithmetic(ctx.threads):
        for number, folder in enumerate(ctx.folds):
            ctx.beat(f"load fold {number}")
            store = read_feature_store(folder, ("train", "dev", ctx.part))
            backend = backend_for(store.meta, config)
            model = progress.train(backend, store, config.llm, number)
            name = fold_name(ADAPTER, number)
            save_adapter(model, ctx.ckpt_dir / name)
            ctx.beat(f"predict fold {number}")
            readings = [reading_of(item) for item in store.parts[ctx.part]]
            beat = partial(ctx.beat, f"predict fold {number}")
            yield from predict(backend, model, readings, config.llm, config.decoding, beat)


def predict(
    backend: Backend,
    model: PeftModel,
    readings: Sequence[Reading],
    config: LlmConfig,
    decoding: LlmDecodingConfig,
    beat: Beat = silent,
) -> Iterator[dict[str, Any]]:
    """Yield what is written for every reading, as lines of predictions.

    Parameters
    ----------
    backend, model
        Language model, and the same with a tuned adapter.
    readings
        What the encoder read.
    config
        Whether word vectors are given.
    decoding
        Beams and lengths, and whether variants are wanted.
    beat
        Called after every batch of sentences.
    """
    given = list(readings) if config.meg_tokens else _without_words(readings)
    asked = given + (_without_words(readings) if decoding.variants and config.meg_tokens else [])
    with merged(model) as base:
        found = generate(backend, base, asked, decoding, beat)
    for number, reading in enumerate(readings):
        line = _line(reading.item, found[number])
        if decoding.variants:
            line["variants"] = {"greedy": " ".join(reading.greedy.split())}
            if config.meg_tokens:
                line["variants"]["no_meg"] = found[len(given) + number][0].text
        yield line


def _line(item: str, hypotheses: Sequence[LlmHypothesis]) -> dict[str, Any]:
    best = hypotheses[0]
    nbest = [[hypothesis.text, hypothesis.logp] for hypothesis in hypotheses]
    return {"item": item, "hypothesis": best.text, "logp": best.logp, "nbest": nbest}


def _without_words(readings: Sequence[Reading]) -> list[Reading]:
    return [reading.without_words() for reading in readings]


def training_source(backend: Backend, store: FeatureStore, noise: str, seed: int) -> Source:
    """Return the training sentences of a store.

    Parameters
    ----------
    backend
        The language model whose word vectors are given.
    store
        Features with the encoder's errors.
    noise
        ``confusion`` for typed text with those errors, ``none`` for the encoder's readings.
    seed
        Decides the errors.
    """
    if noise == "none":
        return StoredSource([reading_of(item) for item in store.parts["train"]])
    targets = WordTargets(backend.word_target, backend.scale, backend.hidden)
    items = store.parts["train"]
    return NoisySource(items, store.confusions, store.residuals, targets, seed)


class Progress(Numbering):
    """Train folds and number their steps and epochs through."""

    def train(
        self, backend: Backend, store: FeatureStore, config: LlmConfig, number: int
    ) -> PeftModel:
        """Return the model with an adapter tuned on a fold; seed and fold alone decide it."""
        seed = fold_seed(self.ctx.seed, number)
        weights = self.trained(number)
        if weights is not None:
            model = attach(backend, config, seed)
            set_peft_model_state_dict(model, weights)
            return model.eval()
        source = training_source(backend, store, config.noise, seed)
        dev = [reading_of(item) for item in store.parts["dev"]]
        if not config.meg_tokens:
            dev = _without_words(dev)
            source = WithoutWords(source)
        model = train_lora(
            backend,
            source,
            dev,
            config,
            seed=seed,
            log=self.log_of(number),
            beat=partial(self.ctx.beat, f"train fold {number}"),
            interrupts=self.interrupts_of(number),
        )
        self.keep(number, adapter_weights(model))
        return model
