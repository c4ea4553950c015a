"""What the best trial decoded: example sentences, and its stages side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurosweep.core.errors import DataError, PredictionsError
from neurosweep.evaluation.intervals import paired_difference
from neurosweep.evaluation.prediction_lines import Prediction
from neurosweep.evaluation.predictions import load_predictions
from neurosweep.evaluation.references import Reference, read_references
from neurosweep.records.metric_names import variant_label
from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.score_files import read_scores
from neurosweep.records.state import TrialState
from neurosweep.records.trial import Purpose
from neurosweep.report.data import ReportData
from neurosweep.report.marks import marked
from neurosweep.report.stats import mean_sd

_NUM_SHOWN = 10
_BEFORE = ("greedy",)
"""Variants that come before the hypothesis: earlier stages of the decoder."""


@dataclass(frozen=True)
class _Scored:
    """Hold what one trial predicted, with its scores."""

    predictions: Mapping[str, Prediction]
    references: Mapping[str, Reference]
    items: Mapping[str, Mapping[str, Any]]
    intervals: Mapping[str, Mapping[str, Any]]
    outputs: Sequence[str]

    def rate(self, item: str, output: str, rate: str = "wer") -> float:
        """Return an error rate of one output of one item; the empty output is the hypothesis."""
        found = self.items[item]
        return float(found["variants"][output][rate] if output else found[rate])

    def text(self, item: str, output: str) -> str:
        """Return one output of one item."""
        prediction = self.predictions[item]
        return prediction.variants.get(output, "") if output else prediction.hypothesis


def sentence_section(data: ReportData) -> dict[str, Any] | None:
    """Return the section of example sentences, or None where items are symbols or texts are gone.

    Predictions, scores and references are used only as the ledger knows them.
    """
    best = data.best
    scored = None if best is None else _scored(data, best)
    if best is None or scored is None:
        return None
    return {
        "note": _note(data, best, scored),
        "outputs": [_output_label(data, output) for output in scored.outputs],
        "rows": [_row(scored, item) for item in spread(scored)],
        "rates": _rates(data, best, scored),
        "compared": len(scored.outputs) > 1,
        "main": _output_label(data, ""),
        "resampled": "sentences" if _num_subjects(scored) < 2 else "subjects and sentences",
    }


def _scored(data: ReportData, trial: TrialState) -> _Scored | None:
    folder = data.study.trial(trial.plan.trial)
    attempt = trial.attempts[-1]
    home = data.study.root.parent.parent
    try:
        scores = read_scores(folder.scores_json, trial.scores_sha)
        if scores.get("unit") != "sentence" or not scores.get("items"):
            return None
        references = read_references(home / data.state.references)
        path = folder.attempt(attempt.number).predictions
        loaded = load_predictions(path, references.keys())
    except (DataError, PredictionsError):
        return None
    if loaded.sha256 != scores.get("predictions_sha", loaded.sha256):
        return None
    items = {str(item["item"]): item for item in scores["items"]}
    if set(items) != set(references):
        return None
    first = next(iter(items.values()))
    variants = sorted(first.get("variants", {}))
    before = [name for name in _BEFORE if name in variants]
    outputs = [*before, "", *(name for name in variants if name not in before)]
    return _Scored(loaded.predictions, references, items, scores.get("intervals", {}), outputs)


def _output_label(data: ReportData, output: str) -> str:
    if output:
        return variant_label(output)
    return "LLM" if data.state.spec.get("stage") == "llm" else "Decoded"


def spread(scored: _Scored) -> list[str]:
    """Return a few items, spread evenly over the sorted error rates, best first."""
    ordered = sorted(scored.items, key=lambda item: (scored.rate(item, ""), item))
    count = min(_NUM_SHOWN, len(ordered))
    if count < 2:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]


def _num_subjects(scored: _Scored) -> int:
    return len({reference.subject for reference in scored.references.values()})


def _row(scored: _Scored, item: str) -> dict[str, Any]:
    reference = scored.references[item].text
    cells = [
        {
            "text": marked(reference, scored.text(item, output)),
            "wer": _percent(scored.rate(item, output)),
        }
        for output in scored.outputs
    ]
    return {
        "item": clean_text(item, 60),
        "reference": clean_text(reference, 400),
        "cells": cells,
    }


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %" if rate else ""


def _note(data: ReportData, best: TrialState, scored: _Scored) -> str:
    count = min(_NUM_SHOWN, len(scored.items))
    text = (
        f"{count} of the {len(scored.items)} validation sentences as the best trial "
        f"({best.plan.trial}) decoded them, spread evenly from its best to its worst by word error "
        "rate."
    )
    if len(data.scored) > 1:
        text += (
            f" That trial was chosen among {len(data.scored)} on these same sentences, which "
            f"favours {_output_label(data, '')} in every comparison on this page."
        )
    return text


def _rates(data: ReportData, best: TrialState, scored: _Scored) -> list[dict[str, str]]:
    rows = []
    subjects = {item: reference.subject for item, reference in scored.references.items()}
    main = {item: scored.rate(item, "") for item in scored.items}
    for output in scored.outputs:
        suffix = f"_{output}" if output else ""
        row = {
            "name": _output_label(data, output),
            "css": "" if output else "first",
            "wer": _number(best.metrics.get(f"val_wer{suffix}")),
            "interval": _ends(scored.intervals.get(f"val_wer{suffix}")),
            "cer": _number(best.metrics.get(f"val_cer{suffix}")),
            "difference": "",
        }
        if output:
            other = {item: scored.rate(item, output) for item in scored.items}
            found = paired_difference(main, other, subjects, seed=best.plan.seed)
            row["difference"] = f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
        rows.append(row)
    return [*rows, *_beside(data)]


def _beside(data: ReportData) -> list[dict[str, str]]:
    """Return the rows that the outputs are measured against: the default, and guessing."""
    empty = {"css": "default", "interval": "", "difference": ""}
    rows = []
    floor = [t.metrics for t in data.state.of(Purpose.FLOOR) if data.state.value(t) is not None]
    if floor:
        means = {
            rate: mean_sd([float(m[f"val_{rate}"]) for m in floor if f"val_{rate}" in m])[0]
            for rate in ("wer", "cer")
            if any(f"val_{rate}" in m for m in floor)
        }
        name = f"{_output_label(data, '')}, default recipe ({len(floor)} seeds)"
        rates = {rate: _number(means.get(rate)) for rate in ("wer", "cer")}
        rows.append({**empty, "name": name, **rates})
    chance = {rate: _number(data.chance_of(f"val_{rate}")) for rate in ("wer", "cer")}
    if any(chance.values()):
        rows.append({**empty, "name": "Chance", **chance})
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _ends(interval: Mapping[str, Any] | None) -> str:
    if not interval:
        return ""
    return f"{float(interval['low']):.3f} to {float(interval['high']):.3f}"
