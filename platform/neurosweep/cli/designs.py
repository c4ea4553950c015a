"""Specifications of the small studies behind ``run`` and ``sweep``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosweep.core.config import parse_assignment
from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses
from neurosweep.core.schema import Schema, Value
from neurosweep.records.mlflow_names import short_names
from neurosweep.records.prepared import Prepared


def fixed_design(
    recipe: str, entry: str, assignments: Sequence[str], seeds: int, name: str | None
) -> dict[str, Any]:
    """Return a study that trains one configuration over several seeds.

    Raises
    ------
    ConfigError
        When an assignment has several values or cannot be made.
    """
    levels = _levels(assignments)
    several = [path for path, values in levels.items() if len(values) > 1]
    if several:
        msg = f"--set {several[0]}: run takes one value; for several use: neurosweep sweep"
        raise ConfigError(msg)
    spec = _base(recipe, entry, name or f"run-{_stem(recipe)}", levels)
    spec["agent"] = {"name": "default"}
    spec["budget"] = {"rounds": 1, "trials_per_round": seeds}
    return spec


def grid_design(
    recipe: str, entry: str, assignments: Sequence[str], name: str | None
) -> dict[str, Any]:
    """Return a study that trains every combination of values once.

    What has one value is part of the configuration, beside what has several.

    Raises
    ------
    ConfigError
        When no values are given or an assignment cannot be made.
    """
    if not assignments:
        msg = "sweep: nothing to sweep; give values, e.g. --set training.learning_rate=1e-4,1e-3"
        raise ConfigError(f"{msg}\n{_fields(recipe, _describe(recipe, entry))}")
    levels = _levels(assignments)
    facts = _describe(recipe, entry)
    _check_paths(recipe, levels, facts)
    prepared = Prepared.of(facts)
    once = {path: values for path, values in levels.items() if prepared.holds(path)}
    several = [path for path, values in once.items() if len(values) > 1]
    if several:
        msg = (
            f"--set {several[0]}: {prepared} are prepared once for a study; give one value, and "
            "use one sweep for each of the others"
        )
        raise ConfigError(msg)
    free = {path: values for path, values in levels.items() if path not in once}
    axes = {path: values for path, values in free.items() if len(values) > 1} or free
    if not axes:
        msg = (
            f"sweep: only what is prepared once for a study ({prepared}) is changed; for one "
            "configuration use: neurosweep run"
        )
        raise ConfigError(msg)
    fixed = {path: values for path, values in levels.items() if path not in axes}
    spec = _base(recipe, entry, name or f"sweep-{_stem(recipe)}", fixed)
    spec["agent"] = {"name": "grid", "options": {"values": axes}}
    spec["budget"] = {
        "rounds": 1,
        "trials_per_round": math.prod(len(values) for values in axes.values()),
    }
    spec["search"] = _search(axes)
    return spec


def _describe(recipe: str, entry: str) -> dict[str, Any]:
    from neurosweep.research.describe import ask_recipe

    return ask_recipe(entry, _found(recipe))


def _check_paths(
    recipe: str, levels: Mapping[str, Sequence[Value]], facts: Mapping[str, Any]
) -> None:
    """Refuse fields that are varied and that the recipe lacks; names of tables are understood."""
    known = [field.path for field in Schema.from_json(facts["schema"]).values()]
    full = {short: path for path, short in short_names(known).items()}
    problems = [
        f"--set {path}: {recipe} has no such field"
        + (f"; did you mean '{full[path]}'?" if path in full else near_misses(path, known))
        for path, values in levels.items()
        if len(values) > 1 and path not in known
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _fields(recipe: str, facts: Mapping[str, Any]) -> str:
    """Return the table of the fields that a recipe offers to a search."""
    prepared = Prepared.of(facts)
    whole = Schema.from_json(facts["schema"]).values()
    offered = Schema(f for f in whole if f.searchable and not prepared.holds(f.path))
    return f"recipe {recipe} offers:\n{offered.table()}"


def _found(recipe: str) -> str:
    """Return a recipe as a process of another folder finds it."""
    path = Path(recipe)
    return str(path.resolve()) if path.suffix == ".toml" and path.is_file() else recipe


def _base(
    recipe: str, entry: str, name: str, fixed: Mapping[str, Sequence[Value]]
) -> dict[str, Any]:
    return {
        "name": name,
        "recipe": _found(recipe),
        "entry": entry,
        "reserve": {"floor": 0},
        "set": {path: values[0] for path, values in fixed.items()},
    }


def _levels(assignments: Sequence[str]) -> dict[str, list[Value]]:
    levels: dict[str, list[Value]] = {}
    for text in assignments:
        path, values = parse_assignment(text)
        if path in levels:
            msg = f"--set {path}: is given twice; give all its values at once: {path}=V1,V2"
            raise ConfigError(msg)
        double = {value for value in values if values.count(value) > 1}
        if double:
            msg = f"--set {text!r}: {sorted(map(str, double))} is given more than once"
            raise ConfigError(msg)
        levels[path] = values
    return levels


def _search(levels: Mapping[str, Sequence[Value]]) -> dict[str, Any]:
    override = {path: {"choices": list(values)} for path, values in levels.items()}
    return {"exposed": list(levels), "override": override}


def _stem(recipe: str) -> str:
    return Path(recipe).stem if recipe.endswith(".toml") else recipe
