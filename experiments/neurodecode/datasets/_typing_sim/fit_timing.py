"""Fit the model of typing: ``python -m neurodecode.datasets._typing_sim.fit_timing FOLDER OUT``.

FOLDER holds two tables of the 136M Keystrokes corpus (Dhakal, Feit, Kristensson, Oulasvirta, CHI
2018): ``keystrokes.csv.gz`` with the columns ``user, section, t_ms, key`` and
``sentences.csv.gz`` with ``sentence, user_input``. OUT gets the fitted figures only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._typing_sim.fit_slips import read_pairs, slip_figures
from neurodecode.datasets._typing_sim.keyboard import LETTERS
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json

NUM_SYMBOLS = 27
_SPACE_ID = 26
_ALLOWED_MS = (10.0, 5000.0)
_PRIOR_COUNT = 20.0
_ROUNDS = 8
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Intervals:
    """Key intervals of a corpus.

    Attributes
    ----------
    log_ms
        Natural logarithm of the milliseconds between two presses.
    user
        Number of the typist, counted from 0.
    bigram
        27 x the symbol before + the symbol; a to z, then the space.
    """

    log_ms: NDArray[np.float64]
    user: NDArray[np.int64]
    bigram: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_]) -> Intervals:
        """Return some of the intervals."""
        return Intervals(self.log_ms[chosen], self.user[chosen], self.bigram[chosen])


def read_intervals(path: Path) -> Intervals:
    """Read the intervals between two letters or spaces that follow each other.

    Raises
    ------
    DataError
        When the file is absent or has no such columns.
    """
    import pandas as pd

    columns = ["user", "section", "t_ms", "key"]
    try:
        table = pd.read_csv(path, keep_default_na=False, usecols=columns)
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}); a table with {', '.join(columns)} is expected"
        raise DataError(msg) from error
    codes = {letter: number for number, letter in enumerate(LETTERS)} | {" ": _SPACE_ID}
    symbol = table["key"].str.lower().map(codes).fillna(-1).to_numpy(dtype=np.int64)
    user = np.unique(table["user"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    section = table["section"].to_numpy()
    time_ms = table["t_ms"].to_numpy(dtype=np.float64)
    interval = np.diff(time_ms)
    low, high = _ALLOWED_MS
    good = (symbol[:-1] >= 0) & (symbol[1:] >= 0) & (user[:-1] == user[1:])
    good &= (section[:-1] == section[1:]) & (interval >= low) & (interval <= high)
    bigram = symbol[:-1] * NUM_SYMBOLS + symbol[1:]
    return Intervals(np.log(interval[good]), user[1:][good], bigram[good])


def fit(intervals: Intervals) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return grand mean, offset of every user and of every bigram (729,), all in log ms.

    Notes
    -----
    Least squares by turns. Offsets shrink towards zero as if 20 more intervals had shown none.
    """
    grand = float(intervals.log_ms.mean())
    users = np.zeros(int(intervals.user.max()) + 1)
    bigrams = np.zeros(NUM_SYMBOLS**2)
    for _ in range(_ROUNDS):
        left = intervals.log_ms - grand - bigrams[intervals.bigram]
        users = _shrunk(left, intervals.user, len(users))
        left = intervals.log_ms - grand - users[intervals.user]
        bigrams = _shrunk(left, intervals.bigram, len(bigrams))
    return grand, users, bigrams


def _shrunk(values: NDArray[np.float64], group: NDArray[np.int64], num: int) -> NDArray[np.float64]:
    total = np.bincount(group, weights=values, minlength=num)
    return np.asarray(total / (np.bincount(group, minlength=num) + _PRIOR_COUNT))


def figures(intervals: Intervals) -> dict[str, Any]:
    """Return what is shipped: figures of the fit, judged on a fifth of the intervals."""
    held = np.random.default_rng(0).random(len(intervals.log_ms)) < _HELD_OUT
    grand, users, bigrams = fit(intervals.take(~held))
    test = intervals.take(held)
    of_user, of_bigram = users[test.user], bigrams[test.bigram]
    total = float(test.log_ms.var())

    def r2(prediction: NDArray[np.float64]) -> float:
        return round(1.0 - float(((test.log_ms - grand - prediction) ** 2).mean()) / total, 3)

    counts = np.bincount(intervals.user)
    quantiles = np.exp(np.percentile(intervals.log_ms, [5, 25, 50, 75, 95]))
    return {
        "num_intervals": len(intervals.log_ms),
        "num_users": len(counts),
        "log_mean": round(float(intervals.log_ms.mean()), 4),
        "log_sd": round(float(intervals.log_ms.std()), 4),
        "quantiles_ms": [round(float(q), 1) for q in quantiles],
        "held_out_r2": {
            "user": r2(of_user),
            "bigram": r2(of_bigram),
            "both": r2(of_user + of_bigram),
        },
        "grand_mean": round(grand, 4),
        "user_sd": round(float(users[counts > 0].std()), 4),
        "residual_sd": round(float((test.log_ms - grand - of_user - of_bigram).std()), 4),
        "bigram_offsets": [
            [round(float(v), 3) for v in row] for row in bigrams.reshape(NUM_SYMBOLS, -1)
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the figures and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with both tables")
    parser.add_argument("out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    timing = figures(read_intervals(options.folder / "keystrokes.csv.gz"))
    slips = slip_figures(read_pairs(options.folder / "sentences.csv.gz"))
    atomic_write_json(options.out, {"slips": slips, "timing": timing})


if __name__ == "__main__":
    main()
