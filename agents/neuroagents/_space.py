"""What the samplers share: drawing, comparing and counting configurations of a schema."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses
from neurosweep.core.schema import FieldSpec, Schema, Value

_ATTEMPTS_PER_POINT = 200
Key = tuple[tuple[str, str], ...]


def check_options(agent: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse options that an agent does not have.

    Raises
    ------
    ConfigError
        Naming every unknown option and what is known.
    """
    names = list(known)
    problems = [
        f"{key}: unknown option{near_misses(key, names)}" for key in options if key not in names
    ]
    if problems:
        listed = ", ".join(names) or "none"
        msg = f"[agent.options] of {agent} (known: {listed})\n  " + "\n  ".join(problems)
        raise ConfigError(msg)


def choices_of(field: FieldSpec) -> tuple[Value, ...] | None:
    """Return the values of a field that has no order, or None for a range of numbers."""
    if field.choices is not None:
        return field.choices
    return (False, True) if field.type == "bool" else None


def bounds_of(field: FieldSpec) -> tuple[float, float]:
    """Return the range of a field.

    Raises
    ------
    ConfigError
        When the field declares neither a range nor choices.
    """
    if field.low is None or field.high is None:
        msg = f"{field.path}: has neither a range nor choices, so it cannot be searched"
        raise ConfigError(msg)
    return field.low, field.high


def plain(field: FieldSpec, value: float) -> Value:
    """Return a number as the field's Python type, inside its range."""
    low, high = bounds_of(field)
    if field.type == "int":
        return min(max(round(value), math.ceil(low)), math.floor(high))
    return float(min(max(float(value), low), high))


def draw(schema: Schema, rng: np.random.Generator) -> dict[str, Value]:
    """Return one configuration drawn uniformly, on a logarithmic scale where declared."""
    return {path: _draw_value(field, rng) for path, field in schema.items()}


def _draw_value(field: FieldSpec, rng: np.random.Generator) -> Value:
    choices = choices_of(field)
    if choices is not None:
        return choices[int(rng.integers(len(choices)))]
    low, high = bounds_of(field)
    if field.type == "int" and not field.log:
        return int(rng.integers(math.ceil(low), math.floor(high) + 1))
    # An integer gets the whole of its rounding interval, so that the ends are not rarer.
    margin = 0.5 if field.type == "int" else 0.0
    if field.log:
        drawn = math.exp(rng.uniform(math.log(low - margin), math.log(high + margin)))
    else:
        drawn = rng.uniform(low, high)
    return plain(field, drawn)


def key_of(config: Mapping[str, Value], schema: Schema) -> Key:
    """Return a key that is equal for equal configurations of a schema."""
    return tuple(
        (path, repr(float(value)) if field.type == "float" else repr(value))
        for path, field in schema.items()
        if isinstance(value := config.get(path), bool | int | float | str)
        and not (field.type == "float" and isinstance(value, str))
    )


def draw_new(schema: Schema, rng: np.random.Generator, used: set[Key]) -> dict[str, Value]:
    """Return a drawn configuration that is not in `used`, and add it there.

    In a small space that is used up, a repetition is returned.
    """
    config = draw(schema, rng)
    for _ in range(_ATTEMPTS_PER_POINT):
        if key_of(config, schema) not in used:
            break
        config = draw(schema, rng)
    used.add(key_of(config, schema))
    return config
