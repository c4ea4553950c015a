"""Uncertainty of scores: nested bootstrap, paired differences, shares of few items."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]
"""How often every item of one subject counts (resample, item) to one value a resample."""

RESAMPLES = 2000
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """Hold an interval of one metric.

    Attributes
    ----------
    metric
        Name of the metric.
    low, high
        Bounds.
    level
        Coverage that is aimed at.
    method
        ``bootstrap over items``, ``bootstrap over subjects and items`` or ``wilson``.
    """

    metric: str
    low: float
    high: float
    level: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Return the interval as JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Hold a paired difference, first minus second.

    Attributes
    ----------
    mean
        Mean over subjects of the mean over items.
    low, high
        Bootstrap interval.
    p_value
        Two-sided: how often the sign of the difference changes in resamples.
    """

    mean: float
    low: float
    high: float
    p_value: float


def mean_of(values: FloatArray) -> Statistic:
    """Return the statistic "mean of these item values"."""
    return lambda counts: np.asarray(counts @ values / counts.sum(axis=1), dtype=np.float64)


def nested_bootstrap(
    subjects: Sequence[tuple[int, Statistic]], *, seed: int, resamples: int = RESAMPLES
) -> FloatArray:
    """Return resampled means over subjects.

    Parameters
    ----------
    subjects
        Number of items and statistic of every subject.
    seed
        Equal seeds give equal resamples.
    resamples
        Number of values returned.

    Returns
    -------
    numpy.ndarray
        (resample,). With two or more subjects these are drawn with replacement, and for every
        draw items of that subject are; with one subject only its items are drawn.
    """
    rng = np.random.default_rng(seed)
    pools = np.stack(
        [_resampled(count, statistic, rng, resamples) for count, statistic in subjects]
    )
    if len(subjects) == 1:
        return np.asarray(pools[0], dtype=np.float64)
    chosen = rng.integers(len(subjects), size=(len(subjects), resamples))
    # A subject that is drawn twice gets two resamples of its items.
    resample = rng.integers(resamples, size=(len(subjects), resamples))
    return np.asarray(np.mean(pools[chosen, resample], axis=0), dtype=np.float64)


def _resampled(
    count: int, statistic: Statistic, rng: np.random.Generator, resamples: int
) -> FloatArray:
    step = max(1, _CHUNK // count)
    parts = [
        statistic(_drawn(count, min(step, resamples - start), rng))
        for start in range(0, resamples, step)
    ]
    return np.concatenate(parts)


def _drawn(count: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each of `count` items was drawn: (resample, item)."""
    index = rng.integers(count, size=(resamples, count))
    index += count * np.arange(resamples)[:, np.newaxis]
    drawn = np.bincount(index.ravel(), minlength=resamples * count)
    return drawn.reshape(resamples, count).astype(np.float64)


def percentile_bounds(values: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Return the bounds that leave equal shares of the values below and above."""
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def wilson(successes: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share.

    Unlike a bootstrap it does not shrink to a point when all or none succeed.

    Raises
    ------
    ValueError
        When the counts are not ``0 <= successes <= total`` with ``total >= 1``.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not 0 <= successes <= total or total < 1:
        msg = f"{successes} of {total} is not a share; 0 <= successes <= total, total >= 1"
        raise ValueError(msg)
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    share = successes / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1.0 - share) / total + z * z / (4.0 * total * total))
    scale = 1.0 + z * z / total
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == total else (centre + spread) / scale
    return low, high


def paired_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    subjects: Mapping[str, str],
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Difference:
    """Return the difference between two systems on the same items.

    Parameters
    ----------
    first, second
        Item to value, for example the error rate.
    subjects
        Item to subject.
    seed
        Equal seeds give equal intervals.
    level
        Coverage aimed at.
    resamples
        Number of resamples.

    Raises
    ------
    ValueError
        When the items are not the same, or there are none.
    """
    if set(first) != set(second) or not first:
        different = sorted(set(first) ^ set(second))[:3]
        msg = f"a paired difference needs the same items on both sides; not shared: {different}"
        raise ValueError(msg)
    of_subject: dict[str, list[float]] = {}
    for item in sorted(first):
        of_subject.setdefault(subjects[item], []).append(first[item] - second[item])
    arrays = [np.asarray(values, dtype=np.float64) for _, values in sorted(of_subject.items())]
    drawn = nested_bootstrap(
        [(array.size, mean_of(array)) for array in arrays], seed=seed, resamples=resamples
    )
    low, high = percentile_bounds(drawn, level)
    crossing = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p_value = min(1.0, 2.0 * (crossing + 1) / (resamples + 1))
    return Difference(float(np.mean([array.mean() for array in arrays])), low, high, p_value)
