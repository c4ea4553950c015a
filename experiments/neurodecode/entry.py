"""What the harness asks of the decoders: JSON dictionaries in and out.

Every function takes ``recipe`` (a bundled name or a path) with ``set`` (dotted path to value), or
a whole ``config``; those that touch data also take ``home``, the folder that holds the stores, and
``threads``, how many they may use. What takes long tells its progress to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurodecode.config import (
    MODELS,
    EncoderRecipe,
    LlmRecipe,
    RecipeConfig,
    dataset_options,
    prepared_paths,
    read_config,
)
from neurodecode.recipe import load_recipe
from neurosweep.core.errors import ConfigError
from neurosweep.core.layout import Home, default_home

logger = logging.getLogger(__name__)

_TEXT_METRICS = ("val_wer", "val_cer")
_WINDOW_METRICS = ("val_cer", "val_wer", "val_acc", "val_window_err")


def describe(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a recipe: configuration, schema, objective, how to run and warm up its jobs.

    Raises
    ------
    ConfigError
        When the recipe is unknown or anything in it is wrong.
    """
    recipe = load_recipe(_name(payload), payload.get("set"))
    config = recipe.config
    texts = isinstance(config, EncoderRecipe | LlmRecipe)
    return {
        "recipe": _name(payload),
        "about": recipe.head.about,
        "stage": recipe.head.stage,
        "dataset": config.data.dataset,
        "config": config.model_dump(mode="json"),
        "schema": recipe.schema().to_json(),
        "exposed": list(recipe.head.exposed),
        "prepared": prepared_paths(config),
        "entry": f"{_job(config)}:run",
        "objective": recipe.head.objective.model_dump(mode="json"),
        "metrics": list(_TEXT_METRICS if texts else _WINDOW_METRICS),
        "warm": warm_modules(config),
    }


def stages(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the stages of a pipeline: what each is given, and what decides what it makes.

    Raises
    ------
    ConfigError
        When the recipe, a value or a stage is wrong.
    """
    from neurodecode.stages._facts import describe_stages

    _name(payload)
    return describe_stages(payload)


def _job(config: RecipeConfig) -> str:
    if isinstance(config, LlmRecipe):
        return "neurodecode.jobs.llm"
    name = "encoder" if isinstance(config, EncoderRecipe) else "windows"
    return f"neurodecode.jobs.{name}"


def warm_modules(config: RecipeConfig) -> list[str]:
    """Return the modules that a job of this configuration imports, heaviest first."""
    if isinstance(config, LlmRecipe):
        return ["torch", "transformers", "peft", _job(config)]
    return ["torch", _job(config), f"{MODELS}.{config.model.family}.network"]


def make(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Simulate the recordings of a recipe, unless they exist or were recorded.

    Raises
    ------
    ConfigError, DataError
        When the recipe is wrong, or a recording cannot be written.
    """
    from neurodecode.simulation import make_recordings

    config = _config(payload)
    name = config.data.dataset
    made = make_recordings(name, dataset_options(config), _home(payload), logger.info)
    if made is None:
        line = f"dataset '{name}' was recorded: there is nothing to make; go on with data prepare"
        return {"dataset": name, "made": [], "lines": [line]}
    lines = [f"{len(made.files)} recordings in {made.folder}"]
    return {"dataset": name, "made": made.files, "folder": made.folder, "lines": lines}


def prepare(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write the stores of a recipe unless they exist, and say where they are.

    Recordings that can be simulated are. For the language-model stage the encoder is trained too,
    unless the recipe names one, and what it reads is stored; ``features`` = false leaves that to
    the stages of a pipeline.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.simulation import make_recordings, with_folder
    from neurodecode.stores import prepare_store

    config = _config(payload)
    with_features = isinstance(config, LlmRecipe) and payload.get("features", True)
    if isinstance(config, LlmRecipe):
        from neurodecode.llm.prepare import check_named

        check_named(config)
    home = _home(payload)
    name = config.data.dataset
    made = make_recordings(name, dataset_options(config), home, logger.info)
    logger.info("reading and preprocessing the recordings of '%s'", name)
    result = prepare_store(
        name,
        with_folder(name, dataset_options(config), home),
        config.preprocessing,
        folds=config.data.folds,
        permute_labels=config.data.permute_labels,
        home=home,
    )
    if isinstance(config, LlmRecipe) and with_features:
        from neurodecode.llm.prepare import prepare_features

        _use_threads(payload)
        result = prepare_features(config, result, home, logger.info)
    return result if made is None else {**result, "recordings_folder": made.folder}


def check(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Check the recordings of a recipe: whether they are what they claim to be.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.inspection import check_recordings
    from neurodecode.simulation import with_folder

    config = _config(payload)
    name = config.data.dataset
    return check_recordings(name, with_folder(name, dataset_options(config), _home(payload)))


def info(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what a recipe trains and validates on.

    Raises
    ------
    ConfigError, DataError
        When the recipe or a recording is wrong.
    """
    from neurodecode.inspection import describe_data
    from neurodecode.simulation import with_folder

    config = _config(payload)
    name = config.data.dataset
    options = with_folder(name, dataset_options(config), _home(payload))
    return describe_data(name, options, config.data.folds)


def decode(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Read the sentences of one recording with what a trial trained.

    Raises
    ------
    ConfigError, DataError
        When the trial kept no model, or the recording cannot be read.
    """
    from neurodecode.recording_decoder import decode_recording

    _use_threads(payload)
    return decode_recording(payload)


def _use_threads(payload: Mapping[str, Any]) -> None:
    import torch

    torch.set_num_threads(max(1, int(payload.get("threads", 1))))


def _home(payload: Mapping[str, Any]) -> Home:
    return Home(Path(payload["home"])) if "home" in payload else default_home()


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
