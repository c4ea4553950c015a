"""The page of a study: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from neurosweep.core.provenance import environment_info
from neurosweep.core.schema import FieldSpec
from neurosweep.records.mlflow_names import clean_text, show_value
from neurosweep.records.mlflow_ui import mlflow_links
from neurosweep.records.types import Purpose
from neurosweep.report import tables, theme
from neurosweep.report.data import ReportData, metric_label
from neurosweep.report.effects import Effects
from neurosweep.report.running import NARROW, WIDE, RunningBest
from neurosweep.report.stats import mean_sd
from neurosweep.report.subjects import draw_subjects, subject_rows

if TYPE_CHECKING:
    from markupsafe import Markup

_MAX_ROUNDS_NAMED = 12


def render_page(data: ReportData) -> str:
    """Return the page as HTML. Text of jobs and agents is escaped; there is no script."""
    from jinja2 import Environment, StrictUndefined

    folder = resources.files("neurosweep.report")
    source = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    css = folder.joinpath("page.css").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(css=_trusted(css), **_context(data)) + "\n"


def _trusted(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)


def _context(data: ReportData) -> dict[str, Any]:
    has_scores = bool(data.scored)
    failures = tables.failure_rows(data)
    best = data.best
    return {
        "title": data.name,
        "label": data.label,
        "study_id": data.state.study,
        "version": environment_info().get("neurosweep", ""),
        "status": _status(data),
        "lede": _lede(data),
        "meta": _meta(data),
        "tiles": _tiles(data),
        "caveat": _caveat(data),
        "running": _running(data) if data.search or data.floor else None,
        "improvements": tables.improvement_rows(data),
        "best": tables.best_table(data) if has_scores else None,
        "effects": _effects(data) if has_scores and data.searched else None,
        "subjects": _subjects(data),
        "failures": failures,
        "no_failures": f"None of {len(data.search)} search trials failed.",
        "refilled": tables.refilled_text(data),
        "cost": tables.cost_table(data),
        "data": _data(data),
        "provenance": _provenance(data),
        "rerun": best.plan.trial if best else "TRIAL",
        "links": _links(data),
    }


def _status(data: ReportData) -> dict[str, str]:
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


def _lede(data: ReportData) -> str:
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
    return text + "."


def _meta(data: ReportData) -> list[str]:
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


def _tiles(data: ReportData) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = []
    best = data.best
    if best is not None:
        ends = data.interval(best)
        note = f"{best.plan.trial}" + (f", 95 % {ends[0]:.3f} to {ends[1]:.3f}" if ends else "")
        tiles.append(
            {
                "name": f"Best, {data.label}",
                "value": f"{data.value(best):.3f}",
                "note": note + _accuracy(data, [best.metrics]),
                "strong": True,
            }
        )
    if data.floor_stats is not None:
        mean, sd = data.floor_stats
        floor = [t.metrics for t in data.state.of(Purpose.FLOOR) if t.metrics]
        note = f"± {sd:.3f}, {len(data.floor)} seeds" + _accuracy(data, floor)
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
    total = sum(trial.core_hours for trial in data.state.trials.values())
    wall = data.state.wall_seconds
    note = f"{tables.duration(wall)} of wall time" if wall > 0 else ""
    tiles.append({"name": "Core-hours", "value": tables.hours(total), "note": note})
    return tiles


def _gain_tile(data: ReportData, mean: float) -> dict[str, Any]:
    assert data.best is not None
    gain = mean - data.value(data.best)
    gain = gain if data.state.minimize else -gain
    note = f"{100 * gain / abs(mean):+.0f} % of the default" if mean else ""
    if data.luck is not None:
        note += f"; luck alone ≈ {data.luck:.3f}"
    return {"name": "Gain", "value": f"{gain:+.3f}", "note": note}


def _accuracy(data: ReportData, metrics: list[Any]) -> str:
    values = [float(m["val_acc"]) for m in metrics if "val_acc" in m]
    if data.metric == "val_acc" or not values:
        return ""
    return f"; accuracy {mean_sd(values)[0]:.3f}"


def _caveat(data: ReportData) -> dict[str, str] | None:
    confirmed = [
        value
        for trial in data.state.of(Purpose.CONFIRM)
        if (value := data.state.value(trial)) is not None
    ]
    if confirmed:
        mean, sd = mean_sd(confirmed)
        return {
            "head": "Confirmed with fresh seeds.",
            "text": f"{data.label} {mean:.3f} ± {sd:.3f} over {len(confirmed)} runs.",
        }
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


def _running(data: ReportData) -> dict[str, Any]:
    label = f"{data.label} of every search trial and the running best"
    drawn = {}
    for name, shape in (("wide", WIDE), ("narrow", NARROW)):
        figure = RunningBest(data, shape)
        drawn[name] = _trusted(theme.inline_svg(figure.draw(), f"rb{name}", label, figure.tips))
        tips = figure.tips
    rounds = [{"number": n, "colour": c} for n, c in data.round_colours.items()]
    return {
        **drawn,
        "rounds": rounds if len(rounds) <= _MAX_ROUNDS_NAMED else [],
        "default": _default_text(data),
        "chance": None if data.chance is None else f"chance {data.chance:.3f}",
        "failed": "failed" in tips,
        "beyond": any(name.startswith("beyond") for name in tips),
        "arrow": "▲" if data.state.minimize else "▼",
    }


def _default_text(data: ReportData) -> str | None:
    if data.floor_stats is None:
        return None
    mean, sd = data.floor_stats
    return f"default, mean ± SD of {len(data.floor)} seeds: {mean:.3f} ± {sd:.3f}"


def _effects(data: ReportData) -> dict[str, Any]:
    effects = Effects(data)
    panels = []
    for number, path in enumerate(effects.paths):
        figure, tips = effects.panel(path)
        label = f"{data.label} against {clean_text(path, 80)}"
        svg = theme.inline_svg(figure, f"fx{number}", label, {"trials": tips})
        panels.append(_trusted(svg))
    return {
        "panels": panels,
        "note": (
            "Dots are scored trials, coloured by round. The line joins the medians of six groups "
            "of equal size, the band holds their middle half; dotted is the default, the large "
            "dot the best trial. ε² is the share of the variance of the objective's ranks that "
            "the groups explain (Kruskal-Wallis); n.s. marks a share that 5 % of random "
            "permutations reach. Later rounds are not random draws, so parameters that moved "
            "together share their effect."
        ),
    }


def _subjects(data: ReportData) -> dict[str, Any] | None:
    rows = subject_rows(data)
    if not rows:
        return None
    values = [value for _, _, value in rows]
    note = "The best trial beside the default, averaged over its seeds."
    if len(values) > 1:
        mean, sd = mean_sd(values)
        note += (
            f" Mean ± SEM over {len(values)} subjects: {mean:.3f} ± {sd / len(values) ** 0.5:.3f}."
        )
    figure = theme.inline_svg(draw_subjects(data), "subjects", f"{data.label} by subject")
    return {"note": note, "figure": _trusted(figure)}


def _data(data: ReportData) -> dict[str, Any]:
    info = data.state.created.get("data_info", {})
    columns, parts = tables.parts_table(info)
    chance = info.get("chance", {})
    listed = [
        f"{metric_label(str(name))} {float(value):.3f}"
        for name, value in chance.items()
        if isinstance(value, int | float)
    ]
    split = clean_text(str(info.get("split", "")), 400)
    warnings = info.get("warnings", [])
    return {
        "split": f"Split: {split}." if split else "How the data was split was not recorded.",
        "columns": columns,
        "parts": parts,
        "warnings": [clean_text(str(text), 300) for text in warnings][:10],
        "chance": "By guessing: " + ", ".join(listed) + "." if listed else "",
    }


def _provenance(data: ReportData) -> list[dict[str, Any]]:
    created, spec = data.state.created, data.state.spec
    commit = str(created.get("commit") or "not under version control")
    if created.get("dirty"):
        commit += f" with uncommitted changes (diff {str(created.get('diff_sha'))[:12]})"
    options = spec.get("agent", {}).get("options") or {}
    shown = ", ".join(f"{key} {value}" for key, value in options.items())
    env = created.get("env") or {}
    items = [
        ("Study", data.state.study, True),
        ("Commit", commit, True),
        ("Data fingerprint", str(created.get("data_fp", "")), True),
        ("Schema", str(created.get("schema_sha", ""))[:16], True),
        ("Agent", f"{spec.get('agent', {}).get('name', '')} {shown}", False),
        ("Seeds", f"study {spec.get('seed')}; a trial's training seed is in the table", False),
        ("Searched", "; ".join(_range(data.schema.get(p), p) for p in data.searched), False),
        ("Environment", ", ".join(f"{k} {v}" for k, v in sorted(env.items())), False),
        ("Files", f"studies/{data.state.study}/ledger.jsonl and trials/<trial>/", True),
    ]
    return [
        {"name": name, "text": clean_text(text, 1200), "mono": mono}
        for name, text, mono in items
        if text.strip()
    ]


def _range(field: FieldSpec | None, path: str) -> str:
    if field is None:
        return path
    if field.choices is not None:
        return f"{path} one of " + ", ".join(show_value(c) for c in field.choices)
    if field.low is not None and field.high is not None:
        scale = ", log scale" if field.log else ""
        return f"{path} {show_value(field.low)} to {show_value(field.high)}{scale}"
    return path


def _links(data: ReportData) -> list[dict[str, str]]:
    names = {"runs": "Runs in MLflow", "compare": "Best ten compared in MLflow"}
    return [
        {"url": url, "text": names[key]}
        for key, url in mlflow_links(data.study).items()
        if url.startswith(("http://", "https://"))
    ]
