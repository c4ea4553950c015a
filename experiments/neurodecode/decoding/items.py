"""From class probabilities of windows to one hypothesis an item.

Array names carry their axes: K class, S symbol, W window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurodecode.decoding.code_fit import rank, symbol_scores
from neurodecode.decoding.config import DecodingConfig
from neurodecode.training.windows import Span, WindowSet
from neurosweep.core.errors import DataError
from neurosweep.evaluation.classification import CLASS_ALPHABET, encode_windows

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Hypothesis:
    """Hold what is read from one item.

    Attributes
    ----------
    item
        Which one.
    nbest
        Texts with their log-probabilities, best first.
    windows
        Class of every window, one character each; None with more classes than characters.
    """

    item: str
    nbest: tuple[tuple[str, float], ...]
    windows: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the hypothesis as a line of predictions."""
        text, log_p = self.nbest[0]
        line: dict[str, Any] = {
            "item": self.item,
            "hypothesis": text,
            "logp": log_p,
            "nbest": [[text, log_p] for text, log_p in self.nbest],
        }
        if self.windows is not None:
            line["windows"] = self.windows
        return line


def log_prior(target_W: npt.NDArray[np.integer], num_classes: int) -> npt.NDArray[np.float64]:
    """Return the log-frequency of every class; one window more is counted for each."""
    count_K = np.bincount(target_W, minlength=num_classes) + 1.0
    prior_K: npt.NDArray[np.float64] = np.log(count_K / count_K.sum())
    return prior_K


def decode(
    windows: WindowSet,
    log_p_WK: FloatArray,
    log_prior_K: FloatArray,
    symbols: Sequence[str],
    config: DecodingConfig,
) -> Iterator[Hypothesis]:
    """Yield a hypothesis for every item.

    Parameters
    ----------
    windows
        Windows and items; an item with codes is read as the symbol whose code fits best, one
        without must be a single window, whose class is the text.
    log_p_WK
        Log-probability of every class in every window.
    log_prior_K
        Log-frequency of classes in training, taken off before a code is fitted: a code says
        what was shown, so that a rare class is no less likely for being rare.
    symbols
        Text of every class, for items without codes.
    config
        Options.

    Raises
    ------
    DataError
        When an item without codes has several windows.
    """
    for span in windows.spans:
        item_WK = log_p_WK[span.start : span.stop]
        if span.codes_WS is not None:
            scores_S = symbol_scores(item_WK - log_prior_K, span.codes_WS)
            nbest = rank(scores_S, span.symbols, config.nbest, config.temperature)
        else:
            nbest = rank(_single(span, item_WK), symbols, config.nbest, config.temperature)
        yield Hypothesis(span.item, tuple(nbest), _classes(item_WK))


def _single(span: Span, item_WK: FloatArray) -> FloatArray:
    if len(item_WK) != 1:
        msg = f"item {span.item} has {len(item_WK)} windows and no codes; expected one window"
        raise DataError(msg)
    scores_K: FloatArray = item_WK[0]
    return scores_K


def _classes(item_WK: FloatArray) -> str | None:
    if item_WK.shape[1] > len(CLASS_ALPHABET):
        return None
    return encode_windows([int(label) for label in item_WK.argmax(axis=1)])
