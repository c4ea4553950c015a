"""Sentences from an encoder's frames, by what a finished trial tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurodecode.config import LlmRecipe
from neurodecode.llm.backend import Backend, load_backend
from neurodecode.llm.features import read_words
from neurodecode.llm.generate import generate
from neurodecode.llm.lora import load_adapter, merged
from neurodecode.llm.projector import load_projector
from neurodecode.llm.prompt import Reading
from neurodecode.training.encoder_fit import Encoded
from neurodecode.training.evaluate import pick_device
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import DataError


def read_sentences_with(
    config: LlmRecipe,
    encoded: Sequence[Encoded],
    store: Path,
    adapter: Path,
    beam: int | None = None,
) -> list[dict[str, Any]]:
    """Return what a tuned language model writes for sentences that an encoder read.

    Parameters
    ----------
    config
        Of the trial.
    encoded
        What the encoder of the store says about every sentence.
    store
        Features that the trial was tuned on: they hold the projector.
    adapter
        Folder of the trial's adapter.
    beam
        Hypotheses kept; as the trial has it unless given.

    Returns
    -------
    list of dict
        ``hypothesis``, ``logp`` and ``greedy``, the encoder's own text, of every sentence.

    Raises
    ------
    DataError, ConfigError, MissingPackageError
        When projector, language model or adapter cannot be loaded or do not belong together.
    """
    backend = backend_for(read_meta(store), config)
    projector = load_projector(store)
    readings = [
        Reading(words.item, words.greedy, words.words_WH)
        for words in read_words(encoded, projector, backend.scale)
    ]
    if not config.llm.meg_tokens:
        readings = [reading.without_words() for reading in readings]
    decoding = config.decoding.model_copy(update={} if beam is None else {"beam": beam})
    with merged(load_adapter(backend, adapter)) as base:
        found = generate(backend, base, readings, decoding)
    return [
        {"hypothesis": best.text, "logp": best.logp, "greedy": reading.greedy}
        for reading, (best, *_) in zip(readings, found, strict=True)
    ]


def backend_for(meta: Mapping[str, Any], config: LlmRecipe) -> Backend:
    """Return the language model that features were made for, on its device.

    Parameters
    ----------
    meta
        Description of the features.
    config
        Names the language model.

    Raises
    ------
    DataError
        When the features were made for another one.
    ConfigError, MissingPackageError
        When the language model cannot be loaded.
    """
    backend = load_backend(config.llm)
    made_for = str(meta.get("backend")), meta.get("hidden")
    if made_for != (backend.name, backend.hidden):
        msg = f"features were made for backend '{made_for[0]}' with vectors of {made_for[1]}, not"
        msg += f" for '{backend.name}' with vectors of {backend.hidden}; prepare them again"
        raise DataError(msg)
    if meta.get("backend_sha") not in (None, backend.sha):
        msg = f"features were made for other weights of backend '{backend.name}' than those here"
        raise DataError(f"{msg}; prepare them again")
    backend.model.to(pick_device(config.llm.device))
    return backend
