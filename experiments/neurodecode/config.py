"""Configurations: which sections a job has, and the models that check them.

The data and model sections take the options of the dataset and the model family that they name:
both are found by folder, so that a new file is all that a new one needs. What else there is
follows from what the dataset gives: windows, or whole sentences; for sentences a section ``llm``
makes it the language-model stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, Field, create_model

from neurodecode.decoding.config import CtcDecodingConfig, DecodingConfig
from neurodecode.llm.config import (
    BACKENDS,
    EncoderSection,
    LlmConfig,
    LlmDecodingConfig,
    ProjectorConfig,
)
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.training.config import TrainingConfig
from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurosweep.core.config import StrictModel, validate
from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import find_plugins, load_plugin, near_misses

DATASETS = "neurodecode.datasets"
MODELS = "neurodecode.models"
CHOOSERS = {"data": "dataset", "model": "family"}

Stage = Literal["encoder", "llm"]
Kind = Literal["windows", "sentences"]


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
    """What every complete configuration has.

    Attributes
    ----------
    data
        Dataset, its options, folds.
    preprocessing
        Filters, sampling rate, scaling.
    model
        Model family and its sizes.
    """

    data: Any
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: Any


class WindowRecipe(RecipeConfig):
    """Train a classifier of windows.

    Attributes
    ----------
    training, decoding
        How weights are found, and text from probabilities.
    """

    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()


class EncoderRecipe(RecipeConfig):
    """Train an encoder of sentences, from signals to characters.

    Attributes
    ----------
    training, decoding
        How weights are found, and text from probabilities.
    """

    training: EncoderTrainingConfig = EncoderTrainingConfig()
    decoding: CtcDecodingConfig = CtcDecodingConfig()


class LlmRecipe(RecipeConfig):
    """Tune a language model on what a frozen encoder reads.

    Attributes
    ----------
    training
        How the encoder's weights are found, where it is trained for this.
    encoder, projector
        Which encoder, and how its frames become vectors of words.
    llm, decoding
        Language model and adapter, and how text is read from it.
    """

    training: EncoderTrainingConfig = EncoderTrainingConfig()
    encoder: EncoderSection = EncoderSection()
    projector: ProjectorConfig = ProjectorConfig()
    llm: LlmConfig = LlmConfig()
    decoding: LlmDecodingConfig = LlmDecodingConfig()


SECTIONS = tuple(LlmRecipe.model_fields)

_RECIPES: Mapping[tuple[Kind, Stage], type[RecipeConfig]] = {
    ("windows", "encoder"): WindowRecipe,
    ("sentences", "encoder"): EncoderRecipe,
    ("sentences", "llm"): LlmRecipe,
}


def read_config(sections: Mapping[str, Any], where: str = "configuration") -> RecipeConfig:
    """Return a checked configuration.

    Parameters
    ----------
    sections
        Nested values with at least ``data.dataset`` and ``model.family``; with ``llm`` it is one
        of the language-model stage.
    where
        Named in errors.

    Raises
    ------
    ConfigError
        Listing every problem.
    """
    dataset = _chosen(sections, "data", DATASETS, where)
    family = _chosen(sections, "model", MODELS, where)
    stage: Stage = "llm" if "llm" in sections else "encoder"
    tuned = sections.get("llm")
    if isinstance(tuned, Mapping) and "backend" in tuned:
        _chosen(sections, "llm", BACKENDS, where)
    try:
        model = recipe_model(dataset, family, stage)
    except ConfigError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from None
    return validate(model, sections, where)


def dataset_options(config: RecipeConfig) -> dict[str, Any]:
    """Return the data section without what every dataset is asked: the dataset's own options."""
    options: dict[str, Any] = config.data.model_dump()
    return {name: value for name, value in options.items() if name not in DataSection.model_fields}


def prepared_paths(config: RecipeConfig) -> list[str]:
    """Return the dotted prefixes that are fixed once for all trials of a study."""
    if not isinstance(config, LlmRecipe):
        return ["data", "preprocessing"]
    encoder = ["data", "preprocessing", "model", "training", "encoder", "projector"]
    return [*encoder, "llm.backend", "llm.folder"]


def kind_of_dataset(name: str) -> Kind:
    """Return what the items of a dataset are."""
    module = load_plugin(DATASETS, name, needs=("Config", "DEFAULT_FOLDS"))
    return "sentences" if hasattr(module, "sentences") else "windows"


@lru_cache
def recipe_model(dataset: str, family: str, stage: Stage) -> type[RecipeConfig]:
    """Return the class that checks configurations of a dataset, a model family and a stage.

    Raises
    ------
    PluginError
        When dataset or family is unknown or incomplete.
    ConfigError
        When they do not go together.
    """
    data_module = load_plugin(DATASETS, dataset, needs=("Config", "DEFAULT_FOLDS"))
    model_module = load_plugin(MODELS, family, needs=("Config", "KIND", "build"))
    kind = kind_of_dataset(dataset)
    if kind != model_module.KIND:
        known = [n for n in find_plugins(MODELS) if kind == load_plugin(MODELS, n, ("KIND",)).KIND]
        msg = f"model.family '{family}' reads {model_module.KIND}, dataset '{dataset}' gives {kind}"
        raise ConfigError(f"{msg}; families for it: {', '.join(known)}")
    if (kind, stage) not in _RECIPES:
        msg = f"stage 'llm' needs a dataset of sentences, '{dataset}' gives {kind}"
        raise ConfigError(f"{msg}; leave out the section [llm], or use another dataset")
    base = _RECIPES[kind, stage]
    model = model_module.Config
    created = create_model(
        base.__name__,
        __base__=base,
        data=(_data_section(data_module, dataset), ...),
        model=(model, model()),
    )
    return cast("type[RecipeConfig]", created)


def _data_section(module: ModuleType, dataset: str) -> type[BaseModel]:
    doc = DataSection.model_fields["folds"].description
    folds: Any = (Annotated[int, Field(ge=1, le=50, description=doc)], module.DEFAULT_FOLDS)
    return create_model(f"{dataset}.Data", __base__=(DataSection, module.Config), folds=folds)


def _chosen(sections: Mapping[str, Any], section: str, package: str, where: str) -> str:
    key = CHOOSERS.get(section, "backend")
    values = sections.get(section)
    name = values.get(key) if isinstance(values, Mapping) else None
    known = find_plugins(package)
    if name not in known:
        given = "is missing" if name is None else f"is {name!r}"
        hint = near_misses(str(name), known)
        msg = f"{where}: 1 problem\n  {section}.{key}: {given}{hint}; known: {', '.join(known)}"
        raise ConfigError(msg)
    return str(name)
