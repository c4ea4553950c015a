"""Places of EEG electrodes by their names in the 10-05 system."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache


def positions(names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """Return the places of the electrodes that the system knows.

    Returns
    -------
    dict
        Name to (x, y, z) metres in the head frame: right, front, up.
    """
    known = _places()
    return {name: known[name.lower()] for name in names if name.lower() in known}


@cache
def _places() -> dict[str, tuple[float, float, float]]:
    import mne

    montage = mne.channels.make_standard_montage("colin27_1005")
    return {
        name.lower(): (float(x), float(y), float(z))
        for name, (x, y, z) in montage.get_positions()["ch_pos"].items()
    }
