"""Bring the channels of a file into the order of the helmet, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._neuromag.helmet import (
    NUM_SENSORS,
    Helmet,
    canonical_name,
    reference_helmet,
)
from neurosweep.core.errors import DataError

_TESLA, _TESLA_PER_METRE = 112, 201
_UNIT_OF_KIND = {"mag": (_TESLA, "tesla"), "grad": (_TESLA_PER_METRE, "tesla/m")}
_COILS_OF_KIND = {"mag": (3021, 3022, 3023, 3024), "grad": (3011, 3012, 3013, 3014)}
_MAX_NAMED = 6
_MAX_TILT_DEGREES = 15.0


@dataclass(frozen=True)
class SensorMap:
    """Where each sensor of the helmet is in a file.

    Attributes
    ----------
    rows
        (306,) index of the channel in the file, -1 for a sensor that the file lacks.
    missing
        Names of the sensors that the file lacks.
    place_mm
        (306, 3) places according to the file, millimetres; NaN where it has none.
    """

    rows: NDArray[np.int64]
    missing: tuple[str, ...]
    place_mm: NDArray[np.float64]


def map_sensors(channels: Sequence[Any], where: str) -> SensorMap:
    """Find the 306 sensors in the channel list of a file, in whatever order it has them.

    Parameters
    ----------
    channels
        ``info["chs"]`` of MNE.
    where
        The recording, for errors.

    Raises
    ------
    DataError
        When the file has no MEG sensors, has one twice, or states another coil or unit for one.
    """
    row_of, problems = _find_sensors(channels)
    helmet = reference_helmet()
    if not row_of:
        shown = ", ".join(str(channel["ch_name"]) for channel in channels[:4])
        msg = f"{where}: has no MEG sensors (its {len(channels)} channels start with {shown});"
        raise DataError(f"{msg} this reader needs the 306 sensors MEG0111 to MEG2643")
    foreign = sorted(set(row_of) - set(helmet.names))
    if foreign:
        problems.append(f"no Neuromag-306 sensor has the name {named(foreign)}")
    places = np.full((NUM_SENSORS, 3), np.nan)
    for index, (name, kind) in enumerate(zip(helmet.names, helmet.kinds, strict=True)):
        if name in row_of:
            channel = channels[row_of[name]]
            problems += _channel_problems(name, kind, channel)
            places[index] = np.asarray(channel["loc"][:3]) * 1e3
    if problems:
        msg = f"{where}: the channels do not fit the 306-sensor helmet: {'; '.join(problems[:4])}"
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise DataError(f"{msg}{more}; correct the channel information and save the file again")
    rows = np.array([row_of.get(name, -1) for name in helmet.names], dtype=np.int64)
    missing = tuple(name for name in helmet.names if name not in row_of)
    return SensorMap(rows, missing, places)


def _find_sensors(channels: Sequence[Any]) -> tuple[dict[str, int], list[str]]:
    row_of: dict[str, int] = {}
    problems: list[str] = []
    for row, channel in enumerate(channels):
        name = canonical_name(channel["ch_name"])
        if name is not None and name in row_of:
            problems.append(f"{name} is there twice")
        elif name is not None:
            row_of[name] = row
    return row_of, problems


def _channel_problems(name: str, kind: str, channel: Any) -> list[str]:
    problems: list[str] = []
    unit, unit_name = _UNIT_OF_KIND[kind]
    if int(channel["unit"]) != unit:
        problems.append(f"{name} ({kind}) is in unit {int(channel['unit'])}, not {unit_name}")
    if int(channel["unit_mul"]) != 0:
        problems.append(f"{name} has the unit multiplier 10^{int(channel['unit_mul'])}, not 1")
    coil = int(channel["coil_type"]) & 0xFFFF
    if coil not in _COILS_OF_KIND[kind]:
        problems.append(f"{name} has coil type {coil}, which is no Neuromag {kind}")
    return problems


def moved_sensors(channels: Sequence[Any], sensors: SensorMap, tolerance_mm: float) -> list[str]:
    """List the sensors that are not where the reference helmet has them, worst first.

    Parameters
    ----------
    channels
        ``info["chs"]`` of MNE.
    sensors
        Result of `map_sensors` for these channels.
    tolerance_mm
        Largest distance that is no move; a coil may be tilted or turned by 15 degrees.

    Returns
    -------
    list of str
        For example ``MEG0113 (12.0 mm)`` or ``MEG0113 (turned by 90 degrees)``.
    """
    helmet = reference_helmet()
    found: list[tuple[float, str]] = []
    for index, name in enumerate(helmet.names):
        row = int(sensors.rows[index])
        if row < 0:
            continue
        loc = np.asarray(channels[row]["loc"], dtype=np.float64)
        distance = float(np.linalg.norm(loc[:3] * 1e3 - helmet.place_mm[index]))
        if not np.isfinite(loc).all() or not loc.any():
            found.append((np.inf, f"{name} (no position)"))
        elif distance > tolerance_mm:
            found.append((distance, f"{name} ({distance:.1f} mm)"))
        elif (angle := _turned(loc, helmet, index)) > _MAX_TILT_DEGREES:
            found.append((angle, f"{name} (turned by {angle:.0f} degrees)"))
    return [text for _, text in sorted(found, key=lambda item: -item[0])]


def _turned(loc: NDArray[np.float64], helmet: Helmet, index: int) -> float:
    """Return the larger angle, degrees, between the axes of a coil and the reference's.

    A magnetometer is square, so only its normal counts.
    """
    pairs = [(loc[9:12], helmet.normal[index])]
    if helmet.kinds[index] == "grad":
        pairs.append((loc[3:6], helmet.along[index]))
    cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0) for a, b in pairs]
    return float(np.degrees(np.arccos(np.clip(min(cosines), -1.0, 1.0))))


def named(names: Sequence[str]) -> str:
    """Return up to six names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
