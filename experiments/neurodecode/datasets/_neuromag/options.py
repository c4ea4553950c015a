"""What the reader of Neuromag recordings accepts, and what it makes of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurosweep.core.config import StrictModel
from neurosweep.core.errors import ConfigError

_MAX_WINDOW_S = 30.0


class ReadOptions(StrictModel):
    """What is accepted of one recording."""

    allow_maxshield: bool = Field(False, description="Accept MaxShield data without SSS")
    bad_channels: Literal["zero", "interpolate", "refuse"] = Field(
        "zero", description="What becomes of sensors that are bad or flat"
    )
    missing_sensors: Literal["refuse", "zero"] = Field(
        "refuse", description="What becomes of a recording without all 306 sensors"
    )
    moved_sensors: Literal["refuse", "warn"] = Field(
        "refuse", description="What becomes of sensors away from the reference helmet"
    )
    moved_mm: float = Field(2.0, gt=0, description="Distance that is no move, millimetres")


class Config(ReadOptions):
    """Where the recordings are, which events are decoded, and what is accepted."""

    events: str = Field(description="Events table, TSV or CSV")
    folder: str = Field("", description="Folder of relative file paths; empty: the table's own")
    recordings: dict[str, str] = Field(
        {}, description="Timeline to FIF file, where the table does not name it"
    )
    columns: dict[str, str] = Field({}, description="Column here to its name in the table")
    event_type: str = Field("Keystroke", description="Type of the events that are decoded")
    class_column: str = Field("button", description="Column that holds the label")
    min_per_class: int = Field(2, ge=1, description="Labels with fewer events are left out")
    window_s: tuple[float, float] = Field(
        (-0.2, 0.3), description="Window, seconds relative to the event"
    )
    test_fraction: float = Field(
        0.2, ge=0.0, le=0.5, description="Share of every recording, its end, that is sealed as test"
    )
    dev_fraction: float = Field(
        0.1, ge=0.02, le=0.5, description="Share of the training presses that judge early stopping"
    )
    trigger_channel: str = Field("", description="STI channel to take events from")
    trigger_codes: dict[str, str] = Field({}, description="Trigger code to label")
    outside_events: Literal["refuse", "drop"] = Field(
        "refuse", description="Events whose window is not wholly recorded"
    )
    allow_mixed_sss: bool = Field(False, description="Accept recordings with and without SSS")
    head_shift_mm: float = Field(
        25.0, gt=0, description="Largest distance of head places between a subject's recordings"
    )


def check_options(config: Config) -> None:
    """Refuse options that contradict each other.

    Raises
    ------
    ConfigError
        Naming every contradiction.
    """
    start, stop = config.window_s
    problems: list[str] = []
    if not (start < stop and stop - start <= _MAX_WINDOW_S):
        problems.append(
            f"data.window_s: is ({start:g}, {stop:g}); the start must come before the stop, at most"
            f" {_MAX_WINDOW_S:g} s apart, for example (-0.2, 0.3)"
        )
    if bool(config.trigger_channel) != bool(config.trigger_codes):
        problems.append("data.trigger_channel and data.trigger_codes: give both or neither")
    if config.trigger_channel and config.class_column != "button":
        problems.append("data.class_column: events of a trigger channel have labels in 'button'")
    if problems:
        raise ConfigError("; ".join(problems))
