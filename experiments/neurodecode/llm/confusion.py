"""The errors that an encoder makes, so that a language model can be trained against them.

An encoder reads the sentences that it was trained on far better than new ones. A language model
that is tuned on those readings learns to copy. So the errors are counted on dev, and the typed
text of train is spoiled with as many.

Array names carry their axes: G gap, K character (second K: what it is read as), T typed character.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurodecode.decoding.alphabet import SYMBOLS, encode
from neurodecode.llm.alignment import Range, align, edit_distance, source_ranges
from neurodecode.llm.confusion_counts import Counts, error_spread
from neurosweep.core.errors import DataError

_Row = tuple[float, ...]
_NUM = len(SYMBOLS)
_VERSION = 1

_CALIBRATION_CHARACTERS = 15_000
_CALIBRATIONS = 3
_MAX_SCALE = 3.0
_MAX_ERROR = 0.95


@dataclass(frozen=True)
class Corrupted:
    """Hold a spoiled text.

    Attributes
    ----------
    text
        What might have been read, with single spaces between words.
    source
        Range of typed characters behind every word of it; an empty range for a word that came
        from nothing, the whole text when no word is left.
    """

    text: str
    source: tuple[Range, ...]


@dataclass(frozen=True)
class Confusions:
    """Hold how often each character is read as another, as nothing, or out of nothing.

    Attributes
    ----------
    symbols
        Characters, in the order of the rows.
    cer
        Character error rate of the readings that were counted.
    delete
        Probability that a character is missed.
    substitute
        Probability (row: typed, column: read) that it is taken for another.
    insert
        Probability that a character is read before the next one, out of nothing.
    spread
        Variance of a sentence's error rate beyond chance, relative to the squared mean.
    """

    symbols: str
    cer: float
    delete: _Row
    substitute: tuple[_Row, ...]
    insert: _Row
    spread: float

    def __post_init__(self) -> None:
        shapes = [len(self.delete), len(self.substitute), len(self.insert)]
        shapes += [len(row) for row in self.substitute]
        if self.symbols != SYMBOLS or set(shapes) != {_NUM}:
            msg = f"confusions must be of the {_NUM} characters {SYMBOLS!r} and hold no others"
            raise ValueError(msg)
        errors_K = np.array(self.delete) + np.array(self.substitute).sum(axis=1)
        values = np.concatenate([self.delete, np.ravel(self.substitute), self.insert])
        rates = [self.cer, self.spread, *values]
        if not np.isfinite(rates).all() or min(rates) < 0:
            raise ValueError("confusions must be finite and not below 0")
        if errors_K.max() > 1 + 1e-9 or sum(self.insert) >= 1 or np.trace(self.substitute) != 0:
            msg = "the error probabilities of a character must not exceed 1, nor be its own"
            raise ValueError(msg)

    @classmethod
    def fit(cls, pairs: Sequence[tuple[str, str]]) -> Confusions:
        """Count the errors of readings.

        Parameters
        ----------
        pairs
            Typed text and its reading, of sentences that the encoder was not trained on.

        Raises
        ------
        DataError
            When there is no typed character.
        ValueError
            When a text holds a character that is none of the alphabet.
        """
        if not any(typed for typed, _ in pairs):
            msg = "no typed text in dev: the encoder's errors cannot be counted; use more sentences"
            raise DataError(msg)
        alignments = align(pairs)
        counts = Counts(pairs, alignments)
        length = counts.typed_K.sum()
        errors_S = np.array([sum(e.kind != "equal" for e in edits) for edits in alignments])
        length_S = np.array([len(typed) for typed, _ in pairs])
        cer = float(errors_S.sum() / length)
        raw = cls(
            symbols=SYMBOLS,
            cer=cer,
            delete=tuple(counts.rates(counts.deleted_K).tolist()),
            substitute=tuple(tuple(row) for row in counts.substitutions().tolist()),
            insert=tuple(counts.insertions().tolist()),
            spread=error_spread(errors_S, length_S, cer),
        )
        return raw._calibrated([typed for typed, _ in pairs if typed])

    def corrupt(self, text: str, rng: np.random.Generator) -> Corrupted:
        """Return a typed text as the encoder might read it.

        Raises
        ------
        ValueError
            When the text holds a character that is none of the alphabet.
        """
        tables = self._tables
        typed_T = np.array(encode(text), dtype=int) - 1
        factor = rng.gamma(1 / self.spread, self.spread) if self.spread > 0 else 1.0
        factor_T = np.minimum(factor, tables.most_K[typed_T])
        draw_T = rng.random(len(typed_T))
        missed_T = (draw_T < factor_T * tables.delete_K[typed_T]).tolist()
        wrong_T = (draw_T < factor_T * tables.error_K[typed_T]).tolist()
        insert = min(factor * tables.insert[-1], _MAX_ERROR)
        inserted_G = (rng.geometric(1.0 - insert, len(typed_T) + 1) - 1).tolist()
        read: list[str] = []
        source: list[Range] = []
        for place in range(len(typed_T) + 1):
            for _ in range(inserted_G[place]):
                read.append(_draw(tables.insert, rng))
                source.append((place, place))
            if place == len(typed_T) or missed_T[place]:
                continue
            wrong = wrong_T[place]
            read.append(_draw(tables.substitute[typed_T[place]], rng) if wrong else text[place])
            source.append((place, place + 1))
        found = "".join(read)
        ranges = tuple(source_ranges(found, source)) or ((0, len(text)),)
        return Corrupted(" ".join(found.split()), ranges)

    def to_json(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"v": _VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> Confusions:
        """Read what `to_json` gave.

        Raises
        ------
        DataError
            When anything is missing, added, of another type or out of range.
        """
        names = {"v", *cls.__dataclass_fields__}
        try:
            if not isinstance(data, dict) or set(data) != names or data["v"] != _VERSION:
                raise ValueError(f"must hold exactly {', '.join(sorted(names))}")
            return cls(
                symbols=data["symbols"],
                cer=_number(data["cer"]),
                delete=_row(data["delete"]),
                substitute=tuple(_row(row) for row in data["substitute"]),
                insert=_row(data["insert"]),
                spread=_number(data["spread"]),
            )
        except (ValueError, TypeError) as error:
            msg = f"confusions are damaged ({error}); prepare the features again"
            raise DataError(msg) from error

    @cached_property
    def _tables(self) -> _Tables:
        delete_K, substitute_KK = np.array(self.delete), np.array(self.substitute)
        error_K = delete_K + substitute_KK.sum(axis=1)
        return _Tables(
            delete_K,
            error_K,
            _MAX_ERROR / np.maximum(error_K, 1e-12),
            np.cumsum(substitute_KK, axis=1).tolist(),
            np.cumsum(self.insert).tolist(),
        )

    def _calibrated(self, texts: Sequence[str]) -> Confusions:
        """Return rates whose corrupted texts have the error rate that was counted.

        Edits meet: a deletion beside an insertion is one substitution, so that fewer errors are
        found than are made.
        """
        repeats = max(1, _CALIBRATION_CHARACTERS // sum(map(len, texts)))
        target = min(self.cer, _MAX_ERROR)
        scaled, scale = self, 1.0
        for _ in range(_CALIBRATIONS):
            rng = np.random.default_rng(0)
            pairs = [(one, scaled.corrupt(one, rng).text) for one in texts for _ in range(repeats)]
            errors = sum(edit_distance(typed, read) for typed, read in pairs)
            found = errors / sum(len(typed) for typed, _ in pairs)
            if not found:
                break
            scale = float(np.clip(scale * target / found, 1 / _MAX_SCALE, _MAX_SCALE))
            scaled = self._scaled(scale)
        return scaled

    def _scaled(self, scale: float) -> Confusions:
        scale_K = np.minimum(scale, self._tables.most_K)
        delete_K, substitute_KK = np.array(self.delete), np.array(self.substitute)
        insert_scale = min(scale, _MAX_ERROR / max(sum(self.insert), 1e-12))
        return replace(
            self,
            delete=tuple((scale_K * delete_K).tolist()),
            substitute=tuple(tuple(row) for row in (scale_K[:, None] * substitute_KK).tolist()),
            insert=tuple((insert_scale * np.array(self.insert)).tolist()),
        )


class _Tables(NamedTuple):
    """Probabilities as `Confusions.corrupt` draws from them.

    Attributes
    ----------
    delete_K, error_K
        Probability of a deletion, and of any error.
    most_K
        Largest factor of a character's probabilities.
    substitute, insert
        Cumulative probabilities.
    """

    delete_K: npt.NDArray[np.float64]
    error_K: npt.NDArray[np.float64]
    most_K: npt.NDArray[np.float64]
    substitute: list[list[float]]
    insert: list[float]


def _draw(cumulative: Sequence[float], rng: np.random.Generator) -> str:
    place = bisect_right(cumulative, rng.random() * cumulative[-1])
    return SYMBOLS[min(place, _NUM - 1)]


def _row(values: Any) -> _Row:
    if not isinstance(values, list | tuple):
        raise TypeError(f"expected a list of numbers, got {type(values).__name__}")
    return tuple(_number(value) for value in values)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)
