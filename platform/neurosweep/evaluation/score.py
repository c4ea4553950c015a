"""Scores of a trial: per item, per subject, over subjects, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from neurosweep.core.errors import DataError, PredictionsError
from neurosweep.evaluation.classification import CountArray, balanced_error, window_counts
from neurosweep.evaluation.intervals import (
    Interval,
    Statistic,
    mean_of,
    nested_bootstrap,
    percentile_bounds,
    wilson,
)
from neurosweep.evaluation.prediction_lines import Prediction
from neurosweep.evaluation.rates import Edits, symbol_edits, text_edits
from neurosweep.evaluation.references import Reference
from neurosweep.evaluation.text import NORMALISATION, is_symbol
from neurosweep.evaluation.variants import variant_edits, variant_problems

Unit = Literal["symbol", "sentence"]
LEVEL = 0.95


@dataclass(frozen=True)
class ItemScore:
    """Hold the score of one item.

    Attributes
    ----------
    item, subject
        Which item, and whose.
    word, char
        Edits between reference and hypothesis.
    windows
        Wrong windows and all windows; None where windows have no labels or were not predicted.
    missing
        Whether the job gave no prediction, which counts as an empty one.
    variants
        Name of another output of the job to its word edits and character edits.
    """

    item: str
    subject: str
    word: Edits
    char: Edits
    windows: tuple[int, int] | None = None
    missing: bool = False
    variants: Mapping[str, tuple[Edits, Edits]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON data."""
        data: dict[str, Any] = {
            "item": self.item,
            "subject": self.subject,
            "wer": self.word.rate,
            "cer": self.char.rate,
            "word": self.word.to_dict(),
            "char": self.char.to_dict(),
        }
        if self.windows is not None:
            data["window"] = {"errors": self.windows[0], "n": self.windows[1]}
        if self.missing:
            data["missing"] = True
        if self.variants:
            data["variants"] = {
                name: {"wer": word.rate, "cer": char.rate}
                for name, (word, char) in self.variants.items()
            }
        return data


@dataclass(frozen=True)
class Scores:
    """Hold the scores of one trial.

    Attributes
    ----------
    unit
        ``symbol`` when an item is one symbol or class, ``sentence`` otherwise.
    items
        Scores of the items, ordered by name.
    per_subject
        Subject to metric to its mean over the items of the subject.
    metrics
        Metric to its mean over subjects: ``val_wer``, ``val_cer``; for symbols ``val_acc``, and
        the other two are the share of wrong symbols; ``val_window_err`` where windows are
        labelled and predicted: the error per window balanced over classes; ``val_wer_<name>``
        and ``val_cer_<name>`` for every variant.
    sem
        Standard error of the mean over subjects; None with fewer than two subjects.
    corpus
        ``wer`` and ``cer`` of all items as one text: all edits by all units.
    intervals
        Metric to its interval.
    """

    unit: Unit
    items: tuple[ItemScore, ...]
    per_subject: Mapping[str, Mapping[str, float]]
    metrics: Mapping[str, float]
    sem: Mapping[str, float | None]
    corpus: Mapping[str, float]
    intervals: Mapping[str, Interval]

    @property
    def num_missing(self) -> int:
        """Items without a prediction."""
        return sum(item.missing for item in self.items)

    def interval(self, metric: str) -> dict[str, Any]:
        """Return the interval of a metric as JSON data; empty when the metric was not scored."""
        found = self.intervals.get(metric)
        return {} if found is None else found.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON data."""
        return {
            "v": 1,
            "unit": self.unit,
            "normalisation": NORMALISATION if self.unit == "sentence" else "Unicode NFC",
            "metrics": dict(self.metrics),
            "sem": dict(self.sem),
            "corpus": dict(self.corpus),
            "intervals": {name: value.to_dict() for name, value in self.intervals.items()},
            "per_subject": {name: dict(means) for name, means in self.per_subject.items()},
            "num_items": len(self.items),
            "num_missing": self.num_missing,
            "items": [item.to_dict() for item in self.items],
        }


def score(
    predictions: Mapping[str, Prediction],
    refs: Mapping[str, Reference],
    *,
    seed: int = 0,
    unit: Unit | None = None,
) -> Scores:
    """Score predictions against references.

    Parameters
    ----------
    predictions
        Item to prediction. An absent item counts as an empty prediction.
    refs
        Item to reference; every one is scored.
    seed
        Seed of the bootstrap. The order of items never matters.
    unit
        What an item is; by default ``symbol`` when no reference has two words.

    Raises
    ------
    DataError
        When there are no references, or one is empty.
    PredictionsError
        When an item is unknown, predicts another number of windows than it has, or lacks a
        variant that others have.
    """
    _check(predictions, refs)
    ordered = {item: refs[item] for item in sorted(refs)}
    if unit is None:
        unit = "symbol" if all(is_symbol(ref.text) for ref in ordered.values()) else "sentence"
    texts = {item: ref.text for item, ref in ordered.items()}
    guesses = {item: prediction.hypothesis for item, prediction in predictions.items()}
    count = symbol_edits if unit == "symbol" else text_edits
    edits, variants = count(texts, guesses), variant_edits(predictions, texts, count)
    windows = _Windows.of(predictions, ordered)
    items = tuple(
        ItemScore(
            item=item,
            subject=ref.subject,
            word=edits[item][0],
            char=edits[item][1],
            windows=windows.of_item(item),
            missing=item not in predictions or predictions[item].missing,
            variants=variants[item],
        )
        for item, ref in ordered.items()
    )
    return _summary(unit, items, windows, seed)


def _check(predictions: Mapping[str, Prediction], refs: Mapping[str, Reference]) -> None:
    if not refs:
        msg = "there are no references to score against; prepare data with a validation part"
        raise DataError(msg)
    unknown = sorted(set(predictions) - set(refs))
    problems = [f"unknown item {item!r}" for item in unknown[:10]]
    for item, ref in refs.items():
        given = predictions[item].windows if item in predictions else None
        if given is not None and ref.windows is not None and len(given) != len(ref.windows):
            problems.append(
                f"item {item!r}: predicts {len(given)} windows, it has {len(ref.windows)}"
            )
    problems += variant_problems(predictions)
    if problems:
        raise PredictionsError("cannot be scored\n  " + "\n  ".join(problems[:20]))


@dataclass(frozen=True)
class _Windows:
    """Hold wrong and all windows, both (item, class), with the row of every item."""

    rows: Mapping[str, int]
    wrong: CountArray
    total: CountArray

    @classmethod
    def of(cls, predictions: Mapping[str, Prediction], refs: Mapping[str, Reference]) -> _Windows:
        truths = {item: ref.windows for item, ref in refs.items() if ref.windows}
        guesses = {item: prediction.windows for item, prediction in predictions.items()}
        if all(guesses.get(item) is None for item in truths):
            truths = {}
        items, wrong, total = window_counts(truths, guesses)
        return cls({item: row for row, item in enumerate(items)}, wrong, total)

    def of_item(self, item: str) -> tuple[int, int] | None:
        row = self.rows.get(item)
        return None if row is None else (int(self.wrong[row].sum()), int(self.total[row].sum()))

    def statistic(self, items: Sequence[str]) -> tuple[int, Statistic] | None:
        rows = [self.rows[item] for item in items if item in self.rows]
        if not rows:
            return None
        wrong, total = self.wrong[rows].astype(np.float64), self.total[rows].astype(np.float64)
        return len(rows), lambda counts: balanced_error(counts @ wrong, counts @ total)


_SubjectStatistics = dict[str, dict[str, tuple[int, Statistic]]]


def _summary(unit: Unit, items: tuple[ItemScore, ...], windows: _Windows, seed: int) -> Scores:
    statistics = _statistics(unit, items, windows)
    names = sorted({name for of_subject in statistics.values() for name in of_subject})
    per_subject = {
        subject: {
            name: _rounded(statistic(np.ones((1, count)))[0])
            for name, (count, statistic) in of_subject.items()
        }
        for subject, of_subject in statistics.items()
    }
    metrics: dict[str, float] = {}
    sem: dict[str, float | None] = {}
    intervals: dict[str, Interval] = {}
    for name in names:
        means = [of_subject[name] for of_subject in per_subject.values() if name in of_subject]
        metrics[name] = _rounded(np.mean(means))
        sem[name] = _sem(means)
        intervals[name] = _interval(name, unit, items, statistics, seed)
    return Scores(unit, items, per_subject, metrics, sem, _corpus(items), intervals)


def _rounded(value: Any) -> float:
    # Equal errors on other items must give equal rates: the last bits depend on the order of sums.
    return round(float(value), 12)


def _statistics(unit: Unit, items: Sequence[ItemScore], windows: _Windows) -> _SubjectStatistics:
    grouped: dict[str, list[ItemScore]] = {}
    for item in items:
        grouped.setdefault(item.subject, []).append(item)
    statistics: _SubjectStatistics = {}
    for subject, own in sorted(grouped.items()):
        wer = np.array([item.word.rate for item in own])
        cer = np.array([item.char.rate for item in own])
        found = {"val_wer": (len(own), mean_of(wer)), "val_cer": (len(own), mean_of(cer))}
        if unit == "symbol":
            found["val_acc"] = (len(own), mean_of(1.0 - cer))
        of_windows = windows.statistic([item.item for item in own])
        if of_windows is not None:
            found["val_window_err"] = of_windows
        for name in own[0].variants:
            for place, rate in enumerate(("wer", "cer")):
                values = np.array([item.variants[name][place].rate for item in own])
                found[f"val_{rate}_{name}"] = (len(own), mean_of(values))
        statistics[subject] = found
    return statistics


def _interval(
    name: str,
    unit: Unit,
    items: Sequence[ItemScore],
    statistics: _SubjectStatistics,
    seed: int,
) -> Interval:
    subjects = [of_subject[name] for of_subject in statistics.values() if name in of_subject]
    share = unit == "symbol" and name in ("val_wer", "val_cer", "val_acc")
    wrong = sum(item.char.total for item in items)
    # A bootstrap of shares that are all 0 or all 1 would claim certainty.
    if share and (len(subjects) == 1 or wrong in (0, len(items))):
        count = len(items) - wrong if name == "val_acc" else wrong
        return Interval(name, *wilson(count, len(items), LEVEL), LEVEL, "wilson")
    bounds = percentile_bounds(nested_bootstrap(subjects, seed=seed), LEVEL)
    method = "bootstrap over " + ("subjects and items" if len(subjects) > 1 else "items")
    return Interval(name, *bounds, LEVEL, method)


def _sem(means: Sequence[float]) -> float | None:
    if len(means) < 2:
        return None
    return float(np.std(means, ddof=1) / math.sqrt(len(means)))


def _corpus(items: Sequence[ItemScore]) -> dict[str, float]:
    return {
        "wer": sum(item.word.total for item in items) / sum(item.word.length for item in items),
        "cer": sum(item.char.total for item in items) / sum(item.char.length for item in items),
    }
