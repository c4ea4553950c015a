"""What is there without any key: noise of sensors and room, cortex, rhythms, heart, eyes, mains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from neurodecode.datasets._typing_sim.bundle import ERM_BAND_HZ, read_room
from neurodecode.datasets._typing_sim.forward import (
    far_fields,
    lead_field,
    magnetic_dipole,
    tangential,
)
from neurodecode.datasets._typing_sim.layouts import HEAD_CENTRE_M, resting_place, sensor_info
from neurodecode.datasets._typing_sim.person import Person
from neurodecode.datasets._typing_sim.spectra import coloured_noise, knee, power_law

_ROOM_EXPONENT = 1.3
_ROOM_FACTORS = 64
_FLOOR_QUANTILE = 0.05
_OPM_NOISE_T = 10e-15
_CORTEX_SOURCES = 120
_CORTEX_RADII_M = (0.055, 0.078)
_CORTEX_LOWEST = -0.3
_CORTEX_KNEE_HZ, _CORTEX_EXPONENT = 8.0, 2.0
_CORTEX_NAM_PER_ROOT_HZ = 1.4
_HEART_PLACE_M = (0.05, 0.02, -0.42)
_HEART_MOMENT = (1e-7, 2e-7, -3e-7)
_HEART_WAVES = (
    (-0.17, 0.025, 0.12),
    (-0.03, 0.010, -0.12),
    (0.0, 0.011, 1.0),
    (0.03, 0.010, -0.22),
    (0.26, 0.050, 0.25),
)
_EYES_M = np.array([[-0.032, 0.078, 0.005], [0.032, 0.078, 0.005]])
_BLINK_NAM, _BLINK_HZ, _BLINK_SD_S = 60.0, 0.25, 0.07
_MAINS_T, _MAINS_T_PER_M = 400e-15, 3e-12


def room_noise(
    layout: Any, info: Any, num_samples: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return noise of sensors and room, (sensor, sample).

    Notes
    -----
    The covariance is that of a real empty room. Its smallest eigenvalues are white noise of the
    sensors, the rest falls with frequency as f^-1.3, as empty rooms do. Under an OPM helmet the
    room is the same: uniform fields and gradients, of the covariance that explains the room
    best; sensors add white noise of 10 fT per root hertz.
    """
    sfreq = float(info["sfreq"])
    factors_CK, white_C = _neuromag_noise() if layout == "neuromag306" else _opm_noise(info)
    power = power_law(_ROOM_EXPONENT, ERM_BAND_HZ)
    slow_KT = coloured_noise(rng, factors_CK.shape[1], num_samples, sfreq, power)
    noise_CT = factors_CK.astype(np.float32) @ slow_KT
    sd_C = (white_C * np.sqrt(sfreq / 2.0)).astype(np.float32)
    for row, sd in zip(noise_CT, sd_C, strict=True):
        row += sd * rng.standard_normal(num_samples, dtype=np.float32)
    return noise_CT


def _neuromag_noise() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return factors (sensor, source) of the slow noise, and white noise per root hertz."""
    covariance_CC = read_room().covariance_CC
    info = sensor_info("neuromag306", 250.0, resting_place("neuromag306"))
    planar = np.array([int(channel["unit"]) == 201 for channel in info["chs"]])
    floor_C = np.zeros(len(planar))
    for kind in (planar, ~planar):
        values = np.linalg.eigvalsh(covariance_CC[np.ix_(kind, kind)])
        floor_C[kind] = np.sqrt(np.quantile(values, _FLOOR_QUANTILE))
    scaled = covariance_CC / np.outer(floor_C, floor_C) - np.eye(len(planar))
    values, vectors = np.linalg.eigh(scaled)
    largest = np.argsort(values)[::-1][:_ROOM_FACTORS]
    root = np.sqrt(np.maximum(values[largest], 0.0))
    low, high = ERM_BAND_HZ
    return floor_C[:, None] * vectors[:, largest] * root, floor_C / np.sqrt(high - low)


def _opm_noise(info: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return factors (sensor, source) and white noise of a helmet of OPMs in the same room."""
    neuromag = sensor_info("neuromag306", 250.0, resting_place("neuromag306"))
    explain = np.linalg.pinv(far_fields(neuromag))
    values, vectors = np.linalg.eigh(explain @ read_room().covariance_CC @ explain.T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return far_fields(info) @ root, np.full(len(info["ch_names"]), _OPM_NOISE_T)


def cortex_noise(info: Any, num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return ongoing activity of the cortex, (sensor, sample): dipoles of falling spectrum."""
    up = rng.uniform(_CORTEX_LOWEST, 1.0, _CORTEX_SOURCES)
    around = rng.uniform(0.0, 2.0 * np.pi, _CORTEX_SOURCES)
    ring = np.sqrt(1.0 - up**2)
    outward = np.stack([ring * np.cos(around), ring * np.sin(around), up], axis=1)
    radius = rng.uniform(*_CORTEX_RADII_M, _CORTEX_SOURCES)
    place = HEAD_CENTRE_M + radius[:, None] * outward
    moment = tangential(place, rng.standard_normal((_CORTEX_SOURCES, 3)))
    fields_CK = (
        np.einsum("ckx,kx->ck", lead_field(info, place), moment) * _CORTEX_NAM_PER_ROOT_HZ * 1e-9
    )
    power = knee(_CORTEX_KNEE_HZ, _CORTEX_EXPONENT)
    course_KT = coloured_noise(rng, _CORTEX_SOURCES, num_samples, float(info["sfreq"]), power)
    noise_CT: NDArray[np.float32] = fields_CK.astype(np.float32) @ course_KT
    return noise_CT


def artefacts(
    info: Any, person: Person, num_samples: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return fields (sensor, source) and time courses (source, sample) of heart, eyes, mains."""
    sfreq = float(info["sfreq"])
    heart_C = magnetic_dipole(info, np.array(_HEART_PLACE_M), np.array(_HEART_MOMENT))
    upward = tangential(_EYES_M, np.tile([0.0, 0.0, 1.0], (2, 1)))
    eyes_C = np.einsum("ckx,kx->c", lead_field(info, _EYES_M), upward) * _BLINK_NAM * 1e-9
    far = far_fields(info)
    mains = [
        far[:, :3] @ rng.normal(0.0, _MAINS_T, 3) + far[:, 3:] @ rng.normal(0.0, _MAINS_T_PER_M, 5)
        for _ in range(2)
    ]
    mains[1] *= 0.2
    time_T = np.arange(num_samples) / sfreq
    drift_T = 0.02 * np.cumsum(rng.standard_normal(num_samples)) / np.sqrt(sfreq)
    phase_T = 2.0 * np.pi * 50.0 * time_T + drift_T
    courses = [
        _heart_course(person.heart_hz, num_samples, sfreq, rng),
        _blink_course(num_samples, sfreq, rng),
        np.sin(phase_T),
        np.sin(2.0 * phase_T) if sfreq > 220.0 else np.zeros(num_samples),
    ]
    fields_CK = np.stack([heart_C, eyes_C, *mains], axis=1)
    return fields_CK, np.stack(courses).astype(np.float32)


def _heart_course(
    rate_hz: float, num_samples: int, sfreq: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return beats with P wave, QRS complex and T wave; the R peak is 1."""
    num = int(num_samples / sfreq * rate_hz) + 3
    beat_s = np.cumsum(rng.normal(1.0, 0.04, num) / rate_hz)
    train = _train(beat_s, np.ones(num), num_samples, sfreq)
    at = np.arange(-round(0.3 * sfreq), round(0.5 * sfreq) + 1) / sfreq
    shape = sum(size * np.exp(-0.5 * ((at - t) / sd) ** 2) for t, sd, size in _HEART_WAVES)
    full = signal.oaconvolve(train, np.asarray(shape))
    return np.asarray(full[round(0.3 * sfreq) :][:num_samples])


def _blink_course(num_samples: int, sfreq: float, rng: np.random.Generator) -> NDArray[np.float64]:
    num = rng.poisson(_BLINK_HZ * num_samples / sfreq)
    moment_s = rng.uniform(0.0, num_samples / sfreq, num)
    train = _train(moment_s, np.exp(rng.normal(0.0, 0.25, num)), num_samples, sfreq)
    half = round(4 * _BLINK_SD_S * sfreq)
    bell = np.exp(-0.5 * (np.arange(-half, half + 1) / (_BLINK_SD_S * sfreq)) ** 2)
    return np.asarray(signal.oaconvolve(train, bell, mode="same"))


def _train(
    moment_s: NDArray[np.float64], weight: NDArray[np.float64], num_samples: int, sfreq: float
) -> NDArray[np.float64]:
    at = np.round(moment_s * sfreq).astype(np.int64)
    inside = (at >= 0) & (at < num_samples)
    counted = np.bincount(at[inside], weights=weight[inside], minlength=num_samples)
    return counted.astype(np.float64)
