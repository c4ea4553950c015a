"""Readable names of trials and parameters, and text that is safe to show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from neurosweep.core.schema import Value

_SHORT = {
    "learning_rate": "lr",
    "weight_decay": "wd",
    "batch_size": "bs",
    "dropout": "drop",
    "num_layers": "layers",
    "hidden_size": "hidden",
    "channels": "ch",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_NAME = 120


def clean_text(text: str, limit: int = 500) -> str:
    """Return one line of text without control, direction or surrogate characters.

    Parameters
    ----------
    text
        Text of an agent or a job.
    limit
        Longest result; what is cut is replaced by an ellipsis.
    """
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Return a short name for every dotted path; names that would collide keep their section.

    Examples
    --------
    >>> short_names(["training.learning_rate", "a.size", "b.size"])
    {'training.learning_rate': 'lr', 'a.size': 'a.size', 'b.size': 'b.size'}
    """
    unique = list(dict.fromkeys(paths))
    short = {path: _SHORT.get(path.rpartition(".")[2], path.rpartition(".")[2]) for path in unique}
    taken = list(short.values())
    return {
        path: ".".join(path.split(".")[-2:]) if taken.count(name) > 1 else name
        for path, name in short.items()
    }


def show_value(value: Value | None) -> str:
    """Return a parameter's value as people write it.

    Examples
    --------
    >>> show_value(0.00032), show_value(0.25), show_value(64), show_value(True)
    ('3.2e-04', '0.25', '64', 'on')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        if value and not 1e-3 <= abs(value) < 1e4:
            return f"{value:.1e}"
        return f"{value:.3g}"
    return clean_text(str(value), 40)


def run_name(trial: str, overrides: Mapping[str, Value]) -> str:
    """Return the name of a trial's run, for example ``r03t017 lr=3.2e-04 wd=0.01``.

    Parameters whose short name is well known come first, since long names are cut.
    """
    names = short_names(overrides)
    known = list(_SHORT.values())
    order = sorted(names, key=lambda p: known.index(names[p]) if names[p] in known else len(known))
    parts = [trial, *(f"{names[path]}={show_value(overrides[path])}" for path in order)]
    return clean_text(" ".join(parts), _MAX_NAME)
