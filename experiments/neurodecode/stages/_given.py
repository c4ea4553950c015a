"""What a stage is given, and where it writes what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neurodecode.config import MODELS, SECTIONS, LlmRecipe
from neurosweep.core.config import validate
from neurosweep.core.errors import DataError
from neurosweep.core.layout import AttemptDir
from neurosweep.core.plugins import load_plugin
from neurosweep.exec.job_api import JobContext

ENCODER, ADAPTER = "encoder", "adapter"


def config_of(ctx: JobContext) -> LlmRecipe:
    """Return the configuration of a stage: what it does not use is as by default.

    Raises
    ------
    ConfigError
        When a value is wrong.
    """
    sections = {name: ctx.config[name] for name in SECTIONS if name in ctx.config}
    model = sections.get("model", {})
    if "family" in model:
        family = load_plugin(MODELS, str(model["family"]), needs=("Config", "build"))
        model = validate(family.Config, model, "run.json config.model")
    return validate(LlmRecipe, sections | {"data": {}, "model": model}, "run.json config")


def element_of(ctx: JobContext) -> str:
    """Return for whom a task runs; empty where a stage has one task."""
    return str(ctx.config["pipeline"]["element"])


def out_of(ctx: JobContext) -> Path:
    """Return the folder for what the stage makes."""
    folder = AttemptDir(ctx.attempt_dir).out
    folder.mkdir(exist_ok=True)
    return folder


def input_with(ctx: JobContext, name: str, what: str) -> Path:
    """Return the folder `name` of the one input that has it.

    Parameters
    ----------
    ctx
        Of the stage.
    name
        Folder or file in the artifact of an earlier stage.
    what
        What is looked for, in words.

    Raises
    ------
    DataError
        When no input has it, or several do.
    """
    found = inputs_with(ctx, name)
    if len(found) != 1:
        given = ", ".join(ctx.inputs) or "nothing"
        msg = f"expected one input with {what} ({name}), found {len(found)} among {given}"
        raise DataError(f"{msg}; name the stage that makes it under 'needs'")
    return next(iter(found.values()))


def inputs_with(ctx: JobContext, name: str) -> Mapping[str, Path]:
    """Return input to its folder `name`, of those that have it, in the order of their names."""
    paths = {given: folder / name for given, folder in sorted(ctx.inputs.items())}
    return {given: path for given, path in paths.items() if path.exists()}
