"""Where the encoders come from that read sentences for a language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from neurodecode.config import LlmRecipe
from neurodecode.contracts import SentenceFacts
from neurodecode.llm.encoders import Encoder, EncoderTraining, Say, given_encoder, trained_encoder
from neurodecode.training.sentences import SentenceSet


class Encoders(Protocol):
    """Where the encoders come from that read the sentences."""

    def whole(self, train: SentenceSet, dev: SentenceSet) -> Encoder:
        """Return the encoder that reads all but cross-fitted sentences."""
        ...

    def without(self, fold: tuple[int, int], seen: SentenceSet, dev: SentenceSet) -> Encoder:
        """Return an encoder of the sentences outside one of so many folds."""
        ...


@dataclass(frozen=True)
class OwnEncoders:
    """Give the encoder that a recipe names, and train what it does not.

    Attributes
    ----------
    config
        Configuration.
    data_fp, facts
        Of the sentences.
    cache
        Folder of trained encoders.
    say
        Tells progress.
    """

    config: LlmRecipe
    data_fp: str
    facts: SentenceFacts
    cache: Path
    say: Say

    def whole(self, train: SentenceSet, dev: SentenceSet) -> Encoder:
        """Return the encoder that the recipe names, or one trained on all sentences."""
        if given := self.config.encoder.checkpoint:
            device = self.config.training.device
            return given_encoder(Path(given).expanduser(), self.facts, device)
        training = EncoderTraining(self.config, self.data_fp, self.facts)
        return trained_encoder(training, train, dev, self.cache, self.say)

    def without(self, fold: tuple[int, int], seen: SentenceSet, dev: SentenceSet) -> Encoder:
        """Return an encoder trained on the sentences outside a fold."""
        training = EncoderTraining(self.config, self.data_fp, self.facts, fold)
        return trained_encoder(training, seen, dev, self.cache, self.say)
