"""Colours and type of all figures, and the step from a figure to files and inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from neurosweep.core.files import atomic_write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1b2330"
MUTED = "#5d6878"
RULE = "#c9d0da"
GRID = "#e6eaf0"
PAPER = "#fdfdfe"
BAND = "#dfe4ec"
BEST = "#c2410c"
DEFAULT = "#64748b"
SOFT = "#a9b3c2"
ACCENT = "#2563a8"
BAD = "#b4232f"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    GRID: "--grid",
    PAPER: "--card",
    BAND: "--band",
    BEST: "--best",
    DEFAULT: "--default",
    SOFT: "--soft",
    ACCENT: "--accent",
    BAD: "--bad",
}
_ROUND_RAMP = ((0x2B, 0x7B, 0xBA), (0x7A, 0x6C, 0xC8), (0xC2, 0x57, 0x9A), (0xDB, 0x6B, 0x3A))
_PNG_DPI = 160
_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.unicode_minus": False,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "neurosweep",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "path.simplify": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the report's type and colours; whatever the user's own settings are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        cast("Any", mpl.rcParams).update(_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches that draws without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(hspace=0.1, wspace=0.06)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def round_colours(num_rounds: int) -> list[str]:
    """Return one colour a round, from blue over violet to orange, of even lightness."""
    if num_rounds == 1:
        return [_hex(_ROUND_RAMP[0])]
    return [_hex(_mix(i / (num_rounds - 1))) for i in range(num_rounds)]


def _mix(at: float) -> tuple[int, int, int]:
    place = at * (len(_ROUND_RAMP) - 1)
    low = min(int(place), len(_ROUND_RAMP) - 2)
    part = place - low
    first, second = _ROUND_RAMP[low], _ROUND_RAMP[low + 1]
    mixed = [round(a + (b - a) * part) for a, b in zip(first, second, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    path = findfont(FontProperties(family=["DejaVu Sans"]))  # type: ignore[arg-type,unused-ignore]
    return frozenset(get_font(path).get_charmap())


def drawable(text: str) -> str:
    """Return text in which characters that the figures' font lacks are question marks."""
    known = _glyphs()
    return "".join(c if ord(c) in known else "?" for c in text)


def write_files(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG; equal figures give equal bytes."""
    with io.BytesIO() as png:
        figure.savefig(png, format="png", dpi=_PNG_DPI, metadata={"Software": None})
        atomic_write_bytes(folder / f"{name}.png", png.getvalue())
    figure.set_layout_engine("none")
    atomic_write_bytes(folder / f"{name}.svg", svg_text(figure).encode("utf-8"))


def svg_text(figure: Figure) -> str:
    """Return a figure as an SVG document without date."""
    with io.StringIO() as out:
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        return out.getvalue()


def inline_svg(
    figure: Figure, name: str, label: str, tips: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return a figure as SVG to put into a page: it scales, and follows the page's colours.

    Parameters
    ----------
    figure
        Figure with markers whose group ids are keys of `tips`.
    name
        Prefix of all ids, unique in the page.
    label
        What the figure shows, for readers who do not see it.
    tips
        For every marker group, one text a marker, shown when the pointer rests on it.
    """
    figure.patch.set_alpha(0.0)
    text = svg_text(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(width|height)="[\d.]+pt"', "", text, count=2)
    for group, lines in (tips or {}).items():
        text = _with_tips(text, group, lines)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(label, quote=True)}" ', 1
    ).strip()


def _with_tips(text: str, group: str, lines: Sequence[str]) -> str:
    start = text.find(f'<g id="{group}">')
    if start < 0:
        return text
    end = _group_end(text, start)
    rest = iter(lines)

    def titled(match: re.Match[str]) -> str:
        tip = escape(next(rest, ""))
        return f"{match[0][:-2]}><title>{tip}</title></use>" if tip else match[0]

    body = re.sub(r"<use [^>]*/>", titled, text[start:end])
    return text[:start] + body + text[end:]


def _group_end(text: str, start: int) -> int:
    depth = 0
    for match in re.finditer(r"<g[\s>]|</g>", text[start:]):
        depth += -1 if match[0] == "</g>" else 1
        if depth == 0:
            return start + match.end()
    return len(text)
