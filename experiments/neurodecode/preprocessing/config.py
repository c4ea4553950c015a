"""Options of preprocessing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurosweep.core.config import StrictModel


class PreprocessingConfig(StrictModel):
    """How recordings are filtered, resampled and scaled; 0 switches a step off."""

    reference: Annotated[
        Literal["none", "average"],
        Field(description="Reference of EEG: as recorded, or the mean of all channels"),
    ] = "none"
    notch_hz: Annotated[
        float, Field(ge=0.0, le=100.0, description="Mains frequency, removed with its harmonics")
    ] = 50.0
    highpass_hz: Annotated[float, Field(ge=0.0, le=100.0, description="High-pass, hertz")] = 0.5
    lowpass_hz: Annotated[float, Field(ge=0.0, le=1000.0, description="Low-pass, hertz")] = 40.0
    resample_hz: Annotated[
        float, Field(ge=0.0, le=5000.0, description="New sampling rate, hertz; never raised")
    ] = 100.0
    baseline_s: Annotated[
        float,
        Field(ge=0.0, le=10.0, description="Start of each epoch whose mean is subtracted, seconds"),
    ] = 0.0
    scale: Annotated[
        Literal["robust", "none"],
        Field(description="Median and interquartile range per channel and recording"),
    ] = "robust"
    clamp: Annotated[
        float, Field(ge=0.0, le=1000.0, description="Largest scaled value that is kept")
    ] = 5.0
