"""The rows of a report's tables, as text ready to be escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neurosweep.records.metric_names import variant_of
from neurosweep.records.mlflow_names import clean_text, show_value
from neurosweep.records.state import TrialState
from neurosweep.records.trial import Purpose
from neurosweep.report.data import ReportData, metric_label
from neurosweep.report.stats import median

TOP = 10
_PART_USE = {
    "train": "jobs, with labels",
    "dev": "jobs, with labels: early stopping",
    "val": "jobs see inputs only; the driver scores",
    "test": "sealed until a champion is frozen",
}


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it.

    Examples
    --------
    >>> duration(0.42), duration(75), duration(7380)
    ('0.4 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def improvement_rows(data: ReportData) -> list[dict[str, str]]:
    """Return one row a strict improvement."""
    rows: list[dict[str, str]] = []
    before: float | None = None
    for step in data.improvements:
        gain = "" if before is None else f"{abs(step.value - before):.4f}"
        before = step.value
        rows.append(
            {
                "number": str(step.number),
                "trial": step.trial.plan.trial,
                "value": f"{step.value:.4f}",
                "gain": gain,
                "idea": clean_text(step.idea, 200),
                "changes": ", ".join(step.changes) or "nothing but the seed",
            }
        )
    return rows


def best_table(data: ReportData) -> dict[str, Any]:
    """Return the best configurations, and the default below them."""
    top = data.scored[:TOP]
    metrics = _other_metrics(data, top)
    scale = _Scale(data, top)
    rows = [_best_row(data, trial, rank, metrics, scale) for rank, trial in enumerate(top, start=1)]
    if data.floor_stats is not None:
        rows.append(_default_row(data, metrics, scale))
    return {
        "names": [{"path": path, "short": data.names[path]} for path in data.by_importance],
        "metrics": [metric_label(name).removeprefix("validation ") for name in metrics],
        "rows": rows,
        "note": (
            f"The best {len(top)} of {len(data.scored)} scored trials. Values equal to the "
            "default are grey. Intervals hold the uncertainty of the validation items, not of "
            "having chosen the best."
        ),
    }


def _other_metrics(data: ReportData, trials: Sequence[TrialState]) -> list[str]:
    found = dict.fromkeys(name for trial in trials for name in trial.metrics)
    others = [name for name in sorted(found) if name != data.metric]
    return [name for name in others if variant_of(name) is None]


class _Scale:
    """Draw the intervals of a table on one common axis."""

    def __init__(self, data: ReportData, trials: Sequence[TrialState]) -> None:
        ends = [end for trial in trials for end in data.interval(trial) or ()]
        ends += [data.value(trial) for trial in trials] + list(data.floor)
        self._low, self._high = min(ends), max(ends)
        self._default = data.floor_stats[0] if data.floor_stats else None

    def _x(self, value: float) -> str:
        span = self._high - self._low or 1.0
        return f"{2 + 124 * (value - self._low) / span:.1f}"

    def draw(self, value: float, ends: tuple[float, float] | None, colour: str) -> str:
        parts = ['<svg viewBox="0 0 128 14" aria-hidden="true">']
        if self._default is not None:
            x = self._x(self._default)
            parts.append(f'<path d="M{x} 0V14" stroke="var(--soft)" stroke-dasharray="2 2"/>')
        if ends is not None:
            low, high = self._x(ends[0]), self._x(ends[1])
            parts.append(f'<path d="M{low} 7H{high}" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(f'<circle cx="{self._x(value)}" cy="7" r="3.4" fill="{colour}"/></svg>')
        return "".join(parts)


def _best_row(
    data: ReportData, trial: TrialState, rank: int, metrics: Sequence[str], scale: _Scale
) -> dict[str, Any]:
    from markupsafe import Markup

    ends = data.interval(trial)
    colour = "var(--best)" if rank == 1 else "var(--accent)"
    settings = []
    for path in data.by_importance:
        value = data.setting(trial, path)
        settings.append({"text": show_value(value), "same": value == data.defaults.get(path)})
    return {
        "css": "first" if rank == 1 else "",
        "rank": str(rank),
        "trial": trial.plan.trial,
        "value": f"{data.value(trial):.4f}",
        "whisker": Markup(scale.draw(data.value(trial), ends, colour)),
        "interval": f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "not recorded",
        "metrics": [_short(trial.metrics.get(name)) for name in metrics],
        "settings": settings,
        "time": duration(trial.attempts[-1].seconds),
        "seed": str(trial.plan.seed),
    }


def _default_row(data: ReportData, metrics: Sequence[str], scale: _Scale) -> dict[str, Any]:
    from markupsafe import Markup

    assert data.floor_stats is not None
    mean, sd = data.floor_stats
    floor = [t for t in data.state.of(Purpose.FLOOR) if data.state.value(t) is not None]
    means = {
        name: _mean(trial.metrics[name] for trial in floor if name in trial.metrics)
        for name in metrics
    }
    settings = [
        {"text": show_value(data.defaults.get(p)), "same": False} for p in data.by_importance
    ]
    whisker = scale.draw(mean, (min(data.floor), max(data.floor)), "var(--default)")
    return {
        "css": "default",
        "rank": "",
        "trial": "default",
        "value": f"{mean:.4f}",
        "whisker": Markup(whisker),
        "interval": f"± {sd:.3f}, {len(data.floor)} seeds",
        "metrics": [_short(means[name]) for name in metrics],
        "settings": settings,
        "time": duration(median([t.attempts[-1].seconds for t in floor])),
        "seed": "",
    }


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def parts_table(info: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return columns and rows of the parts of the data."""
    parts = {
        str(name): part for name, part in info.get("parts", {}).items() if isinstance(part, Mapping)
    }
    order = [*(name for name in _PART_USE if name in parts), *parts]
    parts = {name: parts[name] for name in order}
    columns = list(dict.fromkeys(str(key) for part in parts.values() for key in part))
    rows = [
        {
            "name": clean_text(name, 40),
            "cells": [clean_text(str(part.get(key, "")), 40) for key in columns],
            "use": _PART_USE.get(name, ""),
        }
        for name, part in parts.items()
    ]
    return [clean_text(name, 40) for name in columns], rows
