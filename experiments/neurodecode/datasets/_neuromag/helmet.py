"""The 306-sensor Neuromag helmet: names, order, kinds and places of its sensors.

All Vectorview and TRIUX systems have the same helmet: 102 sites, each with one magnetometer (name
ending in 1) and two planar gradiometers (2 and 3). The canonical order is that of the layout
Vectorview-all, written without the space that older files have in names.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray

NUM_SENSORS = 306
Kind = Literal["mag", "grad"]

_NAME = re.compile(r"MEG ?(\d{4})")


@dataclass(frozen=True)
class Helmet:
    """Where the sensors are when nothing was moved.

    Attributes
    ----------
    names
        306 names in canonical order, for example ``MEG0113``.
    kinds
        ``mag`` or ``grad``, a sensor.
    place_mm
        (306, 3) centres in device coordinates, millimetres.
    along, normal
        (306, 3) unit vectors of the coil: its first axis in the plane, and out of the plane.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    place_mm: NDArray[np.float64]
    along: NDArray[np.float64]
    normal: NDArray[np.float64]


def canonical_name(name: str) -> str | None:
    """Return ``MEG0113`` for 'MEG 0113' and 'MEG0113', None for what is no MEG sensor."""
    found = _NAME.fullmatch(name.strip())
    return f"MEG{found.group(1)}" if found else None


@cache
def reference_helmet() -> Helmet:
    """Return the reference geometry, measured to 0.1 mm."""
    text = resources.files(__package__).joinpath("helmet.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))[1:]
    numbers = np.array([row[1:] for row in rows], dtype=np.float64)
    names = tuple(row[0] for row in rows)
    assert len(names) == NUM_SENSORS
    return Helmet(
        names=names,
        kinds=tuple("mag" if name.endswith("1") else "grad" for name in names),
        place_mm=numbers[:, :3],
        along=numbers[:, 3:6],
        normal=numbers[:, 6:9],
    )


@cache
def flat_positions() -> NDArray[np.float32]:
    """Return (306, 2) positions on the flattened helmet, each axis scaled to [0, 1]."""
    from mne.channels import read_layout

    layout = read_layout("Vectorview-all")
    by_name = dict(zip((canonical_name(n) for n in layout.names), layout.pos[:, :2], strict=True))
    places = np.array([by_name[name] for name in reference_helmet().names])
    low, high = places.min(axis=0), places.max(axis=0)
    scaled: NDArray[np.float32] = ((places - low) / (high - low)).astype(np.float32)
    scaled.flags.writeable = False
    return scaled
