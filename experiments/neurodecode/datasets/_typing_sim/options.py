"""Options of the typing simulator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurodecode.contracts import Location
from neurosweep.core.config import StrictModel

LayoutName = Literal["neuromag306", "opm64", "opm96", "opm128"]


class Config(StrictModel):
    """What is typed by whom, under which sensors, and how well it can be seen."""

    folder: Annotated[
        str, Location(), Field(description="Folder of the simulated recordings; empty: by name")
    ] = ""
    subjects: Annotated[int, Field(ge=1, le=50, description="People who type")] = 1
    recordings: Annotated[int, Field(ge=1, le=50, description="Recordings of every subject")] = 3
    train_sentences: Annotated[
        int, Field(ge=1, le=20_000, description="Sentences of every subject in train and dev")
    ] = 230
    val_sentences: Annotated[
        int, Field(ge=1, le=20_000, description="Sentences of every subject in val")
    ] = 60
    test_sentences: Annotated[
        int, Field(ge=0, le=20_000, description="Sentences of every subject in the sealed test")
    ] = 24
    min_words: Annotated[int, Field(ge=1, le=12, description="Fewest words of a sentence")] = 3
    max_words: Annotated[int, Field(ge=1, le=12, description="Most words of a sentence")] = 6
    max_chars: Annotated[
        int, Field(ge=5, le=80, description="Most characters of a sentence, spaces included")
    ] = 30
    typo_rate: Annotated[
        float, Field(ge=0.0, le=0.3, description="Slips of the fingers per character")
    ] = 0.02
    pace: Annotated[
        float, Field(ge=0.25, le=4.0, description="Factor on all key intervals; 1 as people type")
    ] = 1.0
    pause_s: Annotated[
        float, Field(ge=1.0, le=30.0, description="Mean pause between two sentences, seconds")
    ] = 1.2
    layout: Annotated[
        LayoutName, Field(description="Sensors: the Neuromag helmet or radial OPM magnetometers")
    ] = "neuromag306"
    sfreq_hz: Annotated[float, Field(ge=120.0, le=2000.0, description="Sampling rate, hertz")] = (
        250.0
    )
    moment_nam: Annotated[
        float,
        Field(
            ge=0.0,
            le=1000.0,
            description="Peak dipole moment of a key press, nanoampere-metres; 0: none is seen",
        ),
    ] = 55.0
    sensor_noise: Annotated[bool, Field(description="Noise of the sensors and the room")] = True
    brain_noise: Annotated[bool, Field(description="Ongoing activity of the cortex")] = True
    rhythms: Annotated[bool, Field(description="Alpha and beta, which fall and rise with keys")] = (
        True
    )
    artefacts: Annotated[bool, Field(description="Heart beat, blinks and the 50 Hz line")] = True
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of everything drawn")] = 0
