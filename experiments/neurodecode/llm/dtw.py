"""Dynamic time warping of predicted words against true ones.

Array names carry their axes: H hidden, N predicted word, M true word.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Path = list[tuple[int, int]]

_TINY_NORM = 1e-6


def cosine_cost(
    p_NH: npt.NDArray[np.floating], g_MH: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return 1 - cosine of every predicted vector with every true one, (N, M)."""
    unit_p_NH, unit_g_MH = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY_NORM)
        for x in (np.asarray(p_NH, np.float64), np.asarray(g_MH, np.float64))
    )
    cost_NM: npt.NDArray[np.float64] = 1.0 - unit_p_NH @ unit_g_MH.T
    return cost_NM


def dtw_path(cost_NM: npt.NDArray[np.floating]) -> Path:
    """Return the cheapest path from the first pair to the last.

    Parameters
    ----------
    cost_NM
        Cost of every pair; at least one row and one column, finite.

    Returns
    -------
    list of (int, int)
        Pairs (row, column); each step raises the row, the column or both by 1, and every step
        costs what its pair costs. Of equally cheap steps the diagonal one is taken.

    Raises
    ------
    ValueError
        When the matrix is empty or not finite.
    """
    cost_NM = np.asarray(cost_NM, dtype=np.float64)
    if cost_NM.ndim != 2 or not cost_NM.size or not np.isfinite(cost_NM).all():
        msg = f"costs of shape {cost_NM.shape} must be a finite matrix with a row and a column"
        raise ValueError(msg)
    rows, columns = cost_NM.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(rows):
        for j in range(columns):
            before = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = cost_NM[i, j] + before
    path = [(rows - 1, columns - 1)]
    while path[-1] != (0, 0):
        i, j = path[-1]
        steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        path.append(min(steps, key=lambda at: float(total[at[0] + 1, at[1] + 1])))
    return path[::-1]


def first_match(path: Sequence[tuple[int, int]]) -> list[int]:
    """Return the first true word of every predicted word of a path.

    Several predicted words may share a true one.
    """
    first: dict[int, int] = {}
    for row, column in path:
        first.setdefault(row, column)
    return [first[row] for row in sorted(first)]
