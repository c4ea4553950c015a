"""From class probabilities of the windows of one item to the symbol whose code fits best.

Array names carry their axes: K class, S symbol, W window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurosweep.core.errors import DataError

FloatArray = npt.NDArray[np.floating]


def symbol_scores(log_p_WK: FloatArray, codes_WS: npt.NDArray[np.integer]) -> FloatArray:
    """Return the log-likelihood of every symbol: the sum over its code's classes.

    Parameters
    ----------
    log_p_WK
        Log-probability of every class in every window.
    codes_WS
        Class that each symbol shows in each window.

    Raises
    ------
    DataError
        When the number of windows differs, or a code names a class that does not exist.
    """
    num_windows, num_classes = log_p_WK.shape
    if codes_WS.ndim != 2 or codes_WS.shape[0] != num_windows:
        msg = (
            f"codes of shape {codes_WS.shape} for {num_windows} windows; "
            "expected one row a window and one column a symbol"
        )
        raise DataError(msg)
    if codes_WS.size and int(codes_WS.max()) >= num_classes:
        msg = f"a code names class {int(codes_WS.max())}, but there are {num_classes} classes"
        raise DataError(msg)
    picked_WS = np.take_along_axis(log_p_WK.astype(np.float64), codes_WS.astype(np.int64), axis=1)
    scores_S: FloatArray = picked_WS.sum(axis=0)
    return scores_S


def rank(
    scores_S: FloatArray, labels: Sequence[str], nbest: int, temperature: float = 1.0
) -> list[tuple[str, float]]:
    """Return the best labels with their log-probabilities, best first.

    Parameters
    ----------
    scores_S
        Log-likelihood of every label.
    labels
        Their names.
    nbest
        How many to return at most.
    temperature
        Divides the scores. Neighbouring windows share samples, so that their errors repeat:
        a temperature above 1 keeps the posterior from being surer than it can be.

    Notes
    -----
    Of labels with equal scores, the one that comes first is ranked first.
    """
    scaled_S = np.asarray(scores_S, dtype=np.float64) / temperature
    top = scaled_S.max()
    log_p_S = scaled_S - top - np.log(np.exp(scaled_S - top).sum())
    order = np.argsort(-scaled_S, kind="stable")[:nbest]
    return [(labels[index], float(log_p_S[index])) for index in order]
