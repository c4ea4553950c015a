"""One recording: everything that reaches the sensors, added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._typing_sim.background import artefacts, cortex_noise, room_noise
from neurodecode.datasets._typing_sim.layouts import sensor_info
from neurodecode.datasets._typing_sim.options import Config
from neurodecode.datasets._typing_sim.person import Person, draw_session
from neurodecode.datasets._typing_sim.presses import key_fields, press_courses
from neurodecode.datasets._typing_sim.rhythms import rhythm_sources
from neurodecode.datasets._typing_sim.script import Script

_CHUNK_SAMPLES = 20_000


@dataclass(frozen=True)
class Chances:
    """Independent sources of chance, so that switching one part off changes no other.

    Attributes
    ----------
    seed
        Of the simulation.
    subject, recording
        Counted from 0.
    """

    seed: int
    subject: int
    recording: int

    def of(self, purpose: int, *, shared: bool = False) -> np.random.Generator:
        """Return the source of one purpose; a shared one is the same in all recordings."""
        place = 0 if shared else self.recording + 1
        return np.random.default_rng([self.seed, self.subject, place, purpose])


def simulate(
    config: Config, person: Person, script: Script, chances: Chances
) -> tuple[Any, NDArray[np.float32]]:
    """Return MNE's measurement information and samples (sensor, sample), tesla and tesla/m.

    Parameters
    ----------
    config
        Options.
    person
        Who types.
    script
        What they type when.
    chances
        Sources of chance of this recording.
    """
    num_samples = round(script.duration_s * config.sfreq_hz)
    info = sensor_info(config.layout, config.sfreq_hz, person.device_to_head)
    session = draw_session(person, len(info["ch_names"]), chances.of(0))
    info = sensor_info(config.layout, config.sfreq_hz, session.device_to_head)
    data_CT = np.zeros((len(info["ch_names"]), num_samples), dtype=np.float32)
    press_s, keys = script.presses()
    if config.moment_nam > 0:
        fields = key_fields(info, person, session, chances.of(1, shared=True))
        courses = press_courses(press_s, keys, num_samples, config.sfreq_hz, chances.of(2))
        fields_CK = fields.reshape(len(data_CT), -1) * config.moment_nam * 1e-9
        _add(data_CT, fields_CK, courses.reshape(-1, num_samples))
    if config.rhythms:
        hands = script.left_hand()
        sources = rhythm_sources(info, person, press_s, hands, num_samples, chances.of(3))
        _add(data_CT, *sources)
    if config.artefacts:
        _add(data_CT, *artefacts(info, person, num_samples, chances.of(4)))
    if config.brain_noise:
        data_CT += cortex_noise(info, num_samples, chances.of(5))
    if config.sensor_noise:
        data_CT += room_noise(config.layout, info, num_samples, chances.of(6))
    data_CT *= session.sensor_gain[:, None].astype(np.float32)
    return info, data_CT


def _add(
    data_CT: NDArray[np.float32],
    fields_CK: NDArray[np.float64],
    courses_KT: NDArray[np.float32],
) -> None:
    """Add sources to the samples, piece by piece so that little memory is needed."""
    weights_CK = fields_CK.astype(np.float32)
    for start in range(0, data_CT.shape[1], _CHUNK_SAMPLES):
        piece = slice(start, start + _CHUNK_SAMPLES)
        data_CT[:, piece] += weights_CK @ courses_KT[:, piece]
