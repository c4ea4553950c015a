"""Where training sentences of the language model come from.

Array names carry their axes: H hidden, W word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from neurodecode.llm.features import WordTargets, noisy_words
from neurodecode.llm.prompt import Reading

if TYPE_CHECKING:
    from neurodecode.llm.confusion import Confusions
    from neurodecode.llm.feature_store import FeatureItem
    from neurodecode.llm.residuals import Residuals


def reading_of(item: FeatureItem) -> Reading:
    """Return what the encoder read of a stored sentence; the target is the sentence shown."""
    return Reading(item.item, item.greedy, item.words_WH, item.text)


class Source(Protocol):
    """Gives the training sentences of every pass; noise may make each pass another."""

    def __len__(self) -> int:
        """Return the number of sentences of a pass."""
        ...

    def readings(self, epoch: int) -> Sequence[Reading]:
        """Return the sentences of a pass, counted from 1, with their targets."""
        ...


class WithoutWords:
    """Give the sentences of another source without word vectors.

    Parameters
    ----------
    source
        Where they come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._source)

    def readings(self, epoch: int) -> Sequence[Reading]:
        """Return the sentences of a pass."""
        return [reading.without_words() for reading in self._source.readings(epoch)]


class StoredSource:
    """Give the encoder's own readings, the same in every pass.

    Honest only where the encoder that read a sentence was not trained on it: an encoder reads its
    own training sentences far better than new ones, and what is tuned on them learns to copy.

    Parameters
    ----------
    readings
        Sentences with targets.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = tuple(readings)

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._readings)

    def readings(self, epoch: int) -> Sequence[Reading]:  # noqa: ARG002 - every pass is the same
        """Return the sentences."""
        return self._readings


class NoisySource:
    """Give typed texts with fresh errors of the encoder's kind in every pass.

    Parameters
    ----------
    items
        Sentences of train; of each, what was typed and what was to be typed.
    confusions, residuals
        The encoder's errors on dev, in text and in word vectors.
    targets
        True vector of any word.
    seed
        Decides the errors, together with the pass.
    """

    def __init__(
        self,
        items: Sequence[FeatureItem],
        confusions: Confusions,
        residuals: Residuals,
        targets: WordTargets,
        seed: int,
    ) -> None:
        self._items = tuple(items)
        self._confusions, self._residuals, self._targets = confusions, residuals, targets
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._items)

    def readings(self, epoch: int) -> Sequence[Reading]:
        """Return the sentences with the errors of a pass."""
        rng = np.random.default_rng([self._seed, epoch])
        return [self._noisy(item, rng) for item in self._items]

    def _noisy(self, item: FeatureItem, rng: np.random.Generator) -> Reading:
        typed = item.typed if item.typed is not None else item.text or ""
        greedy, words_WH = noisy_words(typed, self._confusions, self._residuals, self._targets, rng)
        return Reading(item.item, greedy, words_WH, item.text)
