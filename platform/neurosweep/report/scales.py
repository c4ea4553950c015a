"""From parameter values to positions on axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neurosweep.core.schema import FieldSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def to_unit(field: FieldSpec, value: float) -> float:
    """Return where a value lies in its range, from 0 to 1, on the range's own scale."""
    assert field.low is not None
    assert field.high is not None
    low, high, place = float(field.low), float(field.high), float(value)
    if field.log and low > 0 and place > 0:
        low, high, place = math.log(low), math.log(high), math.log(place)
    return 0.0 if high == low else min(1.0, max(0.0, (place - low) / (high - low)))


def value_limits(
    values: list[float],
    minimize: bool,
    chance: float | None,
    extra: list[float],
    reach: float = 3.0,
) -> tuple[float, float]:
    """Return limits of the objective's axis.

    They hold the best and the `extra` values always, and the others unless a few bad ones are
    far away: those are cut off beyond the upper quartile plus `reach` times the distance between
    quartiles. Chance widens the axis only where it lies near.
    """
    ordered = sorted(values)
    first, last = ordered[0], ordered[-1]
    lower, upper = _quantile(ordered, 0.25), _quantile(ordered, 0.75)
    far = reach * (upper - lower)
    if minimize:
        last = min(last, max(upper + far, first))
    else:
        first = max(first, min(lower - far, last))
    low, high = min([first, *extra]), max([last, *extra])
    span = (high - low) or max(abs(high), 1.0) * 0.1
    if chance is not None and low - 0.35 * span <= chance <= high + 0.35 * span:
        low, high = min(low, chance), max(high, chance)
        span = max(span, high - low)
    return low - 0.04 * span, high + 0.06 * span


def _quantile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def tidy(axes: Axes, *, grid: str = "y") -> None:
    """Give axes a light grid under the data and no tick marks."""
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    if grid:
        axes.grid(True, axis=grid)  # type: ignore[arg-type,unused-ignore]
