"""Recipes: complete default configurations, and the models that check them.

The data and model sections take the options of the dataset and the model family that they name:
both are found by folder, so that a new file is all that a new one needs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, Field, create_model

from neurodecode.decoding.config import DecodingConfig
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.training.config import TrainingConfig
from neurosweep.core.config import StrictModel, fields_of, load_toml, set_dotted, validate
from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import find_plugins, load_plugin, near_misses
from neurosweep.core.schema import Schema

DATASETS = "neurodecode.datasets"
MODELS = "neurodecode.models"
SECTIONS = ("data", "preprocessing", "model", "training", "decoding")
_CHOOSERS = {"data": "dataset", "model": "family"}


class DataSection(StrictModel):
    """What every dataset is asked besides its own options."""

    dataset: str = Field(description="a file of the folder neurodecode/datasets")
    folds: Annotated[int, Field(ge=1, le=50)] = Field(
        1, description="contiguous folds; 1 keeps the dataset's own split"
    )
    permute_labels: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        0, description="null control: seed of a permutation of all labels; 0 keeps the true ones"
    )


class RecipeConfig(StrictModel):
    """A complete configuration.

    Attributes
    ----------
    data
        Dataset, its options, folds.
    preprocessing
        Filters, sampling rate, scaling.
    model
        Model family and its sizes.
    training, decoding
        How weights are found, and text from probabilities.
    """

    data: Any
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: Any
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()


class Objective(StrictModel):
    """What studies of the recipe search for."""

    metric: str = Field("val_cer", description="a score that the driver computes")
    direction: Literal["minimize", "maximize"] = Field("minimize", description="which is better")


class Head(StrictModel):
    """The part of a recipe file that is not configuration."""

    stage: Literal["encoder", "llm"] = Field("encoder", description="what is trained")
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
    if overrides:
        sections = _override(sections, overrides)
        where += " with " + ", ".join(f"{key}={value}" for key, value in overrides.items())
    recipe = Recipe(path.stem, head, read_config(sections, where))
    return _with_known_exposed(recipe, overrides or {}, where)


def bundled_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, name to file."""
    folder = Path(str(resources.files("neurodecode") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def read_config(sections: Mapping[str, Any], where: str = "configuration") -> RecipeConfig:
    """Return a checked configuration.

    Parameters
    ----------
    sections
        Nested values with at least ``data.dataset`` and ``model.family``.
    where
        Named in errors.

    Raises
    ------
    ConfigError
        Listing every problem.
    """
    dataset = _chosen(sections, "data", DATASETS, where)
    family = _chosen(sections, "model", MODELS, where)
    return validate(recipe_model(dataset, family), sections, where)


def dataset_options(config: RecipeConfig) -> dict[str, Any]:
    """Return the data section without what every dataset is asked: the dataset's own options."""
    options: dict[str, Any] = config.data.model_dump()
    return {name: value for name, value in options.items() if name not in DataSection.model_fields}


@lru_cache
def recipe_model(dataset: str, family: str) -> type[RecipeConfig]:
    """Return the class that checks configurations of a dataset and a model family.

    Raises
    ------
    PluginError
        When either is unknown or incomplete.
    """
    data_module = load_plugin(DATASETS, dataset, needs=("Config", "DEFAULT_FOLDS"))
    model = load_plugin(MODELS, family, needs=("Config", "build")).Config
    data = _data_section(data_module, dataset)
    created = create_model(
        "RecipeConfig", __base__=RecipeConfig, data=(data, ...), model=(model, model())
    )
    return cast("type[RecipeConfig]", created)


def _data_section(module: ModuleType, dataset: str) -> type[BaseModel]:
    doc = DataSection.model_fields["folds"].description
    folds: Any = (Annotated[int, Field(ge=1, le=50, description=doc)], module.DEFAULT_FOLDS)
    return create_model(f"{dataset}.Data", __base__=(DataSection, module.Config), folds=folds)


def _chosen(sections: Mapping[str, Any], section: str, package: str, where: str) -> str:
    key = _CHOOSERS[section]
    values = sections.get(section)
    name = values.get(key) if isinstance(values, Mapping) else None
    known = find_plugins(package)
    if name not in known:
        given = "is missing" if name is None else f"is {name!r}"
        hint = near_misses(str(name), known)
        msg = f"{where}: 1 problem\n  {section}.{key}: {given}{hint}; known: {', '.join(known)}"
        raise ConfigError(msg)
    return str(name)


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
    for section, key in _CHOOSERS.items():
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
    afresh = [f"{s}." for s, key in _CHOOSERS.items() if f"{s}.{key}" in overrides]
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
