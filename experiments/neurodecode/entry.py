"""What the harness asks of the decoders: JSON dictionaries in and out.

Every function takes ``recipe`` (a bundled name or a path) with ``set`` (dotted path to value), or
a whole ``config``; those that touch data also take ``home``, the folder that holds the stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurodecode.config import MODELS, RecipeConfig, dataset_options, load_recipe, read_config
from neurosweep.core.errors import ConfigError
from neurosweep.core.layout import Home

_METRICS = ("val_cer", "val_wer", "val_acc", "val_window_err")
_JOB = "neurodecode.job:run"


def describe(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a recipe: configuration, schema, objective, how to run and warm up its jobs.

    Raises
    ------
    ConfigError
        When the recipe is unknown or anything in it is wrong.
    """
    recipe = load_recipe(_name(payload), payload.get("set"))
    return {
        "recipe": _name(payload),
        "about": recipe.head.about,
        "stage": recipe.head.stage,
        "dataset": recipe.config.data.dataset,
        "config": recipe.config.model_dump(mode="json"),
        "schema": recipe.schema().to_json(),
        "exposed": list(recipe.head.exposed),
        "entry": _JOB,
        "objective": recipe.head.objective.model_dump(mode="json"),
        "metrics": list(_METRICS),
        "warm": warm_modules(recipe.config),
    }


def warm_modules(config: RecipeConfig) -> list[str]:
    """Return the modules that a job of this configuration imports, heaviest first."""
    family = config.model.family
    return ["torch", "neurodecode.job", f"{MODELS}.{family}.network"]


def make(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Say that the recordings of a recipe exist already: none of the datasets is simulated.

    Raises
    ------
    ConfigError
        When the recipe is wrong.
    """
    dataset = _config(payload).data.dataset
    line = f"dataset '{dataset}' was recorded: there is nothing to make; go on with data prepare"
    return {"dataset": dataset, "made": [], "lines": [line]}


def prepare(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write the stores of a recipe unless they exist, and say where they are.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.stores import prepare_store

    config = _config(payload)
    return prepare_store(
        config.data.dataset,
        dataset_options(config),
        config.preprocessing,
        folds=config.data.folds,
        permute_labels=config.data.permute_labels,
        home=Home(Path(payload["home"])),
    )


def check(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Check the recordings of a recipe: whether they are what they claim to be.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.inspection import check_recordings

    config = _config(payload)
    return check_recordings(config.data.dataset, dataset_options(config))


def info(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what a recipe trains and validates on.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.inspection import describe_data

    config = _config(payload)
    return describe_data(config.data.dataset, dataset_options(config), config.data.folds)


def _name(payload: Mapping[str, Any]) -> str:
    name = payload.get("recipe")
    if not isinstance(name, str) or not name:
        msg = f"recipe: expected a bundled name or the path of a TOML file, got {name!r}"
        raise ConfigError(msg)
    return name


def _config(payload: Mapping[str, Any]) -> RecipeConfig:
    if "config" in payload:
        return read_config(payload["config"])
    return load_recipe(_name(payload), payload.get("set")).config
