"""Sensors without a signal of their own, and signals that cannot be magnetic fields of a brain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._neuromag.helmet import NUM_SENSORS, canonical_name, reference_helmet
from neurodecode.datasets._neuromag.options import ReadOptions
from neurodecode.datasets._neuromag.sensors import SensorMap, named
from neurosweep.core.errors import DataError

_SANE_SD = {"mag": (1e-15, 1e-8, "T"), "grad": (1e-14, 1e-6, "T/m")}


def marked_bad(bads: Sequence[str], sensors: SensorMap) -> tuple[str, ...]:
    """Return the sensors of the file that it marks as bad, in canonical order."""
    marked = {canonical_name(name) for name in bads}
    return tuple(n for n in reference_helmet().names if n in marked and n not in sensors.missing)


def flat_sensors(
    data_CT: NDArray[np.float32], sensors: SensorMap, segments: Sequence[tuple[int, int]]
) -> tuple[str, ...]:
    """Return the sensors of the file whose value never changes within any segment."""
    moving = np.zeros(NUM_SENSORS, dtype=bool)
    for start, stop in segments:
        part = data_CT[:, start:stop]
        moving |= part.max(axis=1) > part.min(axis=1)
    names = reference_helmet().names
    return tuple(names[i] for i in range(NUM_SENSORS) if not moving[i] and sensors.rows[i] >= 0)


def check_scale(data: NDArray[np.float32], bads: tuple[str, ...], where: str) -> None:
    """Refuse data that cannot be in tesla, such as femtotesla stored as if they were."""
    helmet = reference_helmet()
    good = np.array([name not in bads for name in helmet.names])
    if not good.any():
        msg = f"{where}: all sensors are bad, flat or missing; there is nothing to decode"
        raise DataError(msg)
    for kind, (low, high, unit) in _SANE_SD.items():
        chosen = good & np.array([k == kind for k in helmet.kinds])
        if not chosen.any():
            continue
        sd = float(np.median([data[row].std(dtype=np.float64) for row in np.flatnonzero(chosen)]))
        if not low <= sd <= high:
            msg = f"{where}: the median standard deviation of its {kind} sensors is {sd:.2g} {unit}"
            msg += f", brain and room give {low:g} to {high:g}; are the values in another unit"
            raise DataError(f"{msg} (fT, fT/cm, volts)? Convert them to T and T/m and save again")


def treat_bads(
    data: NDArray[np.float32],
    channels: Sequence[Any],
    sensors: SensorMap,
    bads: set[str],
    options: ReadOptions,
    where: str,
) -> None:
    """Zero or interpolate the bad sensors in place."""
    if not bads:
        return
    ordered = [name for name in reference_helmet().names if name in bads]
    if options.bad_channels == "refuse":
        msg = f"{where}: {len(ordered)} sensors are bad or flat: {named(ordered)}; use"
        raise DataError(f"{msg} bad_channels = 'zero' or 'interpolate', or clean the recording")
    names = reference_helmet().names
    rows = [names.index(name) for name in ordered]
    if options.bad_channels == "zero":
        data[rows] = 0.0
        return
    weights = interpolation_weights(channels, sensors, ordered)
    step = 1 << 16
    for start in range(0, data.shape[1], step):
        data[rows, start : start + step] = weights @ data[:, start : start + step]


def interpolation_weights(
    channels: Sequence[Any], sensors: SensorMap, bads: Sequence[str]
) -> NDArray[np.float64]:
    """Return (bad, 306) weights that rebuild bad sensors from the good ones by field mapping.

    Parameters
    ----------
    channels
        ``info["chs"]`` of MNE.
    sensors
        Where the sensors are in it.
    bads
        Canonical names of the bad sensors.
    """
    import mne

    helmet = reference_helmet()
    present = [index for index in range(NUM_SENSORS) if sensors.rows[index] >= 0]
    names = [helmet.names[index] for index in present]
    info = mne.create_info(names, 1000.0, [helmet.kinds[index] for index in present])
    for channel, index in zip(info["chs"], present, strict=True):
        source = channels[int(sensors.rows[index])]
        channel.update({key: source[key] for key in ("loc", "coil_type", "coord_frame", "unit")})
    info["bads"] = list(bads)
    unit = mne.EvokedArray(np.eye(len(present)), info, verbose="ERROR")
    unit.interpolate_bads(False, mode="fast", origin=(0.0, 0.0, 0.0), verbose="ERROR")
    weights = np.zeros((len(bads), NUM_SENSORS))
    weights[:, present] = unit.data[[names.index(name) for name in bads]]
    return weights
