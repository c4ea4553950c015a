"""Fields of key presses: a place per finger and a pattern per key in both hand areas.

Four components follow each other around a press, as in recordings of self-paced movements: the
slow readiness field, the motor field, and the first and second movement-evoked field. The first
two arise before, the last two behind the central sulcus. How the finger reaches turns and shifts
the dipoles of a key, so that neighbours on the keyboard look alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from neurodecode.datasets._typing_sim.forward import lead_field, rotated, tangential
from neurodecode.datasets._typing_sim.keyboard import Key, all_keys
from neurodecode.datasets._typing_sim.layouts import HEAD_CENTRE_M
from neurodecode.datasets._typing_sim.person import Person, Session

_RADIUS_M = 0.068
_FINGER_FROM_TOP_DEG = (26.0, 30.0, 34.0, 38.0, 43.0)
_FINGER_FORWARD_M = (-6e-3, -3e-3, 0.0, 3e-3, 6e-3)
_BEHIND_M = 10e-3
_REACH_TURN_DEG, _STRETCH_TURN_DEG = 35.0, -30.0
_REACH_SHIFT_M, _STRETCH_SHIFT_M = 2.5e-3, 2.5e-3
_REACH_DELAY_S = 8e-3
_KEY_TURN_DEG, _KEY_DELAY_S, _KEY_GAIN = 12.0, 10e-3, 0.15
_PERSON_TURN_DEG = 6.0
_TRIAL_GAIN, _TRIAL_DELAY_S = 0.2, 8e-3
_KEYS_SEED = 20_010


@dataclass(frozen=True)
class Component:
    """One deflection around a key press.

    Attributes
    ----------
    latency_s, sd_s
        Centre, relative to the press, and width of its bell-shaped time course.
    moment
        Peak, relative to the strongest component.
    sensory
        Whether it arises behind the central sulcus.
    same_side
        Share that the hemisphere of the same side shows, too.
    """

    latency_s: float
    sd_s: float
    moment: float
    sensory: bool
    same_side: float


COMPONENTS = (
    Component(-0.26, 0.11, 0.30, False, 0.5),
    Component(-0.06, 0.035, 0.75, False, 0.25),
    Component(0.07, 0.030, -1.0, True, 0.1),
    Component(0.18, 0.055, 0.5, True, 0.2),
)


@dataclass(frozen=True)
class KeyTuning:
    """How the components of every key differ; arrays are (key, component)."""

    turn_deg: NDArray[np.float64]
    delay_s: NDArray[np.float64]
    gain: NDArray[np.float64]


def key_tuning() -> KeyTuning:
    """Return what is the same for everybody: it comes from the keyboard and from the hand."""
    rng = np.random.default_rng(_KEYS_SEED)
    keys = all_keys()
    shape = (len(keys), len(COMPONENTS))
    reach = np.array([key.reach for key in keys])[:, None]
    stretch = np.array([key.stretch for key in keys])[:, None]
    turn = _REACH_TURN_DEG * reach + _STRETCH_TURN_DEG * stretch
    return KeyTuning(
        turn_deg=turn + rng.normal(0.0, _KEY_TURN_DEG, shape),
        delay_s=_REACH_DELAY_S * np.abs(reach) + rng.normal(0.0, _KEY_DELAY_S, shape),
        gain=np.exp(rng.normal(0.0, _KEY_GAIN, shape)),
    )


def key_fields(
    info: Any, person: Person, session: Session, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return what every component of every key looks like, (sensor, key, component).

    Parameters
    ----------
    info
        Sensors with the place of the head in this recording.
    person, session
        Who types, when.
    rng
        Source of what only this person's keys have; the same for all their recordings.

    Returns
    -------
    ndarray
        Fields of a moment of 1 Am times `Component.moment`.
    """
    keys, tuning = all_keys(), key_tuning()
    own_turn = rng.normal(0.0, _PERSON_TURN_DEG, tuning.turn_deg.shape)
    turn = tuning.turn_deg + own_turn + person.hand_turn_deg + session.turn_deg
    areas = list(product((False, True), repeat=2))
    dipoles = [_hand_area(keys, person, sensory, own_side) for sensory, own_side in areas]
    leads = lead_field(info, np.concatenate([place for place, _ in dipoles]))
    fields = np.zeros((len(leads), len(keys), len(COMPONENTS)))
    for number, (sensory, own_side) in enumerate(areas):
        place, forward = dipoles[number]
        own_leads = leads[:, number * len(keys) :][:, : len(keys)]
        # Hemispheres mirror each other, and so do the turns of their dipoles.
        side = np.where(place[:, 0] < 0, 1.0, -1.0)
        for which, component in enumerate(COMPONENTS):
            if component.sensory == sensory:
                moment = rotated(place, forward, side * turn[:, which])
                share = component.same_side if own_side else 1.0
                strength = share * session.gain * component.moment * tuning.gain[:, which]
                fields[:, :, which] += strength * np.einsum("ckx,kx->ck", own_leads, moment)
    return fields


def _hand_area(
    keys: tuple[Key, ...], person: Person, sensory: bool, own_side: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return places (key, 3) and forward directions in the hemisphere that moves the hand.

    The right hand lies in the left hemisphere, where x is negative; `own_side` swaps them.
    """
    side = np.array([-1.0 if (key.hand == "right") != own_side else 1.0 for key in keys])
    middle = np.mean(_FINGER_FROM_TOP_DEG)
    from_top = np.deg2rad(
        [middle + person.spacing * (_FINGER_FROM_TOP_DEG[key.finger] - middle) for key in keys]
    )
    forward_m = np.array([_FINGER_FORWARD_M[key.finger] for key in keys]) * person.spacing
    forward_m = forward_m + _REACH_SHIFT_M * np.array([key.reach for key in keys])
    lateral_m = _STRETCH_SHIFT_M * np.array([key.stretch for key in keys])
    place = np.stack(
        [
            side * (_RADIUS_M * np.sin(from_top) + lateral_m - person.hand_shift_m[0]),
            forward_m + person.hand_shift_m[1] - (_BEHIND_M if sensory else 0.0),
            _RADIUS_M * np.cos(from_top) + person.hand_shift_m[2],
        ],
        axis=1,
    )
    forward = np.stack([0.35 * side, np.ones(len(keys)), np.zeros(len(keys))], axis=1)
    place = place + HEAD_CENTRE_M
    return place, tangential(place, forward)


def press_courses(
    press_s: NDArray[np.float64],
    press_key: NDArray[np.int64],
    num_samples: int,
    sfreq_hz: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return time courses with peaks of about 1, (key, component, sample).

    Parameters
    ----------
    press_s, press_key
        Moment of every press, and its key as an index into `all_keys`.
    num_samples, sfreq_hz
        Length and sampling rate of the recording.
    rng
        Source of what differs from press to press.
    """
    tuning = key_tuning()
    courses = np.zeros((len(all_keys()), len(COMPONENTS), num_samples), dtype=np.float32)
    for number, component in enumerate(COMPONENTS):
        gain = np.exp(rng.normal(0.0, _TRIAL_GAIN, len(press_s)))
        moment_s = press_s + component.latency_s + tuning.delay_s[press_key, number]
        moment_s = moment_s + rng.normal(0.0, _TRIAL_DELAY_S, len(press_s))
        impulses = _impulses(moment_s, press_key, gain, num_samples, sfreq_hz)
        half = int(np.ceil(4.0 * component.sd_s * sfreq_hz))
        bell = np.exp(-0.5 * (np.arange(-half, half + 1) / (component.sd_s * sfreq_hz)) ** 2)
        courses[:, number] = signal.oaconvolve(
            impulses, bell[None].astype(np.float32), mode="same", axes=1
        )
    return courses


def _impulses(
    moment_s: NDArray[np.float64],
    row: NDArray[np.int64],
    weight: NDArray[np.float64],
    num_samples: int,
    sfreq_hz: float,
) -> NDArray[np.float32]:
    """Return impulses, each shared between the two samples around its moment."""
    train = np.zeros((len(all_keys()), num_samples), dtype=np.float32)
    at = moment_s * sfreq_hz
    first = np.floor(at).astype(np.int64)
    for offset, share in ((0, 1.0 - (at - first)), (1, at - first)):
        inside = (first + offset >= 0) & (first + offset < num_samples)
        np.add.at(train, (row[inside], first[inside] + offset), (weight * share)[inside])
    return train
