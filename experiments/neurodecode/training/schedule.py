"""The course of the learning rate."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total_steps: int, warmup: float) -> float:
    """Return the factor of the peak learning rate at an optimiser step.

    Parameters
    ----------
    step
        Steps done before, from 0.
    total_steps
        Steps of the whole training.
    warmup
        Share of the steps in which the factor rises in a straight line; then it falls to 0 as
        half a cosine.
    """
    warm_steps = math.ceil(warmup * total_steps)
    if step < warm_steps:
        return (step + 1) / warm_steps
    progress = (step - warm_steps) / max(1, total_steps - warm_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
