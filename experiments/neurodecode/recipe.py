"""Recipe files: complete default configurations under a name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from neurodecode.config import CHOOSERS, SECTIONS, RecipeConfig, Stage, read_config
from neurosweep.core.config import StrictModel, fields_of, load_toml, set_dotted, validate
from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses
from neurosweep.core.schema import Schema


class Objective(StrictModel):
    """What studies of the recipe search for."""

    metric: str = Field("val_cer", description="a score that the driver computes")
    direction: Literal["minimize", "maximize"] = Field("minimize", description="which is better")


class Head(StrictModel):
    """The part of a recipe file that is not configuration."""

    stage: Stage = Field("encoder", description="what is trained")
    about: str = Field("", description="one sentence")
    objective: Objective = Objective()
    exposed: list[str] = Field(
        default_factory=list, description="dotted paths that are searched unless a study names some"
    )


@dataclass(frozen=True)
class Recipe:
    """Hold a recipe.

    Attributes
    ----------
    name
        Bundled name, or the stem of the file.
    head
        Stage, objective, exposed paths.
    config
        The complete configuration.
    """

    name: str
    head: Head
    config: RecipeConfig

    def schema(self) -> Schema:
        """Return every scalar field with its range and its value in this recipe."""
        return Schema(fields_of(self.config))


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and change some of its values.

    Parameters
    ----------
    name
        A bundled name such as ``speller``, or the path of a TOML file.
    overrides
        Dotted path to value. Another ``data.dataset`` or ``model.family`` starts that section
        afresh from the defaults of the one chosen.

    Raises
    ------
    ConfigError
        When the recipe does not exist or anything in it is wrong; all problems are listed.
    """
    path = _recipe_path(name)
    tree = load_toml(path)
    where = name if path.stem == name else str(path)
    head = validate(Head, {k: v for k, v in tree.items() if k not in SECTIONS}, where)
    sections = {k: v for k, v in tree.items() if k in SECTIONS}
    if head.stage == "llm":
        sections.setdefault("llm", {})
    elif "llm" in sections:
        msg = f"{where}: has a section [llm] and stage = 'encoder'; set stage = 'llm' or drop it"
        raise ConfigError(msg)
    if overrides:
        sections = _override(sections, overrides)
        where += " with " + ", ".join(f"{key}={value}" for key, value in overrides.items())
    recipe = Recipe(path.stem, head, read_config(sections, where))
    return _with_known_exposed(recipe, overrides or {}, where)


def bundled_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, name to file."""
    folder = Path(str(resources.files("neurodecode") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def _recipe_path(name: str) -> Path:
    bundled = bundled_recipes()
    if name in bundled:
        return bundled[name]
    path = Path(name).expanduser()
    if path.suffix == ".toml" or path.is_file():
        return path
    msg = f"recipe '{name}' is unknown{near_misses(name, bundled)}; bundled are "
    raise ConfigError(msg + ", ".join(bundled) + "; or give the path of a TOML file")


def _override(sections: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(dict(sections))
    for section, key in CHOOSERS.items():
        name = overrides.get(f"{section}.{key}")
        if name is not None and name != changed.get(section, {}).get(key):
            changed[section] = {key: name}
    for path, value in overrides.items():
        if path.split(".")[0] not in SECTIONS or "." not in path:
            hint = near_misses(path.split(".")[0], SECTIONS)
            msg = f"{path}: unknown field{hint}; a path begins with one of {', '.join(SECTIONS)}"
            raise ConfigError(msg)
        set_dotted(changed, path, value)
    return changed


def _with_known_exposed(recipe: Recipe, overrides: Mapping[str, Any], where: str) -> Recipe:
    """Drop exposed fields of a section that was started afresh; any other unknown is an error."""
    schema = recipe.schema()
    afresh = [f"{s}." for s, key in CHOOSERS.items() if f"{s}.{key}" in overrides]
    known = [
        path
        for path in recipe.head.exposed
        if path in schema or not any(path.startswith(prefix) for prefix in afresh)
    ]
    try:
        schema.exposed(known)
    except ConfigError as error:
        msg = f"{where}: exposed: {error}"
        raise ConfigError(msg) from None
    return replace(recipe, head=recipe.head.model_copy(update={"exposed": known}))
