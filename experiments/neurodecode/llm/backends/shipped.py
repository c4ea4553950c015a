"""The small character model that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from neurodecode.llm.backend import Backend
from neurodecode.llm.backends._loading import load_folder
from neurodecode.llm.config import LlmConfig


def load(config: LlmConfig) -> Backend:  # noqa: ARG001 - every backend is loaded alike
    """Return the model.

    Raises
    ------
    DataError
        When the installation is damaged.
    """
    folder = Path(str(resources.files("neurodecode") / "llm" / "shipped"))
    return load_folder("shipped", folder)
