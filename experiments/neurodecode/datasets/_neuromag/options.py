"""What the reader accepts of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ReadOptions:
    """What is accepted of a file.

    Attributes
    ----------
    allow_maxshield
        Accept data taken with internal active shielding and not yet cleaned by SSS.
    bad_channels
        ``zero`` them, ``interpolate`` them from their neighbours, or ``refuse`` the recording.
    missing_sensors
        ``refuse`` a recording without all 306 sensors, or take absent ones as ``zero``.
    moved_sensors, moved_mm
        ``refuse`` a recording whose sensors are further than so many millimetres from the
        reference helmet, or ``warn``.
    sfreq_hz
        The rate that the recording must have; None accepts any.
    """

    allow_maxshield: bool = False
    bad_channels: Literal["zero", "interpolate", "refuse"] = "zero"
    missing_sensors: Literal["refuse", "zero"] = "refuse"
    moved_sensors: Literal["refuse", "warn"] = "refuse"
    moved_mm: float = 2.0
    sfreq_hz: float | None = None
