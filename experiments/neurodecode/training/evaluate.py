"""What a model says about windows, and how well it does on dev.

Array names carry their axes: B batch, K class, W window.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodecode.training.windows import WindowSet

_EVAL_BATCH = 512


@dataclass(frozen=True)
class DevScore:
    """Hold what a model reaches on dev: mean cross entropy and balanced error."""

    loss: float
    error: float


def pick_device(name: str) -> torch.device:
    """Return the device to train on; ``auto`` takes CUDA when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextlib.contextmanager
def without_denormals() -> Iterator[None]:
    """Take numbers too small to be normal as 0, which is much faster, until the end.

    The inline executor and preparation work in the driver's process, whose arithmetic is not ours.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def predict_log_proba(
    model: nn.Module, windows: WindowSet, device: torch.device
) -> npt.NDArray[np.float32]:
    """Return the log-probability of every class, (window, class)."""
    model.eval()
    parts: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(windows), _EVAL_BATCH):
            rows_B = np.arange(start, min(start + _EVAL_BATCH, len(windows)))
            logits_BK = model(*windows.batch(rows_B, device))
            parts.append(torch.log_softmax(logits_BK.float(), dim=-1).cpu())
    log_p_WK: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return log_p_WK


def score_dev(model: nn.Module, dev: WindowSet, device: torch.device) -> DevScore:
    """Return cross entropy and error on dev, both as the mean over the classes present."""
    log_p_WK = predict_log_proba(model, dev, device)
    target_W = dev.targets()
    loss_W = -log_p_WK[np.arange(len(target_W)), target_W]
    wrong_W = log_p_WK.argmax(axis=1) != target_W
    present = np.unique(target_W)
    return DevScore(
        loss=float(np.mean([loss_W[target_W == label].mean() for label in present])),
        error=float(np.mean([wrong_W[target_W == label].mean() for label in present])),
    )
