"""Load a causal language model from a folder on this machine, without any network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from neurodecode.llm.backend import Backend
from neurosweep.core.errors import DataError, missing_package

_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, AttributeError)
_MADE_OF = ("*.safetensors", "config.json", "token*.json", "vocab*", "merges.txt", "*.model")


def load_folder(name: str, folder: Path, *, gguf_file: str | None = None) -> Backend:
    """Return the language model that lies in a folder.

    Parameters
    ----------
    name
        Of the backend, for errors.
    folder
        As ``save_pretrained`` of model and tokenizer writes it.
    gguf_file
        Name of a GGUF file in the folder that holds both instead.

    Raises
    ------
    DataError
        When the folder does not hold a causal language model and its tokenizer.
    MissingPackageError
        When transformers is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    # Its threads would outlive a fork only in part, and prompts are short.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as transformers_logging
    except ModuleNotFoundError as error:
        raise missing_package(error, f"backend '{name}'") from error
    check_folder(name, folder, gguf_file)
    quiet: Any = transformers_logging.disable_progress_bar
    quiet()
    options: dict[str, Any] = {"local_files_only": True, "gguf_file": gguf_file}
    if gguf_file is None:
        del options["gguf_file"]
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
        options |= {"dtype": torch.float32, "output_loading_info": True}
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(folder), **options)
    except (*_UNREADABLE, SafetensorError) as error:
        msg = f"backend '{name}': {folder} cannot be loaded ({_first_line(error)}); it must be what"
        raise DataError(f"{msg} save_pretrained writes for a causal language model") from error
    model, report = loaded
    lacking = sorted({*report["missing_keys"], *report["mismatched_keys"]})
    if lacking:
        msg = f"backend '{name}': the weights in {folder} lack {lacking[0]} (of {len(lacking)})"
        raise DataError(f"{msg}; they do not belong to its config.json")
    model.requires_grad_(requires_grad=False)
    model.eval()
    return _backend(name, folder, model, tokenizer, gguf_file)


def check_folder(name: str, folder: Path, gguf_file: str | None = None) -> None:
    """Refuse a folder that lacks a file of a language model.

    Parameters
    ----------
    name, folder, gguf_file
        As those of `load_folder`.

    Raises
    ------
    DataError
        When a file is missing.
    """
    needed = [gguf_file] if gguf_file else ["config.json", "tokenizer_config.json"]
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        what = f"{folder} has no {', '.join(missing)}" if folder.is_dir() else f"no folder {folder}"
        msg = f"backend '{name}': {what}; it must hold a causal language model and its tokenizer"
        raise DataError(f"{msg} as save_pretrained of transformers writes them")


def _backend(name: str, folder: Path, model: Any, tokenizer: Any, gguf_file: str | None) -> Backend:
    eos_id = tokenizer.eos_token_id
    if eos_id is None:
        msg = f"backend '{name}': the tokenizer in {folder} has no token that ends a text"
        raise DataError(f"{msg} (eos_token); set one and save it again")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        msg = f"backend '{name}': the tokenizer in {folder} knows more tokens than the model"
        raise DataError(f"{msg} has embeddings; they do not belong together")
    pad_id = eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    files = files_of(folder, gguf_file)
    return Backend(name, model, tokenizer, int(eos_id), int(pad_id), files)


def files_of(folder: Path, gguf_file: str | None = None) -> tuple[Path, ...]:
    """Return the files of a language model that decide what it says."""
    patterns = [gguf_file] if gguf_file else _MADE_OF
    return tuple(sorted({file for pattern in patterns for file in folder.glob(pattern)}))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
