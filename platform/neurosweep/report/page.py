"""The page of a study: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from neurosweep.core.provenance import environment_info
from neurosweep.core.schema import FieldSpec
from neurosweep.records.mlflow_names import clean_text, show_value
from neurosweep.records.mlflow_ui import mlflow_links
from neurosweep.report import headline, tables, theme
from neurosweep.report.costs import cost_table
from neurosweep.report.data import ReportData, metric_label
from neurosweep.report.effects import Effects
from neurosweep.report.failures import failure_rows, refilled_text
from neurosweep.report.running import NARROW, WIDE, RunningBest
from neurosweep.report.sentences import sentence_section
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
    failures = failure_rows(data)
    best = data.best
    return {
        "title": data.name,
        "label": data.label,
        "study_id": data.state.study,
        "version": environment_info().get("neurosweep", ""),
        "status": headline.status(data),
        "lede": headline.lede(data),
        "meta": headline.meta(data),
        "tiles": headline.tiles(data),
        "caveat": headline.caveat(data),
        "confirmation": headline.confirmation(data),
        "running": _running(data) if data.search or data.floor else None,
        "improvements": tables.improvement_rows(data),
        "best": tables.best_table(data) if has_scores else None,
        "sentences": sentence_section(data),
        "effects": _effects(data) if has_scores and data.searched else None,
        "subjects": _subjects(data),
        "failures": failures,
        "no_failures": f"None of {len(data.search)} search trials failed.",
        "refilled": refilled_text(data),
        "cost": cost_table(data),
        "data": _data(data),
        "provenance": _provenance(data),
        "rerun": best.plan.trial if best else "TRIAL",
        "links": _links(data),
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
