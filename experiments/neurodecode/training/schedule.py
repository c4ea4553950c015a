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


def linear_warmup_cosine(
    step: int,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    start_factor: float = 0.01,
    floor: float = 1e-6,
) -> float:
    """Return the learning rate at an optimiser step.

    Parameters
    ----------
    step
        Steps done before, from 0.
    peak
        Highest learning rate, reached after `warmup_steps`.
    warmup_steps
        Steps in which it rises in a straight line.
    total_steps
        Steps of the whole training, at whose end half a cosine has taken it to `floor`.
    start_factor
        Share of the peak at step 0.
    floor
        Lowest learning rate; the peak where that is lower.

    Notes
    -----
    Brain2Qwerty v2: a peak of 8e-4 after 500 steps.
    """
    if step < warmup_steps:
        return peak * (start_factor + (1.0 - start_factor) * step / warmup_steps)
    low = min(floor, peak)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return low + (peak - low) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def loss_weights(
    epoch: int,
    starts: tuple[int, int, int] = (0, 150, 225),
    a: float = 0.1,
    b: float = 0.01,
) -> tuple[float, float, float]:
    """Return the weights of CTC, contrastive and language-model loss in an epoch.

    Losses that have not started are left out, and the weights of the others sum to 1.

    Parameters
    ----------
    epoch
        From 0.
    starts
        First epoch of each loss.
    a, b
        Weight of the contrastive and of the language-model loss once all are active.

    Raises
    ------
    ValueError
        When no loss has started.

    Notes
    -----
    Brain2Qwerty v2, training end to end.
    """
    whole = (1.0 - a - b, a, b)
    active = [
        weight if epoch >= start else 0.0 for weight, start in zip(whole, starts, strict=True)
    ]
    total = sum(active)
    if total == 0:
        msg = f"no loss is active in epoch {epoch}: the first starts in epoch {min(starts)}"
        raise ValueError(msg)
    return active[0] / total, active[1] / total, active[2] / total
