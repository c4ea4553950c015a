"""What encoders and projectors read from every part of a store of sentences.

Array names carry their axes: H hidden, W word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurodecode.config import LlmRecipe
from neurodecode.contracts import SentenceFacts
from neurodecode.llm.alignment import edit_distance
from neurodecode.llm.backend import Backend
from neurodecode.llm.confusion import Confusions
from neurodecode.llm.encoder_sources import Encoders
from neurodecode.llm.encoders import Encoder, Say
from neurodecode.llm.feature_store import FeatureItem
from neurodecode.llm.features import SentenceWords, WordTargets, read_words
from neurodecode.llm.projector import Projector
from neurodecode.llm.projector_fit import ProjectorResult, fit_projector
from neurodecode.llm.residuals import Residuals
from neurodecode.training.encoder_fit import Encoded
from neurodecode.training.sentences import SentenceSet, read_sentences, sentence_facts
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import DataError
from neurosweep.evaluation.splits import split_score

_FEW_DEV = 20
_HOPELESS_CER = 0.75


@dataclass(frozen=True)
class Reader:
    """Hold an encoder and its projector.

    Attributes
    ----------
    encoder, projector
        Frozen.
    fit
        How the projector's training went.
    scale
        Length of word vectors.
    train, dev
        What the encoder says about the sentences that the projector was trained and judged on.
    """

    encoder: Encoder
    projector: Projector
    fit: ProjectorResult
    scale: float
    train: Sequence[Encoded]
    dev: Sequence[Encoded]

    def words(self, encoded: Sequence[Encoded]) -> list[SentenceWords]:
        """Return text and word vectors."""
        return read_words(encoded, self.projector, self.scale)


@dataclass(frozen=True)
class Features:
    """Hold everything that is read from the sentences of a store.

    Attributes
    ----------
    reader
        What reads dev, val and test, and train where nothing is cross-fitted.
    parts
        Items of every part.
    confusions, residuals
        Errors on dev.
    num_folds
        Folds of cross-fitting; 0 for none.
    """

    reader: Reader
    parts: Mapping[str, tuple[FeatureItem, ...]]
    confusions: Confusions
    residuals: Residuals
    num_folds: int

    def summary(self) -> dict[str, Any]:
        """Return what people are told of encoder and projector."""
        encoder = self.reader.encoder
        return {
            "encoder": {
                "dev_cer": self.cer("dev"),
                "train_cer": self.cer("train"),
                "epochs": encoder.fit.get("epochs"),
                "best_epoch": encoder.fit.get("best_epoch"),
                "seconds": encoder.fit.get("seconds"),
                "parameters": encoder.parameters,
                "sha": encoder.sha,
                "cross_fit": self.num_folds,
            },
            "projector": {
                "dev_accuracy": _rounded(self.reader.fit.dev_accuracy),
                "dev_cosine": _rounded(_mean(self.residuals.cosine_R.tolist())),
                "epochs": self.reader.fit.epochs,
                "best_epoch": self.reader.fit.best_epoch,
                "parameters": sum(one.numel() for one in self.reader.projector.parameters()),
            },
        }

    def cer(self, part: str) -> float | None:
        """Return the mean over sentences of the greedy text's edits per typed character."""
        pairs = [(one.typed, one.greedy) for one in self.parts[part] if one.typed]
        rates = [edit_distance(typed, read) / len(typed) for typed, read in pairs]
        return _rounded(_mean(rates))

    @property
    def warnings(self) -> list[str]:
        """What makes the features doubtful."""
        found = []
        num_dev, dev_cer = len(self.parts["dev"]), self.cer("dev")
        if num_dev < _FEW_DEV:
            found.append(f"the encoder's errors are counted on {num_dev} dev sentences only")
        if dev_cer is not None and dev_cer > _HOPELESS_CER:
            msg = f"the encoder reads hardly anything (character error rate {dev_cer:.2f} on dev):"
            found.append(f"{msg} a language model cannot mend that")
        return found


def num_folds(config: LlmRecipe) -> int:
    """Return the folds of cross-fitting; 0 for none."""
    return config.encoder.cross_fit if config.encoder.cross_fit >= 2 else 0


def fold_of(text: str, folds: int) -> int:
    """Return the fold of a sentence, which depends on its text alone."""
    return int(split_score(f"fold\n{text}") * folds)


def folds_of(sentences: SentenceSet, folds: int) -> npt.NDArray[np.int64]:
    """Return the fold of every sentence."""
    return np.array([fold_of(one.text or "", folds) for one in sentences.spans], dtype=np.int64)


def make_features(
    config: LlmRecipe,
    stores: tuple[Path, Path | None],
    encoders: Encoders,
    say: Say,
    backend: Backend,
) -> Features:
    """Read every part, and train the projectors that this needs.

    Parameters
    ----------
    config
        Configuration of the language-model stage.
    stores
        Sentences, and those of the sealed test, where these are read too.
    encoders
        Where the encoders come from.
    say
        Tells progress, a line at a time.
    backend
        Language model whose word vectors are the targets.

    Raises
    ------
    ConfigError, DataError
        When an encoder does not fit, or a store is damaged.
    """
    return _Preparation(config, stores, encoders, say, backend).run()


class _Preparation:
    """Make features; the arguments are those of `make_features`."""

    def __init__(
        self,
        config: LlmRecipe,
        stores: tuple[Path, Path | None],
        encoders: Encoders,
        say: Say,
        backend: Backend,
    ) -> None:
        self.config, self.encoders, self.say = config, encoders, say
        self.store, self.sealed = stores
        self.facts: SentenceFacts = sentence_facts(read_meta(self.store))
        self.targets = WordTargets(backend.word_target, backend.scale, backend.hidden)

    def run(self) -> Features:
        """Return all features."""
        train, dev = (self._sentences(self.store, part) for part in ("train", "dev"))
        reader = self._reader(self.encoders.whole(train, dev), train, dev)
        parts = {"dev": _items(dev, reader.words(reader.dev))}
        folds = num_folds(self.config)
        own = self._cross_fitted(train, dev, folds) if folds else reader.words(reader.train)
        parts["train"] = _items(train, own)
        for part, folder in (("val", self.store), ("test", self.sealed)):
            if folder is not None:
                unseen = self._sentences(folder, part)
                parts[part] = _items(unseen, reader.words(reader.encoder.read(unseen)))
        errors = [SentenceWords(i.item, i.greedy, i.words_WH, i.typed) for i in parts["dev"]]
        features = Features(
            reader,
            parts,
            Confusions.fit([(one.typed or "", one.greedy) for one in parts["dev"]]),
            Residuals.measure(errors, self.targets),
            folds,
        )
        self._tell(features)
        return features

    def _sentences(self, folder: Path, part: str) -> SentenceSet:
        return read_sentences(folder, part, self.facts.subjects)

    def _reader(self, encoder: Encoder, train: SentenceSet, dev: SentenceSet) -> Reader:
        encoded_train, encoded_dev = encoder.read(train), encoder.read(dev)
        projector, fit = fit_projector(
            (encoded_train, train.typed()),
            (encoded_dev, dev.typed()),
            self.targets,
            self.config.projector,
            seed=self.config.encoder.seed,
        )
        return Reader(encoder, projector, fit, self.targets.scale, encoded_train, encoded_dev)

    def _cross_fitted(
        self, train: SentenceSet, dev: SentenceSet, folds: int
    ) -> list[SentenceWords]:
        """Return every training sentence as an encoder reads it that never saw its text."""
        fold_N = folds_of(train, folds)
        if len(set(fold_N.tolist())) < 2:
            msg = f"encoder.cross_fit: all {len(train)} training sentences fall into one of {folds}"
            raise DataError(f"{msg} folds; use more different sentences")
        found: dict[int, SentenceWords] = {}
        for fold in sorted(set(fold_N.tolist())):
            rows = np.flatnonzero(fold_N == fold).tolist()
            seen = train.subset(np.flatnonzero(fold_N != fold).tolist())
            encoder = self.encoders.without((fold, folds), seen, dev)
            reader = self._reader(encoder, seen, dev)
            words = reader.words(encoder.read(train.subset(rows)))
            found |= dict(zip(rows, words, strict=True))
        return [found[row] for row in range(len(train))]

    def _tell(self, features: Features) -> None:
        fit = features.reader.fit
        how = f"{features.num_folds} other encoders" if features.num_folds else "the same encoder"
        self.say(
            f"greedy character error rate: dev {features.cer('dev')}, train {features.cer('train')}"
            f" (read by {how})"
        )
        self.say(
            f"projector: {_rounded(fit.dev_accuracy)} of dev words are nearest to their own vector"
        )


def _items(sentences: SentenceSet, words: Sequence[SentenceWords]) -> tuple[FeatureItem, ...]:
    items = []
    for span, one in zip(sentences.spans, words, strict=True):
        subject, recording, _ = span.item.split("/")
        items.append(
            FeatureItem(
                span.item, subject, recording, one.greedy, one.words_WH, span.typed, span.text
            )
        )
    return tuple(items)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
