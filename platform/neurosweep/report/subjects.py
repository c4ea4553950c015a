"""Whether a gain holds for every subject: the default beside the best trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.trial import Purpose
from neurosweep.report import theme
from neurosweep.report.data import ReportData
from neurosweep.report.scales import tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_SUBJECTS = 40


def subject_rows(data: ReportData) -> list[tuple[str, float | None, float]]:
    """Return subject, value of the default averaged over its seeds, and value of the best trial."""
    if data.best is None:
        return []
    default = data.subjects(list(data.state.of(Purpose.FLOOR)))
    best = data.subjects([data.best])
    return [(subject, default.get(subject), value) for subject, value in best.items()]


def draw_subjects(data: ReportData) -> Figure:
    """Return horizontal bars, two a subject; there is at least one subject."""
    rows = subject_rows(data)[:_MAX_SUBJECTS]
    assert data.best is not None
    figure = theme.new_figure(5.2, 0.95 + 0.5 * len(rows))
    axes = figure.add_subplot()
    tidy(axes, grid="x")
    for place, (_, default, best) in enumerate(rows):
        if default is not None:
            axes.barh(place - 0.19, default, height=0.3, color=theme.SOFT)
            _number(axes, default, place - 0.19, theme.MUTED)
        axes.barh(place + 0.19, best, height=0.3, color=theme.BEST)
        _number(axes, best, place + 0.19, theme.INK)
    axes.set_yticks(range(len(rows)), [theme.drawable(clean_text(r[0], 24)) for r in rows])
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.12)
    axes.set_xlim(left=0.0)
    if data.chance is not None and data.chance <= axes.get_xlim()[1]:
        axes.axvline(data.chance, color=theme.MUTED, linewidth=1.0, linestyle=(0, (5, 3)))
    axes.set_title("best trial", loc="left", color=theme.BEST, fontweight="bold")
    seeds = f"default, {len(data.floor)} seeds" if data.floor else ""
    axes.set_title(seeds, loc="right", color=theme.DEFAULT)
    axes.set_xlabel(theme.drawable(data.label))
    return figure


def _number(axes: Axes, value: float, place: float, colour: str) -> None:
    axes.annotate(
        f"{value:.3f}",
        (value, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=colour,
    )
