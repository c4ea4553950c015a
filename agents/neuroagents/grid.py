"""A full factorial design: every combination of chosen levels, exactly once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from neuroagents._space import bounds_of, check_options, choices_of, key_of, plain
from neurosweep.core.config import flatten
from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses
from neurosweep.core.schema import FieldSpec, Schema, Value
from neurosweep.records.agent_api import Proposal, TrialRecord


class Grid:
    """Propose the points of a grid in a fixed order, the last field changing fastest.

    A grid may span several rounds: each takes the next points that the history lacks. Fields
    without levels keep their default. Without any option, levels are chosen so that their product
    is the number of trials of the round.

    Parameters
    ----------
    levels
        Path to number of levels, evenly spaced over the range (or over its logarithm) with both
        ends; for choices, the first so many.
    values
        Path to the list of values.
    """

    name = "grid"
    repeats = False

    def __init__(self, levels: Mapping[str, int], values: Mapping[str, Sequence[Value]]) -> None:
        self._levels = dict(levels)
        self._values = {path: tuple(given) for path, given in values.items()}

    def propose(
        self,
        history: Sequence[TrialRecord],
        n: int,
        schema: Schema,
        rng: np.random.Generator,  # noqa: ARG002 - a grid draws nothing
    ) -> list[Proposal]:
        """Return the next `n` points.

        Raises
        ------
        ConfigError
            When the size of the grid is no multiple of `n` or the grid is used up; names the
            product of the levels.
        """
        axes = self._axes(schema, n)
        size = math.prod(len(axis) for axis in axes.values())
        product = " x ".join(str(len(axis)) for axis in axes.values()) + f" = {size}"
        if size % n:
            msg = (
                f"the grid has {product} points ({_sizes(axes)}), no multiple of the {n} trials of "
                "a round; change [agent.options] or [budget] trials_per_round"
            )
            raise ConfigError(msg)
        done = {key_of(record.config, schema) for record in history}
        points = (
            dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())
        )
        left = [point for point in points if key_of(point, schema) not in done]
        if len(left) < n:
            msg = (
                f"the grid has {product} points ({_sizes(axes)}), {len(left)} of them are left, "
                f"and a round needs {n}; set [budget] rounds = {size // n}, or give more levels"
            )
            raise ConfigError(msg)
        return [Proposal(point, "a point of the grid") for point in left[:n]]

    def _axes(self, schema: Schema, n: int) -> dict[str, tuple[Value, ...]]:
        self._refuse_unknown(schema)
        if not self._levels and not self._values:
            return _automatic(schema, n)
        problems: list[str] = []
        axes: dict[str, tuple[Value, ...]] = {}
        for path, field in schema.items():
            axis = self._axis(field)
            wrong = [problem for value in axis if (problem := field.check(value)) is not None]
            problems += wrong or _axis_problems(path, axis, self._levels.get(path))
            axes[path] = axis
        if problems:
            raise ConfigError("[agent.options] of grid\n  " + "\n  ".join(problems))
        return axes

    def _axis(self, field: FieldSpec) -> tuple[Value, ...]:
        if field.path in self._values:
            return tuple(
                float(value) if field.type == "float" and isinstance(value, int) else value
                for value in self._values[field.path]
            )
        if field.path in self._levels:
            return levels_of(field, self._levels[field.path])
        return () if field.default is None else (field.default,)

    def _refuse_unknown(self, schema: Schema) -> None:
        problems = [
            f"{path}: is not exposed{near_misses(path, schema)}"
            for path in (*self._levels, *self._values)
            if path not in schema
        ]
        both = set(self._levels) & set(self._values)
        problems += [f"{path}: has both levels and values; give one" for path in sorted(both)]
        if problems:
            raise ConfigError("[agent.options] of grid\n  " + "\n  ".join(problems))


def _axis_problems(path: str, axis: Sequence[Value], levels: int | None) -> list[str]:
    if not axis:
        return [f"{path}: has no default and no levels; give one of them"]
    if len(set(axis)) < len(axis) or (levels is not None and len(axis) < levels):
        return [f"{path}: {levels or len(axis)} levels are not all different: {list(axis)}"]
    return []


def _sizes(axes: Mapping[str, Sequence[Value]]) -> str:
    return ", ".join(f"{path}: {len(axis)}" for path, axis in axes.items())


def levels_of(field: FieldSpec, count: int) -> tuple[Value, ...]:
    """Return so many values of a field: evenly spaced with both ends, or its first choices.

    Fewer come back when the field does not have so many.
    """
    choices = choices_of(field)
    if choices is not None:
        return choices[:count]
    low, high = bounds_of(field)
    if count == 1:
        middle = math.sqrt(low * high) if field.log else (low + high) / 2.0
        return (plain(field, middle),)
    spaced = np.geomspace(low, high, count) if field.log else np.linspace(low, high, count)
    return tuple(dict.fromkeys(plain(field, value) for value in spaced.tolist()))


def _automatic(schema: Schema, n: int) -> dict[str, tuple[Value, ...]]:
    capacity = tuple(_capacity(field, n) for field in schema.values())
    counts = _factors(n, capacity)
    if counts is None:
        most = ", ".join(f"{p}: {c}" for p, c in zip(schema, capacity, strict=True))
        msg = (
            f"no grid of these fields has {n} points (most levels {most}); change "
            "[budget] trials_per_round, or give levels or values under [agent.options]"
        )
        raise ConfigError(msg)
    return {
        field.path: (field.default,)
        if count == 1 and field.default is not None and field.check(field.default) is None
        else levels_of(field, count)
        for field, count in zip(schema.values(), counts, strict=True)
    }


def _capacity(field: FieldSpec, n: int) -> int:
    choices = choices_of(field)
    if choices is not None:
        return len(choices)
    # Rounding may merge levels of an integer, so what counts is what comes out.
    return max(
        (count for count in range(1, n + 1) if len(levels_of(field, count)) == count), default=1
    )


@lru_cache(maxsize=256)
def _factors(n: int, capacity: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return one factor a field with product `n`: the smallest sum, more for early fields."""
    if not capacity:
        return () if n == 1 else None
    best: tuple[int, ...] | None = None
    for first in range(1, min(n, capacity[0]) + 1):
        rest = _factors(n // first, capacity[1:]) if n % first == 0 else None
        if rest is not None and (best is None or sum((first, *rest)) <= sum(best)):
            best = (first, *rest)
    return best


def create(options: Mapping[str, Any], seed: int) -> Grid:
    """Return the agent.

    Parameters
    ----------
    options
        ``levels`` (path to number) and ``values`` (path to list); paths may be quoted or nested.
    seed
        Not used: a grid draws nothing.

    Raises
    ------
    ConfigError
        When an option is unknown or not of its type.
    """
    del seed
    check_options("grid", options, ("levels", "values"))
    tables = {key: options.get(key, {}) for key in ("levels", "values")}
    problems = [
        f"{key}: expected a table" for key, t in tables.items() if not isinstance(t, Mapping)
    ]
    if problems:
        raise ConfigError("[agent.options] of grid\n  " + "\n  ".join(problems))
    levels, values = flatten(tables["levels"]), flatten(tables["values"])
    problems = [
        f"levels.{path}: is {count!r}, expected a whole number from 1"
        for path, count in levels.items()
        if isinstance(count, bool) or not isinstance(count, int) or count < 1
    ]
    problems += [
        f"values.{path}: is {given!r}, expected a list of values"
        for path, given in values.items()
        if not isinstance(given, list | tuple) or not given
    ]
    if problems:
        raise ConfigError("[agent.options] of grid\n  " + "\n  ".join(problems))
    return Grid(levels, values)
