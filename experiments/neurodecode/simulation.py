"""Datasets that can be simulated: where their recordings lie, and how they come to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.core.config import validate
from neurosweep.core.layout import Home
from neurosweep.core.plugins import load_plugin

_DATASETS = "neurodecode.datasets"


@dataclass(frozen=True)
class Made:
    """Name simulated recordings.

    Attributes
    ----------
    folder
        Where they lie.
    files
        Their paths.
    """

    folder: str
    files: list[str]


def with_folder(dataset: str, options: Mapping[str, Any], home: Home) -> dict[str, Any]:
    """Return the options of a dataset, with the folder of its simulated recordings filled in.

    Parameters
    ----------
    dataset
        Name of a module of `neurodecode.datasets`.
    options
        Its options; a folder that is given stays.
    home
        Where recordings are written that the user did not place.
    """
    module = load_plugin(_DATASETS, dataset, needs=("Config",))
    filled = dict(options)
    if hasattr(module, "default_folder") and not filled.get("folder"):
        config = validate(module.Config, filled, f"options of dataset '{dataset}'")
        filled["folder"] = str(module.default_folder(config, home.root))
    return filled


def make_recordings(
    dataset: str, options: Mapping[str, Any], home: Home, say: Callable[[str], None]
) -> Made | None:
    """Simulate the recordings of a dataset unless they exist.

    Parameters
    ----------
    dataset, options, home
        As for `with_folder`.
    say
        Told about progress.

    Returns
    -------
    Made or None
        None when the dataset was recorded.

    Raises
    ------
    neurosweep.core.errors.DataError
        When a recording cannot be written; nothing is left behind.
    """
    module = load_plugin(_DATASETS, dataset, needs=("Config",))
    if not hasattr(module, "make"):
        return None
    filled = with_folder(dataset, options, home)
    config = validate(module.Config, filled, f"options of dataset '{dataset}'")
    files = [str(Path(path)) for path in module.make(config, say)]
    return Made(str(filled["folder"]), files)
