"""The figure of a study: every trial a dot, the running best a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from neurosweep.records.mlflow_names import clean_text, show_value
from neurosweep.records.state import Phase, TrialState
from neurosweep.report import theme
from neurosweep.report.data import Improvement, ReportData
from neurosweep.report.labels import Label, place_labels
from neurosweep.report.scales import tidy, value_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_PT = 13.0
_CHAR_PT = 4.75


@dataclass(frozen=True)
class Shape:
    """Fix the size of the figure in inches, and what is written into it.

    Attributes
    ----------
    num_labels, max_chars
        How many improvements are named, and the longest name.
    gutter
        Whether lines are named right of the axes; otherwise the page names them.
    """

    width: float = 10.4
    height: float = 5.0
    num_labels: int = 8
    max_chars: int = 44
    gutter: bool = True


WIDE = Shape()
NARROW = Shape(4.6, 4.8, 4, 32, gutter=False)


class RunningBest:
    """Draw the trials of a study.

    Parameters
    ----------
    data
        The study.
    shape
        Size; `NARROW` is for small screens.
    """

    def __init__(self, data: ReportData, shape: Shape = WIDE) -> None:
        self._data = data
        self._shape = shape
        self._trials = data.search
        self._steps = data.improvements
        self._numbers = [r.number for r in data.rounds]
        self._failed = [
            position
            for position, trial in enumerate(self._trials, start=1)
            if trial.phase is Phase.FAILED
        ]
        self._total = len(data.search)
        self.tips: dict[str, list[str]] = {}

    def draw(self) -> Figure:
        """Return the figure; `tips` then holds the text of every dot."""
        figure = theme.new_figure(self._shape.width, self._shape.height)
        axes = figure.add_subplot()
        tidy(axes)
        self._low, self._high = self._limits()
        self._left, self._right = -0.075 * max(self._total, 20), self._total * 1.012 + 0.5
        axes.set_xlim(self._left, self._right)
        labels = self._placed()
        self._set_ylim(axes, max((label.row + 1 for label in labels), default=0))
        self._set_ticks(axes)
        self._draw_rounds(axes)
        self._draw_floor(axes)
        self._draw_dots(axes)
        self._draw_line(axes)
        self._draw_labels(axes, labels)
        better = "lower" if self._data.state.minimize else "higher"
        axes.set_ylabel(f"{theme.drawable(self._data.label)} ({better} is better)")
        axes.set_xlabel("search trial, in planned order")
        return figure

    def _limits(self) -> tuple[float, float]:
        data = self._data
        values = [v for t in self._trials if (v := data.state.value(t)) is not None]
        extra = list(data.floor)
        if not values and not extra:
            return 0.0, 1.0
        return value_limits(values or extra, data.state.minimize, data.chance, extra)

    def _placed(self) -> list[Label]:
        visible = [s for s in self._steps if self._low <= s.value <= self._high]
        chosen = _most_telling(visible, self._shape.num_labels)
        width_pt = self._shape.width * 72 * (0.82 if self._shape.gutter else 0.9)
        scale = width_pt / (self._right - self._left)
        texts = [
            clean_text(f"{step.value:.3f} · {step.short}", self._shape.max_chars) for step in chosen
        ]
        wanted = [
            Label(step.number, (step.position - self._left) * scale, len(text) * _CHAR_PT, text)
            for step, text in zip(chosen, texts, strict=True)
        ]
        return place_labels(wanted, width_pt, self._shape.num_labels)

    def _set_ylim(self, axes: Axes, num_rows: int) -> None:
        zone = min(0.45, (num_rows * _ROW_PT + 8) / (self._shape.height * 72 * 0.84))
        room = (self._high - self._low) * zone / (1 - zone) if num_rows else 0.0
        self._row = room / (num_rows + 0.6) if num_rows else 0.0
        lane = 0.055 * (self._high - self._low + room) if self._failed else 0.0
        if self._data.state.minimize:
            axes.set_ylim(self._low - room, self._high + lane)
            self._lane = self._high + 0.5 * lane
        else:
            axes.set_ylim(self._low - lane, self._high + room)
            self._lane = self._low - 0.5 * lane

    def _set_ticks(self, axes: Axes) -> None:
        shown = (self._low, self._high)
        axes.set_yticks([y for y in axes.get_yticks() if shown[0] <= y <= shown[1]])
        places = [x for x in axes.get_xticks() if 1 <= x <= self._total]
        names = [f"{x:.0f}" for x in places]
        if self._data.floor:
            places, names = [self._left / 2, *places], ["default", *names]
        axes.set_xticks(places, names)

    def _draw_rounds(self, axes: Axes) -> None:
        end = 0
        for number in self._numbers:
            count = sum(trial.plan.round == number for trial in self._trials)
            start, end = end, end + count
            if start:
                axes.axvline(start + 0.5, color=theme.RULE, linewidth=0.8, linestyle=(0, (2, 3)))
            few = len(self._numbers) <= (12 if self._shape is WIDE else 5)
            axes.annotate(
                f"round {number}" if few and self._shape is WIDE else str(number),
                ((start + end + 1) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                color=theme.MUTED,
                fontsize=8.5,
            )

    def _draw_floor(self, axes: Axes) -> None:
        data = self._data
        if data.floor_stats is not None:
            mean, sd = data.floor_stats
            axes.axhspan(mean - sd, mean + sd, color=theme.BAND, linewidth=0, zorder=0.5)
            axes.axhline(mean, color=theme.DEFAULT, linewidth=1.0, zorder=0.6)
            places = [self._left * (0.3 + 0.1 * i) for i in range(len(data.floor))]
            self._scatter(axes, places, data.floor, "floor", theme.DEFAULT, "D", 20)
            self.tips["floor"] = [f"default, {data.label} {v:.4f}" for v in data.floor]
            text = f"default\n{mean:.3f} ± {sd:.3f}\n({len(data.floor)} seeds)"
            self._note(axes, mean, text)
        if data.chance is None:
            return
        low, high = axes.get_ylim()
        text = f"chance\n{data.chance:.3f}"
        if low <= data.chance <= high:
            axes.axhline(data.chance, color=theme.MUTED, linewidth=1.0, linestyle=(0, (5, 3)))
            self._note(axes, data.chance, text)
        else:
            above = data.chance > high
            span = self._high - self._low
            y = self._high - 0.06 * span if above else self._low + 0.02 * span
            self._note(axes, y, f"{text} {'↑' if above else '↓'}")

    def _note(self, axes: Axes, y: float, text: str) -> None:
        if not self._shape.gutter:
            return
        axes.annotate(
            text,
            (1.0, y),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=theme.MUTED,
            fontsize=8.5,
            linespacing=1.35,
        )

    def _draw_dots(self, axes: Axes) -> None:
        placed = [
            (position, trial, value)
            for position, trial in enumerate(self._trials, start=1)
            if (value := self._data.state.value(trial)) is not None
        ]
        for number in self._numbers:
            mine = [entry for entry in placed if entry[1].plan.round == number]
            inside = [entry for entry in mine if self._low <= entry[2] <= self._high]
            beyond = [entry for entry in mine if not self._low <= entry[2] <= self._high]
            colour = self._data.round_colours[number]
            self._dots(axes, inside, f"round{number}", colour, "o")
            self._dots(axes, beyond, f"beyond{number}", colour, self._arrow)
        if self._failed:
            ys = [self._lane] * len(self._failed)
            self._scatter(axes, self._failed, ys, "failed", theme.BAD, "x", 20)
            self.tips["failed"] = [self._failed_tip(self._trials[p - 1]) for p in self._failed]
            self._note(axes, self._lane, f"failed ({len(self._failed)})")

    @property
    def _arrow(self) -> str:
        return "^" if self._data.state.minimize else "v"

    def _dots(
        self,
        axes: Axes,
        entries: Sequence[tuple[int, TrialState, float]],
        name: str,
        colour: str,
        marker: str,
    ) -> None:
        if not entries:
            return
        margin = 0.012 * (self._high - self._low)
        top, bottom = self._high - margin, self._low + margin
        ys = [value if marker == "o" else min(top, max(bottom, value)) for _, _, value in entries]
        self._scatter(axes, [e[0] for e in entries], ys, name, colour, marker, 26)
        self.tips[name] = [self._tip(trial, value) for _, trial, value in entries]

    def _scatter(
        self,
        axes: Axes,
        xs: Sequence[float],
        ys: Sequence[float],
        name: str,
        colour: str,
        marker: str,
        size: float,
    ) -> None:
        dots = axes.scatter(
            xs, ys, s=size, c=colour, marker=marker, linewidths=1.1, alpha=0.85, zorder=3
        )
        if marker != "x":
            dots.set_linewidth(0.5)
            dots.set_edgecolor(theme.PAPER)
        dots.set_gid(name)

    def _draw_line(self, axes: Axes) -> None:
        if not self._steps:
            return
        xs = [float(step.position) for step in self._steps]
        ys = [min(self._high, max(self._low, step.value)) for step in self._steps]
        axes.step(
            [*xs, float(len(self._trials))],
            [*ys, ys[-1]],
            where="post",
            color=theme.INK,
            linewidth=1.6,
            zorder=4,
        )
        rings = axes.scatter(
            xs, ys, s=44, facecolors="none", edgecolors=theme.INK, linewidths=1.3, zorder=5
        )
        rings.set_gid("improvements")
        self.tips["improvements"] = [self._tip(step.trial, step.value) for step in self._steps]
        last = axes.scatter(xs[-1:], ys[-1:], s=62, c=theme.BEST, linewidths=0, zorder=6)
        last.set_gid("best")
        self.tips["best"] = [self._tip(self._steps[-1].trial, ys[-1])]

    def _draw_labels(self, axes: Axes, labels: Sequence[Label]) -> None:
        sign = -1.0 if self._data.state.minimize else 1.0
        base = self._low if self._data.state.minimize else self._high
        steps = {step.number: step for step in self._steps}
        for label in labels:
            step = steps[label.key]
            y = base + sign * self._row * (label.row + 0.75)
            axes.plot(
                [step.position, step.position], [step.value, y], color=theme.RULE, linewidth=0.9
            )
            last = step is self._steps[-1]
            axes.annotate(
                theme.drawable(label.text),
                (step.position, y),
                xytext=(-4 if label.flipped else 4, 0),
                textcoords="offset points",
                ha="right" if label.flipped else "left",
                va="center",
                fontsize=8.5,
                color=theme.BEST if last else theme.INK,
                fontweight="bold" if last else "normal",
            )

    def _tip(self, trial: TrialState, value: float) -> str:
        names = self._data.names
        set_to = (f"{names[p]} {show_value(v)}" for p, v in trial.plan.overrides.items())
        return f"{trial.plan.trial}: {self._data.label} {value:.4f}\n" + ", ".join(set_to)

    def _failed_tip(self, trial: TrialState) -> str:
        return f"{trial.plan.trial}: failed, {trial.kind.value}"


def _most_telling(steps: Sequence[Improvement], count: int) -> list[Improvement]:
    """Return the first, the last, and those that closed most of the gap still open to the last."""
    if len(steps) <= count:
        return list(steps)
    final = steps[-1].value
    closed = {
        after.number: (before.value - after.value) / (before.value - final)
        for before, after in pairwise(steps[:-1])
    }
    kept = {steps[0].number, steps[-1].number}
    for number in sorted(closed, key=lambda n: -closed[n]):
        if len(kept) < count:
            kept.add(number)
    return [step for step in steps if step.number in kept]
