"""What a report says first: where the study stands, what it found, and how far to trust it."""

from __future__ import annotations

from typing import Any

from neurosweep.records.cost import hours_text, study_cost
from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.state import TrialState
from neurosweep.records.trial import Purpose
from neurosweep.report import tables
from neurosweep.report.data import ReportData, metric_label
from neurosweep.report.stats import mean_sd
from neurosweep.research.confirmation import confirmation_of


def status(data: ReportData) -> dict[str, str]:
    """Return where the study stands, and the colour that says so."""
    if data.state.closed is None:
        return {"text": "in progress", "css": "open"}
    reason = clean_text(str(data.state.closed.get("reason", "")), 60)
    wanted = _num_planned(data)
    ended = sum(trial.phase.final for trial in data.search)
    if ended >= wanted:
        return {"text": "complete", "css": "good"}
    return {"text": f"incomplete: {ended} of {wanted} ({reason})", "css": "bad"}


def _num_planned(data: ReportData) -> int:
    budget = data.state.spec.get("budget", {})
    return int(budget.get("rounds", 0)) * int(budget.get("trials_per_round", 0))


def lede(data: ReportData) -> str:
    """Return the result in a sentence or two."""
    best = data.best
    if best is None:
        return "No search trial has been scored yet."
    text = f"The best of {len(data.scored)} scored trials reaches {data.label} "
    text += f"{data.value(best):.3f}"
    ends = data.interval(best)
    if ends:
        text += f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})"
    if data.floor_stats is not None:
        mean, sd = data.floor_stats
        text += f"; the unchanged recipe has {mean:.3f} ± {sd:.3f} over {len(data.floor)} seeds"
    if data.chance is not None:
        text += f"; chance is {data.chance:.3f}"
    return text + "." + _error_rate(data, best)


def _error_rate(data: ReportData, best: TrialState) -> str:
    """Return a sentence on the symbol error rate where another objective is searched by."""
    rate = best.metrics.get("val_cer")
    if rate is None or data.metric in ("val_cer", "val_wer", "val_acc"):
        return ""
    ends = data.interval_of(best, "val_cer")
    text = f" Its character error rate is {float(rate):.3f}"
    text += f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    chance = data.chance_of("val_cer")
    return text + (f", against chance {chance:.3f}." if chance is not None else ".")


def meta(data: ReportData) -> list[str]:
    """Return who searched what, when."""
    spec = data.state.spec
    agent = clean_text(str(spec.get("agent", {}).get("name", "")), 40)
    day = data.state.created_t[:10]
    items = [
        f"agent {agent}",
        f"recipe {clean_text(str(spec.get('recipe', '')), 60)}",
        f"{len(data.rounds)} round{'s' * (len(data.rounds) != 1)}",
        f"created {day}",
        f"objective {data.metric} ({'lower' if data.state.minimize else 'higher'} is better)",
    ]
    return [item for item in items if not item.endswith(" ")]


def tiles(data: ReportData) -> list[dict[str, Any]]:
    """Return the figures that come first."""
    tiles: list[dict[str, Any]] = []
    best = data.best
    if best is not None:
        ends = data.interval(best)
        note = f"{best.plan.trial}" + (f", 95 % {ends[0]:.3f} to {ends[1]:.3f}" if ends else "")
        tiles.append(
            {
                "name": f"Best, {data.label}",
                "value": f"{data.value(best):.3f}",
                "note": note + _beside(data, [best.metrics]),
                "strong": True,
            }
        )
    if data.floor_stats is not None:
        mean, sd = data.floor_stats
        floor = [t.metrics for t in data.state.of(Purpose.FLOOR) if t.metrics]
        note = f"± {sd:.3f}, {len(data.floor)} seeds" + _beside(data, floor)
        tiles.append({"name": "Default recipe", "value": f"{mean:.3f}", "note": note})
        if best is not None:
            tiles.append(_gain_tile(data, mean))
    if data.chance is not None:
        tiles.append({"name": "Chance", "value": f"{data.chance:.3f}", "note": "by guessing"})
    failed = len(data.failed)
    ended = sum(trial.phase.final for trial in data.search)
    wanted = _num_planned(data) or len(data.search)
    note = f"{len(data.scored)} scored, {failed} failed"
    tiles.append({"name": "Search trials", "value": f"{ended} / {wanted}", "note": note})
    tiles.append(_cost_tile(data))
    return tiles


def _cost_tile(data: ReportData) -> dict[str, Any]:
    cost = study_cost(data.state)
    wall = data.state.wall_seconds
    note = f"{tables.duration(wall)} of wall time" if wall > 0 else ""
    if not cost.gpu_hours:
        return {"name": "Core-hours", "value": hours_text(cost.core_hours), "note": note}
    note = f"{hours_text(cost.core_hours)} core-hours; {note}".removesuffix("; ")
    return {"name": "GPU-hours", "value": hours_text(cost.gpu_hours), "note": note}


def _gain_tile(data: ReportData, mean: float) -> dict[str, Any]:
    assert data.best is not None
    gain = mean - data.value(data.best)
    gain = gain if data.state.minimize else -gain
    note = f"{100 * gain / abs(mean):+.0f} % of the default" if mean else ""
    if data.luck is not None:
        note += f"; luck alone ≈ {data.luck:.3f}"
    return {"name": "Gain", "value": f"{gain:+.3f}", "note": note}


def _beside(data: ReportData, metrics: list[Any]) -> str:
    """Return what the error rates that people know are, beside another objective."""
    text = ""
    for name, label in (("val_wer", "WER"), ("val_cer", "CER"), ("val_acc", "accuracy")):
        values = [float(m[name]) for m in metrics if name in m]
        if values and name != data.metric:
            text += f"; {label} {mean_sd(values)[0]:.3f}"
    return text


def caveat(data: ReportData) -> dict[str, str] | None:
    """Return how much of the gain may be luck, or None where the noise is not known."""
    if data.luck is None or data.floor_stats is None or data.best is None:
        return None
    gain = abs(data.floor_stats[0] - data.value(data.best))
    verdict = "larger than that" if gain > data.luck else "within that"
    return {
        "head": "The best of many noisy runs flatters itself.",
        "text": (
            f"Seeds of the unchanged recipe differ by {data.floor_stats[1]:.3f} (standard "
            f"deviation). The best of {len(data.scored)} equally good runs would therefore beat "
            f"their mean by about {data.luck:.3f} by luck alone; the gain of {gain:.3f} is "
            f"{verdict}. It is a validation result: fresh seeds and the sealed test part decide."
        ),
    }


def confirmation(data: ReportData) -> dict[str, Any] | None:
    """Return the champion's figures on the sealed test part, or None before they exist."""
    found = confirmation_of(data.state)
    if found is None or not found.metrics:
        return None
    rows = [
        {
            "name": metric_label(name),
            "mean": f"{metric.mean:.4f}",
            "interval": f"{metric.low:.3f} to {metric.high:.3f}",
            "sd": f"{metric.sd:.4f}",
            "chance": _number(data.chance_of(name.replace("test_", "val_", 1))),
        }
        for name, metric in found.metrics.items()
    ]
    text = (
        f"The configuration of {found.champion} was frozen, trained anew with {found.seeds} "
        f"fresh seeds, and scored once on the sealed test part"
    )
    text += f"; {found.failed} of its trials failed" if found.failed else ""
    if found.opening > 1:
        text += f". The test part had been opened {found.opening - 1} times before: trust it less"
    return {"rows": rows, "text": text + "."}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
