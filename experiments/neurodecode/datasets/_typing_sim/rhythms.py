"""Alpha over the back of the head, mu and beta over both hand areas.

Rhythms of a hand area fall before and during key presses (desynchronisation), most on the side
opposite to the hand, and beta rises above rest about a second after the last press (rebound).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from neurodecode.datasets._typing_sim.forward import lead_field, rotated, tangential
from neurodecode.datasets._typing_sim.layouts import HEAD_CENTRE_M
from neurodecode.datasets._typing_sim.person import Person
from neurodecode.datasets._typing_sim.spectra import coloured_noise, peak

_ALPHA_SOURCES = 6
_ALPHA_NAM, _MU_NAM, _BETA_NAM = 11.0, 12.0, 9.0
_ALPHA_SD_HZ, _BETA_SD_HZ = 0.8, 2.0
_HAND_SOURCES = 3
_DEPTH = {"mu": 0.65, "beta": 0.65}
_SAME_SIDE = 0.55
_FALL_S = (-0.9, 0.5)
_REBOUND_S, _REBOUND_SD_S, _REBOUND = 1.0, 0.3, 0.6


def rhythm_sources(
    info: Any,
    person: Person,
    press_s: NDArray[np.float64],
    left_hand: NDArray[np.bool_],
    num_samples: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return fields (sensor, source) and time courses (source, sample) of all rhythms.

    Parameters
    ----------
    info
        Sensors with the place of the head.
    person
        Frequencies and amplitudes.
    press_s, left_hand
        Moment of every key press, and whether the left hand made it.
    num_samples
        Length of the recording.
    rng
        Source of chance.
    """
    sfreq = float(info["sfreq"])
    fields = [_alpha_fields(info, rng) * _ALPHA_NAM * 1e-9 * person.alpha_gain]
    alpha = peak(person.alpha_hz, _ALPHA_SD_HZ)
    courses = [coloured_noise(rng, _ALPHA_SOURCES, num_samples, sfreq, alpha)]
    for side in (-1.0, 1.0):
        opposite = ~left_hand if side < 0 else left_hand
        weight = np.where(opposite, 1.0, _SAME_SIDE)
        hand_fields = _hand_fields(info, person, side, rng)
        for name, centre, sd, nam, gain in (
            ("mu", person.alpha_hz + 0.5, _ALPHA_SD_HZ, _MU_NAM, person.alpha_gain),
            ("beta", person.beta_hz, _BETA_SD_HZ, _BETA_NAM, person.beta_gain),
        ):
            level_T = rhythm_level(name, press_s, weight, num_samples, sfreq)
            noise = coloured_noise(rng, _HAND_SOURCES, num_samples, sfreq, peak(centre, sd))
            fields.append(hand_fields * nam * 1e-9 * gain)
            courses.append(noise * level_T.astype(np.float32))
    return np.hstack(fields), np.vstack(courses)


def rhythm_level(
    name: str,
    press_s: NDArray[np.float64],
    weight: NDArray[np.float64],
    num_samples: int,
    sfreq_hz: float,
) -> NDArray[np.float64]:
    """Return the amplitude of a rhythm at every sample, 1 at rest.

    Parameters
    ----------
    name
        ``mu`` or ``beta``; only beta rebounds.
    press_s, weight
        Moment of every key press, and how much it counts: 1 opposite to the hand.
    num_samples, sfreq_hz
        Length and sampling rate.
    """
    at = np.round(press_s * sfreq_hz).astype(np.int64)
    inside = (at >= 0) & (at < num_samples)
    counted = np.bincount(at[inside], weights=weight[inside], minlength=num_samples)
    train = counted.astype(np.float64)
    first, last = (round(edge * sfreq_hz) for edge in _FALL_S)
    fall = _convolve(train, np.hanning(last - first + 3)[1:-1], first, num_samples)
    busy = 1.0 - np.exp(-fall)
    level = 1.0 - _DEPTH[name] * busy
    if name == "beta":
        centre, half = round(_REBOUND_S * sfreq_hz), round(3 * _REBOUND_SD_S * sfreq_hz)
        bell = np.exp(-0.5 * (np.arange(-half, half + 1) / (_REBOUND_SD_S * sfreq_hz)) ** 2)
        after = _convolve(train, bell, centre - half, num_samples)
        level = level + _REBOUND * (1.0 - np.exp(-after)) * (1.0 - busy)
    return np.asarray(level)


def _convolve(
    train: NDArray[np.float64], shape: NDArray[np.float64], first: int, num_samples: int
) -> NDArray[np.float64]:
    """Return impulses convolved with a shape that begins `first` samples after each."""
    full = signal.oaconvolve(train, shape)
    if first < 0:
        return np.asarray(full[-first:][:num_samples])
    return np.concatenate([np.zeros(first), full])[:num_samples]


def _alpha_fields(info: Any, rng: np.random.Generator) -> NDArray[np.float64]:
    x = np.linspace(-0.03, 0.03, _ALPHA_SOURCES)
    y = np.full(_ALPHA_SOURCES, -0.055)
    z = rng.uniform(0.0, 0.03, _ALPHA_SOURCES)
    place = HEAD_CENTRE_M + np.stack([x, y, z], axis=1)
    sideways = tangential(place, np.tile([1.0, 0.0, 0.3], (_ALPHA_SOURCES, 1)))
    moment = rotated(place, sideways, rng.normal(0.0, 30.0, _ALPHA_SOURCES))
    return np.asarray(np.einsum("ckx,kx->ck", lead_field(info, place), moment))


def _hand_fields(
    info: Any, person: Person, side: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    place = np.array([side * 0.038, 0.0, 0.055]) + HEAD_CENTRE_M
    shift = person.hand_shift_m * [-side, 1.0, 1.0]
    places = place + shift + rng.normal(0.0, 5e-3, (_HAND_SOURCES, 3))
    forward = tangential(places, np.tile([0.35 * side, 1.0, 0.0], (_HAND_SOURCES, 1)))
    moment = rotated(places, forward, rng.normal(0.0, 20.0, _HAND_SOURCES))
    return np.asarray(np.einsum("ckx,kx->ck", lead_field(info, places), moment))
