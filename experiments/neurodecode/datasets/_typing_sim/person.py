"""Who types: where hands lie in the cortex, how fast they are, how their rhythms sound."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._typing_sim.bundle import read_typing
from neurodecode.datasets._typing_sim.layouts import resting_place
from neurodecode.datasets._typing_sim.options import Config

_SUBJECT_SHIFT_M, _SUBJECT_TURN_DEG = 3e-3, 2.0
_RECORDING_SHIFT_M, _RECORDING_TURN_DEG = 1.5e-3, 0.8
_GAIN_DRIFT, _TURN_DRIFT_DEG = 0.05, 2.0
_SENSOR_GAIN = 0.005
_PACE_SEED = 2


@dataclass(frozen=True)
class Person:
    """What is fixed of a subject.

    Attributes
    ----------
    number
        Counted from 0.
    log_pace
        Offset of the logarithm of all key intervals.
    hand_shift_m
        (3,) displacement of the left hand area; the right one mirrors it.
    hand_turn_deg
        Rotation of all dipoles of the hand areas about the radius.
    spacing
        Factor on the distance between fingers in the cortex.
    alpha_hz, beta_hz
        Centres of the rhythms.
    alpha_gain, beta_gain
        Factors on their amplitude.
    heart_hz
        Heart beats per second.
    device_to_head
        (4, 4) place of the head in the helmet, metres.
    """

    number: int
    log_pace: float
    hand_shift_m: NDArray[np.float64]
    hand_turn_deg: float
    spacing: float
    alpha_hz: float
    beta_hz: float
    alpha_gain: float
    beta_gain: float
    heart_hz: float
    device_to_head: NDArray[np.float64]


@dataclass(frozen=True)
class Session:
    """How one recording of a subject differs from the others.

    Attributes
    ----------
    device_to_head
        (4, 4) place of the head in the helmet, metres.
    gain
        Factor on the dipoles of key presses.
    turn_deg
        Further rotation of these dipoles.
    sensor_gain
        (sensor,) error of the calibration, about 1.
    """

    device_to_head: NDArray[np.float64]
    gain: float
    turn_deg: float
    sensor_gain: NDArray[np.float64]


def log_paces(config: Config) -> list[float]:
    """Return the offset of every subject: quantiles of the fitted distribution, in random order.

    One subject is a median typist, so that the length of a small study does not hang on luck.
    """
    typists = NormalDist(0.0, read_typing()["timing"]["user_sd"])
    num = config.subjects
    order = np.random.default_rng([config.seed, _PACE_SEED]).permutation(num)
    return [typists.inv_cdf((int(rank) + 0.5) / num) for rank in order]


def draw_person(config: Config, number: int, rng: np.random.Generator) -> Person:
    """Draw a subject; `number` counts from 0."""
    place = resting_place(config.layout)
    return Person(
        number=number,
        log_pace=log_paces(config)[number],
        hand_shift_m=rng.normal(0.0, 3e-3, 3),
        hand_turn_deg=float(rng.normal(0.0, 10.0)),
        spacing=float(rng.uniform(0.85, 1.15)),
        alpha_hz=float(rng.normal(10.2, 0.6)),
        beta_hz=float(rng.normal(20.5, 1.0)),
        alpha_gain=float(np.exp(rng.normal(0.0, 0.3))),
        beta_gain=float(np.exp(rng.normal(0.0, 0.2))),
        heart_hz=float(rng.uniform(0.95, 1.3)),
        device_to_head=_moved(place, rng, _SUBJECT_SHIFT_M, _SUBJECT_TURN_DEG),
    )


def draw_session(person: Person, num_sensors: int, rng: np.random.Generator) -> Session:
    """Draw a recording of a subject."""
    return Session(
        device_to_head=_moved(person.device_to_head, rng, _RECORDING_SHIFT_M, _RECORDING_TURN_DEG),
        gain=float(np.exp(rng.normal(0.0, _GAIN_DRIFT))),
        turn_deg=float(rng.normal(0.0, _TURN_DRIFT_DEG)),
        sensor_gain=1.0 + rng.normal(0.0, _SENSOR_GAIN, num_sensors),
    )


def _moved(
    place: NDArray[np.float64], rng: np.random.Generator, shift_m: float, turn_deg: float
) -> NDArray[np.float64]:
    """Return a place that is shifted and turned by chance, about its own origin."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(rng.normal(0.0, np.deg2rad(turn_deg), 3)).as_matrix()
    moved = place.copy()
    moved[:3, :3] = turn @ place[:3, :3]
    moved[:3, 3] = place[:3, 3] + rng.normal(0.0, shift_m, 3)
    return moved
