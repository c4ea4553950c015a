"""Conditions under which a finished study still fails the job that ran it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosweep.cli.parser import hint
from neurosweep.core.errors import ConfigError

NAMES: Mapping[str, str] = {
    "failed": "failed trials, those of the floor included",
    "done": "scored search trials",
    "planned": "search trials of the budget",
    "fallback": "search trials that the agent did not propose itself",
    "best": "objective of the best search trial",
    "default": "mean objective of the unchanged recipe over its seeds",
    "chance": "objective at chance",
}
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*([a-z_]+)\s*(<=|>=|==|!=|<|>)\s*([a-z_]+|-?\d+(?:\.\d*)?(?:e-?\d+)?)\s*")


@dataclass(frozen=True)
class Condition:
    """Compare a figure of a study with another or with a number.

    Attributes
    ----------
    left
        A name of `NAMES`.
    operator
        Comparison.
    right
        A name of `NAMES` or a number.
    """

    left: str
    operator: str
    right: str | float

    def __str__(self) -> str:
        right = f"{self.right:g}" if isinstance(self.right, float) else self.right
        return f"{self.left}{self.operator}{right}"


def parse_condition(text: str) -> Condition:
    """Return the condition that a text states.

    Raises
    ------
    ConfigError
        When the text has another form or compares an unknown figure.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        msg = (
            f"--fail-if {text!r}: expected FIGURE OPERATOR FIGURE-OR-NUMBER, for example "
            f'"failed>0"; operators: {" ".join(_OPERATORS)}; figures: {", ".join(NAMES)}'
        )
        raise ConfigError(msg)
    left, comparison, right = match.groups()
    number = None if right[0].isalpha() else float(right)
    for name in (left, right) if number is None else (left,):
        if name not in NAMES:
            msg = (
                f"--fail-if {text!r}: unknown figure '{name}'{hint(name, NAMES)}"
                f"figures: {', '.join(NAMES)}"
            )
            raise ConfigError(msg)
    return Condition(left, comparison, right if number is None else number)


def figures(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures that conditions compare, from a summary of a study."""
    trials, best = summary["trials"], summary["best"]
    metric = summary["objective"]["metric"]
    return {
        "failed": trials["failed"] + summary["floor"]["failed"],
        "done": trials["done"],
        "planned": trials["planned"],
        "fallback": trials["fallback"],
        "best": None if best is None else best["value"],
        "default": summary["default"]["mean"].get(metric),
        "chance": summary["chance"].get(metric),
    }


def violations(summary: Mapping[str, Any], conditions: Iterable[Condition]) -> list[str]:
    """Return why a study did not reach what was asked; empty when it did.

    A study that is incomplete, or has no scored search trial, never did.
    """
    found: list[str] = []
    trials = summary["trials"]
    if summary["state"] != "complete":
        counted = f"{trials['done'] + trials['failed']} of {trials['planned']} search trials"
        found.append(f"the study is {summary['state']}: {counted} have ended")
    if not trials["done"]:
        found.append("no search trial was scored")
    known = figures(summary)
    for condition in conditions:
        left = known[condition.left]
        right = known[condition.right] if isinstance(condition.right, str) else condition.right
        if left is None or right is None:
            unknown = condition.left if left is None else condition.right
            found.append(f"--fail-if {condition} cannot be judged: {unknown} is not known")
        elif _OPERATORS[condition.operator](left, right):
            found.append(f"--fail-if {condition} holds: {left:g} {condition.operator} {right:g}")
    return found
