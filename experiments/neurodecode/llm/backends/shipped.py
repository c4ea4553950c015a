"""The small character model that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from neurodecode.llm.backend import Backend
from neurodecode.llm.backends._loading import files_of, load_folder
from neurodecode.llm.config import LlmConfig


def load(config: LlmConfig) -> Backend:  # noqa: ARG001 - every backend is loaded alike
    """Return the model.

    Raises
    ------
    DataError
        When the installation is damaged.
    """
    return load_folder("shipped", _folder())


def files(config: LlmConfig) -> tuple[Path, ...]:  # noqa: ARG001 - every backend is asked alike
    """Return the files of the model."""
    return files_of(_folder())


def _folder() -> Path:
    return Path(str(resources.files("neurodecode") / "llm" / "shipped"))
