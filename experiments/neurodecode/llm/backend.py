"""A causal language model, its tokenizer, and what words look like to it.

Array names carry their axes: H hidden, L token, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurodecode.llm.config import BACKENDS, LlmConfig
from neurodecode.llm.fingerprint import fingerprint_files
from neurodecode.llm.word_vectors import centre_and_scale, word_vector
from neurosweep.core.plugins import load_plugin

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Backend:
    """Hold a language model.

    Attributes
    ----------
    name
        Name of the module that loaded it.
    model
        Causal language model of transformers, float32, frozen, in evaluation mode.
    tokenizer
        Its tokenizer.
    eos_id, pad_id
        Tokens that end a sentence and fill up a batch.
    files
        The files that it was loaded from.
    """

    name: str
    model: Any
    tokenizer: Any
    eos_id: int
    pad_id: int
    files: tuple[Path, ...]

    @property
    def hidden(self) -> int:
        """Length of an embedding."""
        return int(self.embeddings.shape[1])

    @property
    def embeddings(self) -> Tensor:
        """Static input embeddings."""
        weight: Tensor = self.model.get_input_embeddings().weight.detach()
        return weight

    @cached_property
    def sha(self) -> str:
        """Fingerprint of the files: equal content, equal fingerprint."""
        return fingerprint_files(self.files)

    @cached_property
    def spells(self) -> bool:
        """Whether every letter and the space are one token each, as in a character model."""
        pangram = "the quick brown fox jumps over a lazy dog"
        return len(self.encode(pangram)) == len(pangram)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without any that begin or end one."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens, without special ones."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def embed(self, ids: Iterable[int]) -> Tensor:
        """Return static embeddings (token, hidden)."""
        return self.embeddings[torch.tensor(list(ids), dtype=torch.long)]

    @property
    def scale(self) -> float:
        """Norm of the vectors of words: the root mean square of the norms of embeddings."""
        return self._centre_and_scale[1]

    def word_target(self, text: str) -> Tensor:
        """Return the vector (hidden,) of a word, of norm `scale`.

        It is the mean of the static embeddings of the word's tokens. A character model's words
        all share most of that mean, so the mean of its letters is taken off; tokens of other
        models are words or large parts of them, encoded as they stand within a sentence, after a
        space.
        """
        centre_H, scale = self._centre_and_scale
        ids = self.encode(text if self.spells else f" {text}")
        return word_vector(self.embeddings, ids, centre_H, scale)

    @cached_property
    def _centre_and_scale(self) -> tuple[Tensor, float]:
        weight_VH = self.embeddings
        ids = self.encode(_LETTERS) if self.spells else range(len(weight_VH))
        centre_H, scale = centre_and_scale(weight_VH, ids)
        return centre_H if self.spells else torch.zeros_like(centre_H), float(scale)


def load_backend(config: LlmConfig) -> Backend:
    """Return the language model that a configuration names.

    Raises
    ------
    PluginError
        When no backend has the name.
    MissingPackageError
        When it needs a package that is not installed.
    DataError, ConfigError
        When its files are missing, damaged or no causal language model.
    """
    module = load_plugin(BACKENDS, config.backend, needs=("load",))
    backend: Backend = module.load(config)
    return backend


def weights_sha(config: LlmConfig) -> str:
    """Return the fingerprint of a language model's files without loading them.

    Raises
    ------
    PluginError, MissingPackageError, DataError, ConfigError
        When no backend has the name, or its files are not there.
    """
    module = load_plugin(BACKENDS, config.backend, needs=("load", "files"))
    return fingerprint_files(module.files(config))


def check_backend(config: LlmConfig) -> None:
    """Refuse a language model that is plainly not there, without loading it.

    A backend may have a function ``check(config)``, which raises what ``load`` would.

    Raises
    ------
    PluginError, MissingPackageError, DataError, ConfigError
        As `load_backend`.
    """
    module = load_plugin(BACKENDS, config.backend, needs=("load",))
    if hasattr(module, "check"):
        module.check(config)
