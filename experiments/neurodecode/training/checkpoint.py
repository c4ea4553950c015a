"""Trained encoders as files: weights as safetensors, and what they were built from as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import nn

from neurodecode.contracts import SentenceFacts
from neurosweep.core.config import StrictModel, validate
from neurosweep.core.errors import DataError, PluginError
from neurosweep.core.files import atomic_write_bytes, atomic_write_json, read_json
from neurosweep.core.plugins import load_plugin

WEIGHTS = "encoder.safetensors"
DESCRIPTION = "encoder.json"

_FORMAT = 1
_MODELS = "neurodecode.models"
_UNUSABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, PluginError)


def save_encoder(
    folder: Path, model: nn.Module, config_model: StrictModel, facts: SentenceFacts
) -> None:
    """Write an encoder's weights and all that is needed to build it again.

    Parameters
    ----------
    folder
        Created when absent.
    model
        The encoder.
    config_model
        Options of its family, the field ``family`` among them.
    facts
        What it was built for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / WEIGHTS, model)
    description = {"v": _FORMAT, "model": config_model.model_dump(mode="json")}
    atomic_write_json(folder / DESCRIPTION, description | {"facts": asdict(facts)})


def write_safetensors(path: Path, model: nn.Module) -> None:
    """Write all weights of a model, whole or not at all.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written. The library's own writing raises an
        error of another kind, which says nothing of the file.
    """
    from safetensors.torch import save

    state = {name: one.detach().cpu().contiguous() for name, one in model.state_dict().items()}
    atomic_write_bytes(path, save(state))


def load_encoder(folder: Path) -> tuple[nn.Module, SentenceFacts]:
    """Return an encoder in evaluation mode, on the CPU, and what it was built for.

    Raises
    ------
    DataError
        When a file is missing, damaged, or does not fit the other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        description = read_json(folder / DESCRIPTION)
        facts = _facts(description["facts"])
        options = description["model"]
        family = load_plugin(_MODELS, str(options["family"]), needs=("Config", "build"))
        model: nn.Module = family.build(
            validate(family.Config, options, str(folder / DESCRIPTION)), facts
        )
        model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (*_UNUSABLE, SafetensorError) as error:
        if isinstance(error, DataError):
            raise
        msg = f"{folder}: is no encoder that can be loaded ({error}); it must hold {WEIGHTS} and"
        raise DataError(f"{msg} {DESCRIPTION} of one training") from error
    return model.eval(), facts


def _facts(values: dict[str, object]) -> SentenceFacts:
    facts = SentenceFacts(**values)  # type: ignore[arg-type]
    places = tuple((float(x), float(y)) for x, y in facts.positions_C2)
    return SentenceFacts(
        facts.num_channels,
        facts.sfreq_hz,
        places,
        facts.num_subjects,
        tuple(facts.subjects),
        facts.symbols,
    )
