"""A package of decoders in miniature: whole studies on it need no torch and take milliseconds.

A study names it with ``entry = "neurosweep.testing"``; its recipes are the names of
`neurosweep.testing.jobs.JOBS`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from neurosweep.core.config import (
    Searchable,
    StrictModel,
    fields_of,
    set_dotted,
    validate,
)
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.layout import Home
from neurosweep.core.plugins import near_misses
from neurosweep.testing.jobs import JOBS
from neurosweep.testing.stages import STAGES, facts_of
from neurosweep.testing.store import make_store

logger = logging.getLogger(__name__)

_EXPOSED = (
    "training.learning_rate",
    "training.weight_decay",
    "model.rank",
    "training.batch_size",
)


class TextData(StrictModel):
    """Which sentences there are."""

    dataset: str = "sentences"
    subjects: int = Field(2, ge=1, le=9, description="subjects")
    items: int = Field(24, ge=1, le=10_000, description="sentences of the validation part")
    seed: int = Field(0, ge=0, description="draw of the sentences")


class TextModel(StrictModel):
    """Size of the pretended model."""

    family: str = "letters"
    rank: Annotated[int, Searchable(choices=(4, 8, 16, 32, 64))] = Field(8, description="rank")


class TextTraining(StrictModel):
    """Pretended training."""

    learning_rate: Annotated[float, Searchable(1e-5, 1e-1, log=True)] = Field(
        1e-4, description="step size"
    )
    weight_decay: Annotated[float, Searchable(1e-6, 1e-1, log=True)] = Field(
        1e-4, description="pull to zero"
    )
    batch_size: Annotated[int, Searchable(choices=(8, 16, 32, 64, 128))] = Field(
        16, description="items of a step"
    )
    epochs: int = Field(3, ge=1, description="passes over the data")


class Fault(StrictModel):
    """What goes wrong, see `neurosweep.testing.jobs.instant`."""

    mode: str = Field("none", description="job that is run instead")
    share: float = Field(0.0, ge=0.0, description="share of seeds that meet the fault")
    delay_s: float = Field(0.0, ge=0.0, description="waited first")
    hostile: str = Field("nan", description="what the hostile job writes")


class TextConfig(StrictModel):
    """The whole configuration."""

    data: TextData = TextData()
    model: TextModel = TextModel()
    training: TextTraining = TextTraining()
    fault: Fault = Fault()


def _config(payload: Mapping[str, Any]) -> TextConfig:
    recipe = str(payload.get("recipe", "instant"))
    if "config" not in payload and recipe not in JOBS:
        msg = f"recipe '{recipe}' does not exist{near_misses(recipe, JOBS)}; there are: "
        raise ConfigError(msg + ", ".join(JOBS))
    data: dict[str, Any] = TextConfig().model_dump() | dict(payload.get("config", {}))
    for path, value in payload.get("set", {}).items():
        set_dotted(data, path, value)
    return validate(TextConfig, data, f"recipe {recipe}")


def describe(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return configuration, schema and entry of a recipe.

    Raises
    ------
    ConfigError
        When the recipe does not exist or a value is not allowed.
    """
    config = _config(payload)
    recipe = str(payload.get("recipe", "instant"))
    staged = recipe == "staged"
    return {
        "recipe": recipe,
        "stage": "llm" if staged else "encoder",
        "dataset": config.data.dataset,
        "config": config.model_dump(),
        "schema": [field.to_dict() for field in fields_of(config)],
        "entry": f"neurosweep.testing.jobs:{recipe}",
        "objective": {"metric": "val_cer", "direction": "minimize"},
        "exposed": [path for path in _EXPOSED if not (staged and path == "model.rank")],
        "prepared": ["data", "model"] if staged else ["data"],
        "metrics": ["val_cer", "val_wer", "val_acc", "val_window_err"],
        "warm": ["neurosweep.testing.jobs"],
    }


def stages(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the stages of a pipeline.

    Raises
    ------
    ConfigError
        When there is no such stage, or a value is not allowed.
    """
    found: dict[str, Any] = {}
    for name, asked in payload["stages"].items():
        facts = facts_of(asked["job"])
        if facts is None:
            known = ", ".join(STAGES)
            msg = f"stages.{name}.job: no stage '{asked['job']}'; there are {known}"
            raise ConfigError(msg)
        config = _config({"recipe": payload["recipe"], "set": asked["set"]})
        found[name] = {
            **facts,
            "config": config.model_dump(),
            "warm": ["neurosweep.testing.stages"],
        }
    return {"config": _config(payload).model_dump(), "stages": found}


def prepare(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write the store and the secret references of a recipe, unless they exist.

    Raises
    ------
    ConfigError
        When the recipe does not exist or a value is not allowed.
    """
    config = _config(payload)
    logger.info("drawing %d sentences", config.data.items)
    return make_store(Home(Path(payload["home"])), config.data.model_dump())


def decode(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Read a recording of text: every line is a sentence of one second.

    Raises
    ------
    DataError
        When it is no text.
    """
    path = Path(payload["recording"])
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: is no recording of text ({error})"
        raise DataError(msg) from error
    beam = payload["beam"] or payload["run"]["config"]["model"]["rank"]
    logger.info("decoding %d sentences with a beam of %d", len(lines), beam)
    weights = Path(payload["run"]["ckpt"]) / "adapter" / "adapter_model.safetensors"
    rate = payload["run"]["config"]["training"]["learning_rate"]
    sentences = [
        {
            "start_s": float(number),
            "stop_s": number + 1.0,
            "hypothesis": line.replace("e", "a"),
            "greedy": line.replace("e", ""),
            "reference": line,
            "logp": -rate,
        }
        for number, line in enumerate(lines)
    ]
    told = f"{len(lines)} sentences, {weights.stat().st_size} bytes of weights, beam {beam}"
    return {"sentences": sentences, "lines": [told]}
