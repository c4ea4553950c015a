"""Small statistics of a report, from the trials' values alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosweep.core.schema import Value

_NUM_BINS = 6
_NUM_PERMUTATIONS = 499
_MIN_TRIALS = 12


@dataclass(frozen=True)
class Importance:
    """Say how much a parameter has to do with the objective.

    Attributes
    ----------
    share
        Share of the variance of the objective's ranks that the parameter's groups explain,
        corrected for their number (epsilon squared of the Kruskal-Wallis test), from 0 to 1.
    chance
        The share that 95 % of random permutations stay below.
    """

    share: float
    chance: float

    @property
    def stands_out(self) -> bool:
        """Whether the share is beyond what permutations reach."""
        return self.share > self.chance


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return ranks from 1, ties averaged."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_ranks = ends - (counts - 1) / 2.0
    found: NDArray[np.float64] = mean_ranks[inverse]
    return found


def group_of(values: Sequence[Value]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the group of every value and the groups' names.

    Text, switches and numbers with at most six different values are their own groups; other
    numbers are cut at quantiles into six groups of equal size.
    """
    distinct = sorted(set(values), key=lambda v: (str(type(v)), v))
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct)
    if not numeric or len(distinct) <= _NUM_BINS:
        names = [str(v) for v in distinct]
        place = {name: i for i, name in enumerate(names)}
        return np.array([place[str(v)] for v in values], dtype=np.int64), names
    numbers = np.asarray([float(v) for v in values])
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _NUM_BINS + 1)[1:-1]))
    groups = np.searchsorted(edges, numbers, side="right").astype(np.int64)
    return groups, [f"bin {i + 1}" for i in range(len(edges) + 1)]


def importance(values: Sequence[Value], objective: Sequence[float], seed: int) -> Importance | None:
    """Return the importance of a parameter, or None with fewer than 12 trials or one group.

    Notes
    -----
    Ranks make it independent of the objective's scale and of single outliers; groups make it
    see effects that rise and fall. The permutations keep the groups and shuffle the ranks.
    """
    groups, _ = group_of(values)
    if len(objective) < _MIN_TRIALS or len(np.unique(groups)) < 2:
        return None
    ranked = ranks(objective)
    rng = np.random.default_rng(seed)
    null = [_share(groups, rng.permutation(ranked)) for _ in range(_NUM_PERMUTATIONS)]
    return Importance(_share(groups, ranked), float(np.quantile(null, 0.95)))


def _share(groups: NDArray[np.int64], ranked: NDArray[np.float64]) -> float:
    total = float(((ranked - ranked.mean()) ** 2).sum())
    if total == 0.0:
        return 0.0
    counts = np.bincount(groups)
    present = counts > 0
    means = np.bincount(groups, weights=ranked)[present] / counts[present]
    between = float((counts[present] * (means - ranked.mean()) ** 2).sum())
    num, k = len(ranked), int(present.sum())
    if num <= k:
        return 0.0
    statistic = (num - 1) * between / total
    return max(0.0, (statistic - k + 1) / (num - k))


def expected_luck(sd: float, num_trials: int) -> float:
    """Return by how much the best of equally good trials beats their mean, by noise alone.

    Parameters
    ----------
    sd
        Standard deviation between seeds of one configuration.
    num_trials
        Number of trials the best is chosen from.

    Notes
    -----
    Blom's approximation of the expected extreme of normal numbers.
    """
    if num_trials < 2:
        return 0.0
    probability = (num_trials - 0.375) / (num_trials + 0.25)
    return sd * _normal_quantile(probability)


def _normal_quantile(probability: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation (n - 1); the latter is 0 for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def median(values: Sequence[float]) -> float:
    """Return the median of one or more values."""
    return float(np.median(np.asarray(values, dtype=np.float64)))
