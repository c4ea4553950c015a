"""Any causal language model in a local folder of transformers."""

from __future__ import annotations

from pathlib import Path

from neurodecode.llm.backend import Backend
from neurodecode.llm.backends._loading import check_folder, files_of, load_folder
from neurodecode.llm.config import LlmConfig
from neurosweep.core.errors import ConfigError


def load(config: LlmConfig) -> Backend:
    """Return the model in ``llm.folder``.

    Raises
    ------
    ConfigError
        When no folder is named.
    DataError
        When the folder does not hold a causal language model and its tokenizer.
    """
    return load_folder("folder", _folder(config))


def check(config: LlmConfig) -> None:
    """Refuse a folder that is not there or lacks files.

    Raises
    ------
    ConfigError, DataError
        As `load`.
    """
    check_folder("folder", _folder(config))


def files(config: LlmConfig) -> tuple[Path, ...]:
    """Return the files of the model.

    Raises
    ------
    ConfigError, DataError
        As `load`.
    """
    check(config)
    return files_of(_folder(config))


def _folder(config: LlmConfig) -> Path:
    if not config.folder:
        msg = "llm.folder: is empty; llm.backend = 'folder' needs the path of a folder that holds"
        raise ConfigError(f"{msg} a causal language model and its tokenizer")
    return Path(config.folder).expanduser()
