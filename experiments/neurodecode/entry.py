"""What the harness asks of the decoders: JSON dictionaries in and out.

Every function takes ``recipe`` (a bundled name or a path) with ``set`` (dotted path to value), or
a whole ``config``; those that touch data also take ``home``, the folder that holds the stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurodecode.config import MODELS, RecipeConfig, load_recipe, read_config
from neurosweep.core.errors import ConfigError

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
    """Read and preprocess the recordings of a recipe.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.preprocessing import prepare as stores

    return stores.make(_config(payload), _home(payload))


def prepare(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write the stores of a recipe unless they exist, and say where they are.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.preprocessing import prepare as stores

    return stores.prepare(_config(payload), _home(payload))


def check(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Check the recordings of a recipe: what they are, and what is suspicious about them.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.preprocessing import prepare as stores

    return stores.check(_config(payload), _home(payload))


def info(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what the stores of a recipe hold.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.preprocessing import prepare as stores

    return stores.info(_config(payload), _home(payload))


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


def _home(payload: Mapping[str, Any]) -> Path:
    return Path(payload["home"])
