"""What each parameter does to the objective: one small panel a parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurosweep.core.schema import FieldSpec, Value
from neurosweep.records.mlflow_names import clean_text, show_value
from neurosweep.records.state import TrialState
from neurosweep.report import theme
from neurosweep.report.data import ReportData
from neurosweep.report.scales import tidy, value_limits
from neurosweep.report.stats import group_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.5, 2.55)
_COLUMNS = 3
_MAX_CATEGORIES = 8
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Effects:
    """Draw the panels of a study's searched parameters, most important first.

    Parameters
    ----------
    data
        The study; it has at least one scored search trial.
    """

    def __init__(self, data: ReportData) -> None:
        self._data = data
        self.paths = data.by_importance
        values = [data.value(trial) for trial in data.scored]
        self._limits = value_limits(values, data.state.minimize, None, [], reach=1.5)
        self._colours = data.round_colours

    def together(self) -> Figure:
        """Return one figure with all panels."""
        columns = min(_COLUMNS, max(1, len(self.paths)))
        rows = math.ceil(len(self.paths) / columns)
        figure = theme.new_figure(_PANEL[0] * columns, _PANEL[1] * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for number, axes in enumerate(grid.flat):
            if number < len(self.paths):
                self._draw(axes, self.paths[number])
            else:
                axes.set_axis_off()
        return figure

    def panel(self, path: str) -> tuple[Figure, list[str]]:
        """Return the figure of one parameter, and the text of each of its dots."""
        figure = theme.new_figure(*_PANEL)
        return figure, self._draw(figure.add_subplot(), path)

    def _draw(self, axes: Axes, path: str) -> list[str]:
        data = self._data
        trials = [t for t in data.scored if data.setting(t, path) is not None]
        settings: list[Value] = [s for t in trials if (s := data.setting(t, path)) is not None]
        places = self._place(axes, path, settings)
        margin = 0.015 * (self._limits[1] - self._limits[0])
        low, high = self._limits[0] + margin, self._limits[1] - margin
        values = [data.value(trial) for trial in trials]
        shown = [min(high, max(low, value)) for value in values]
        dots = axes.scatter(
            places,
            shown,
            s=15,
            c=[self._colours[trial.plan.round] for trial in trials],
            alpha=0.75,
            linewidths=0,
            zorder=3,
        )
        dots.set_gid("trials")
        self._draw_medians(axes, settings, places, values)
        if trials and trials[0] is data.best:
            axes.scatter(places[:1], shown[:1], s=34, c=theme.BEST, linewidths=0, zorder=6)
        self._finish(axes, path)
        return [self._tip(trial, path) for trial in trials]

    def _place(self, axes: Axes, path: str, settings: Sequence[Value]) -> list[float]:
        field = self._data.schema.get(path)
        if field is not None and field.choices is not None:
            return _categories(axes, field.choices, settings)
        if all(isinstance(s, int | float) and not isinstance(s, bool) for s in settings):
            return _numbers(axes, field, settings)
        return _categories(axes, sorted(set(settings), key=str), settings)

    def _draw_medians(
        self,
        axes: Axes,
        settings: Sequence[Value],
        places: Sequence[float],
        values: Sequence[float],
    ) -> None:
        groups, names = group_of(settings)
        xs, middles, lowers, uppers = [], [], [], []
        for group in range(len(names)):
            mine = groups == group
            if not mine.any():
                continue
            lower, middle, upper = np.quantile(np.asarray(values)[mine], [0.25, 0.5, 0.75])
            xs.append(float(np.median(np.asarray(places)[mine])))
            middles.append(float(middle))
            lowers.append(float(lower))
            uppers.append(float(upper))
        order = np.argsort(xs)
        xs, middles = [xs[i] for i in order], [middles[i] for i in order]
        lowers, uppers = [lowers[i] for i in order], [uppers[i] for i in order]
        if axes.get_label() == "categories":
            axes.vlines(xs, lowers, uppers, color=theme.INK, linewidth=1.2, zorder=4)
            axes.scatter(xs, middles, s=40, marker="_", c=theme.INK, linewidths=2.2, zorder=5)
            return
        axes.fill_between(xs, lowers, uppers, color=theme.BAND, linewidth=0, zorder=1)
        axes.plot(xs, middles, color=theme.INK, linewidth=1.5, zorder=4)

    def _finish(self, axes: Axes, path: str) -> None:
        tidy(axes)
        axes.set_ylim(*self._limits)
        self._draw_default(axes, path)
        axes.set_title(theme.drawable(clean_text(path, 34)), loc="left", fontsize=9.0)
        found = self._data.importances.get(path)
        if found is not None:
            mark = "" if found.stands_out else " (n.s.)"
            axes.set_title(
                f"ε² {found.share:.2f}{mark}", loc="right", fontsize=8, color=theme.MUTED
            )
        axes.set_ylabel(theme.drawable(self._data.label), fontsize=8)

    def _draw_default(self, axes: Axes, path: str) -> None:
        default = self._data.defaults.get(path)
        field = self._data.schema.get(path)
        place: float | None = None
        if axes.get_label() != "categories":
            if isinstance(default, int | float) and not isinstance(default, bool):
                place = float(default)
        elif field is not None and field.choices is not None and default in field.choices:
            place = float(field.choices.index(default))
        low, high = axes.get_xlim()
        if place is not None and low <= place <= high:
            axes.axvline(place, color=theme.DEFAULT, linewidth=1.0, linestyle=(0, (2, 2)))

    def _tip(self, trial: TrialState, path: str) -> str:
        setting = show_value(self._data.setting(trial, path))
        name, value = self._data.names[path], self._data.value(trial)
        return f"{trial.plan.trial}: {name} {setting}, {self._data.label} {value:.4f}"


def _numbers(axes: Axes, field: FieldSpec | None, settings: Sequence[Value]) -> list[float]:
    places = [float(s) for s in settings]
    low, high = min(places), max(places)
    if field is not None and field.low is not None and field.high is not None:
        low, high = min(low, float(field.low)), max(high, float(field.high))
    if field is None or not field.log or low <= 0 or high == low:
        room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
        axes.set_xlim(low - room, high + room)
        return places
    axes.set_xscale("log")
    room = (high / low) ** 0.05
    axes.set_xlim(low / room, high * room)
    if field.type == "int" and high / low < 2**_MAX_CATEGORIES:
        _power_ticks(axes, low, high)
    else:
        _log_ticks(axes, low, high)
    return places


def _log_ticks(axes: Axes, low: float, high: float) -> None:
    """Name powers of ten with raised digits; Matplotlib's own need its formula language."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    step = max(1, math.ceil((last - first + 1) / 6))
    powers = list(range(first, last + 1, step))
    places = [10.0**power for power in powers]
    names = ["10" + str(power).translate(_RAISED) for power in powers]
    if len(powers) < 2:
        places = [low, math.sqrt(low * high), high]
        names = [show_value(place) for place in places]
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter(names))


def _power_ticks(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import NullLocator

    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    powers = [2**power for power in range(first, last + 1)] or [round(low), round(high)]
    axes.set_xticks(powers, [str(power) for power in powers])
    axes.xaxis.set_minor_locator(NullLocator())


def _categories(axes: Axes, choices: Sequence[Value], settings: Sequence[Value]) -> list[float]:
    """Put choices side by side; the dots of one choice are spread evenly, best trials first."""
    axes.set_label("categories")
    names = [theme.drawable(show_value(c)) for c in choices]
    few = len(choices) <= _MAX_CATEGORIES
    axes.set_xticks(range(len(choices)), names if few else [""] * len(choices))
    axes.set_xlim(-0.6, len(choices) - 0.4)
    index = {choice: i for i, choice in enumerate(choices)}
    return [
        index.get(s, len(choices) - 1) + 0.44 * (((i * 0.618034) % 1.0) - 0.5)
        for i, s in enumerate(settings)
    ]
