"""Bundled measurements: covariance of an empty room, place of a head, model of typing.

``python -m neurodecode.datasets._typing_sim.bundle FOLDER OUT`` makes the file of covariance and
head place from two BSD-licensed files of MNE-Python, ``mne_test_erm-cov.fif`` and
``test-ave.fif.gz``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._neuromag.helmet import NUM_SENSORS, canonical_name, reference_helmet
from neurosweep.core.errors import DataError

NOISE_FILE = "neuromag306.npz"
TYPING_FILE = "typing.json"
ERM_BAND_HZ = (0.1, 172.0)
_SOURCES = ("mne_test_erm-cov.fif", "test-ave.fif.gz")


@dataclass(frozen=True)
class Room:
    """What was measured with the 306 sensors.

    Attributes
    ----------
    covariance_CC
        Covariance of an empty room between 0.1 and 172 Hz, in T^2, T^2/m and T^2/m^2, sensors in
        the order of the helmet.
    device_to_head
        (4, 4) place of a head in the helmet, metres.
    """

    covariance_CC: NDArray[np.float64]
    device_to_head: NDArray[np.float64]


def bundled_folder() -> Path:
    """Return the folder of the bundled files."""
    return Path(str(resources.files("neurodecode.datasets") / "files" / "typing_sim"))


@cache
def read_room() -> Room:
    """Return the bundled measurements."""
    with np.load(bundled_folder() / NOISE_FILE) as stored:
        scale = stored["scale"].astype(np.float64)
        lower = stored["lower"].astype(np.float64)
        device_to_head = stored["device_to_head"].astype(np.float64)
    matrix = np.zeros((NUM_SENSORS, NUM_SENSORS))
    matrix[np.tril_indices(NUM_SENSORS)] = lower
    matrix = matrix + np.tril(matrix, -1).T
    return Room(matrix * np.outer(scale, scale), device_to_head)


@cache
def read_typing() -> dict[str, Any]:
    """Return the fitted figures of typing: ``timing`` and ``slips``, see `fit_timing`."""
    path = bundled_folder() / TYPING_FILE
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def make_room(folder: Path, out: Path) -> None:
    """Write the covariance, scaled to correlations in single precision, and the head place.

    Raises
    ------
    DataError
        When a file is missing or lacks sensors.
    """
    import mne

    missing = [name for name in _SOURCES if not (folder / name).is_file()]
    if missing:
        msg = f"{folder}: has no {', '.join(missing)}; both are in mne/io/tests/data of MNE-Python"
        raise DataError(msg)
    covariance = mne.read_cov(folder / _SOURCES[0], verbose="ERROR")
    row_of = {canonical_name(name): row for row, name in enumerate(covariance["names"])}
    lost = [name for name in reference_helmet().names if name not in row_of]
    if lost:
        raise DataError(f"{folder / _SOURCES[0]}: has no sensor {lost[0]}; give another covariance")
    rows = [row_of[name] for name in reference_helmet().names]
    matrix = covariance.data[np.ix_(rows, rows)]
    scale = np.sqrt(np.diag(matrix)).astype(np.float32)
    correlation = matrix / np.outer(scale, scale)
    evoked = mne.read_evokeds(folder / _SOURCES[1], 0, proj=False, verbose="ERROR")
    np.savez_compressed(
        out,
        scale=scale,
        lower=correlation[np.tril_indices(NUM_SENSORS)].astype(np.float32),
        device_to_head=evoked.info["dev_head_t"]["trans"].astype(np.float32),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the bundled file again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help=f"folder with {' and '.join(_SOURCES)}")
    parser.add_argument("out", type=Path, help="file to write, .npz")
    options = parser.parse_args(arguments)
    make_room(options.folder, options.out)


if __name__ == "__main__":
    main()
