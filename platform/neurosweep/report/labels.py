"""Placing labels of points in rows, so that neither texts nor leaders cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

_GAP = 10.0


@dataclass(frozen=True)
class Label:
    """Hold a label of a point.

    Attributes
    ----------
    key
        Which point.
    x
        Where its leader runs, in points from the left edge.
    width
        Width of its text, in points.
    text
        What it says.
    row
        Row of the text: 0 lies nearest to the points.
    flipped
        Whether the text lies left of its leader.
    """

    key: int
    x: float
    width: float
    text: str
    row: int = 0
    flipped: bool = False

    @property
    def span(self) -> tuple[float, float]:
        """Left and right end of the text."""
        if self.flipped:
            return (self.x - 4 - self.width, self.x - 4)
        return (self.x + 4, self.x + 4 + self.width)


def place_labels(labels: Sequence[Label], width: float, max_rows: int) -> list[Label]:
    """Return the labels that fit, each with its row.

    Labels are placed from the right to the left, each in the nearest row in which its text meets
    no other text, its leader no text, and no other leader its text. What fits nowhere is left out.

    Parameters
    ----------
    labels
        Labels by increasing `x`.
    width
        Width of the axes in points; a text that would leave it is put left of its leader.
    max_rows
        Number of rows.
    """
    placed: list[Label] = []
    for label in reversed(labels):
        flipped = label.span[1] > width
        for row in range(max_rows):
            candidate = replace(label, row=row, flipped=flipped)
            if not any(_conflict(candidate, other) for other in placed):
                placed.append(candidate)
                break
    return placed[::-1]


def _conflict(one: Label, other: Label) -> bool:
    if one.row == other.row:
        first, second = sorted((one.span, other.span))
        return second[0] < first[1] + _GAP
    deep, near = (one, other) if one.row > other.row else (other, one)
    return near.span[0] - 2 <= deep.x <= near.span[1] + 2
