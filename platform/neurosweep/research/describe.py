"""What a recipe is, as its package describes it, checked against the study that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.core.config import flatten
from neurosweep.core.entry import call_entry
from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses
from neurosweep.core.schema import Schema
from neurosweep.records.prepared import Prepared
from neurosweep.records.spec import ObjectiveSpec, StudySpec

_DESCRIBE_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Described:
    """Hold what a package of decoders says of a recipe, checked against the study.

    Attributes
    ----------
    facts
        The answer of the package's ``describe``.
    schema
        The fields that the study searches, with its narrowed ranges.
    spec
        The specification with the recipe's stage, objective and fields filled in.
    prepared
        What is fixed for all trials of the study.
    """

    facts: Mapping[str, Any]
    schema: Schema
    spec: StudySpec
    prepared: Prepared


def describe_recipe(spec: StudySpec, code_root: Path | None) -> Described:
    """Return a recipe's configuration and schema, in a process that imports its package.

    Raises
    ------
    ConfigError
        When the recipe, a value under [data], the stage, a field to search or the objective is
        wrong.
    """
    assignments = {f"data.{path}": value for path, value in flatten(spec.data).items()}
    assignments |= flatten(spec.set)
    facts = ask_recipe(spec.entry, spec.recipe, assignments, code_root=code_root)
    prepared = Prepared.of(facts)
    filled = spec.model_copy(
        update={"stage": _stage(spec, facts), "objective": _objective(spec, facts)}
    )
    schema = _searched(filled, facts, prepared)
    search = filled.search.model_copy(update={"exposed": list(schema)})
    return Described(facts, schema, filled.model_copy(update={"search": search}), prepared)


def ask_recipe(
    entry: str,
    recipe: str,
    assignments: Mapping[str, Any] | None = None,
    *,
    code_root: Path | None = None,
) -> dict[str, Any]:
    """Return what a package's ``describe`` says of a recipe with some values changed.

    Raises
    ------
    ConfigError
        When the recipe or a value is wrong.
    """
    payload = {"recipe": recipe, "set": dict(assignments or {})}
    return call_entry(
        f"{entry}.entry:describe", payload, code_root=code_root, timeout_s=_DESCRIBE_TIMEOUT_S
    )


def _stage(spec: StudySpec, facts: Mapping[str, Any]) -> str | None:
    stage = facts.get("stage", spec.stage)
    if spec.stage not in (None, stage):
        msg = (
            f"stage: the study says '{spec.stage}', recipe {spec.recipe} trains the stage "
            f"'{stage}'; leave stage out, or name a recipe of the other stage"
        )
        raise ConfigError(msg)
    return None if stage is None else str(stage)


def _searched(spec: StudySpec, facts: Mapping[str, Any], prepared: Prepared) -> Schema:
    whole = Schema.from_json(facts["schema"])
    exposed = spec.search.exposed or list(facts.get("exposed", []))
    exposed = exposed or [
        path for path, field in whole.items() if field.searchable and not prepared.holds(path)
    ]
    fixed = prepared.among(exposed)
    if fixed:
        msg = (
            f"[search] exposed: {', '.join(fixed)} cannot be searched: {prepared} are prepared "
            "once for the whole study. Set it under [set], one study for each value"
        )
        raise ConfigError(msg)
    return whole.exposed(exposed, spec.search.override)


def _objective(spec: StudySpec, facts: Mapping[str, Any]) -> ObjectiveSpec:
    metric = spec.objective.metric or facts["objective"]["metric"]
    direction = _direction(metric, facts)
    known = facts.get("metrics", [metric])
    if metric not in known:
        listed = ", ".join(known)
        msg = f"[objective] metric: unknown '{metric}'{near_misses(metric, known)}; it has: "
        raise ConfigError(f"recipe {spec.recipe}: {msg}{listed}")
    if spec.objective.direction not in (None, direction):
        msg = f"[objective] direction: {spec.objective.direction} would search for the worst"
        raise ConfigError(f"recipe {spec.recipe}: {msg} {metric}; leave it out, or {direction}")
    return spec.objective.model_copy(update={"metric": metric, "direction": direction})


def _direction(metric: str, facts: Mapping[str, Any]) -> str:
    if metric == facts["objective"]["metric"]:
        return str(facts["objective"]["direction"])
    return "maximize" if metric == "val_acc" else "minimize"
