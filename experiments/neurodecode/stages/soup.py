"""Stage: the uniform average of adapters that were tuned for one subject each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from neurodecode.llm.soup import soup
from neurodecode.stages._given import ADAPTER, inputs_with, out_of
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_bytes, read_bytes_capped
from neurosweep.exec.job_api import JobContext

logger = logging.getLogger(__name__)

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


def run(ctx: JobContext) -> Iterator[Mapping[str, Any]]:
    """Average the adapters of all inputs that hold one, and keep it as ``out/adapter``.

    Raises
    ------
    neurosweep.core.errors.ConfigError
        When there is no adapter, or they differ in layers or ranks.
    DataError
        When an adapter is damaged.
    """
    given = inputs_with(ctx, ADAPTER)
    average = soup([_weights(folder) for folder in given.values()])
    logger.info("soup of %d adapters: %s", len(given), ", ".join(given))
    folder = out_of(ctx) / ADAPTER
    folder.mkdir(exist_ok=True)
    first = next(iter(given.values()))
    atomic_write_bytes(folder / _CONFIG, read_bytes_capped(first / _CONFIG))
    tensors = {name: value.contiguous() for name, value in average.items()}
    atomic_write_bytes(folder / _WEIGHTS, save(tensors, metadata={"format": "pt"}))
    ctx.beat("soup")
    return iter(())


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        msg = f"{folder}: holds no adapter that can be read ({error}); make it again"
        raise DataError(msg) from error
