"""Random signals with a given power spectrum. Array names: K sources, T samples, F frequencies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Power = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def coloured_noise(
    rng: np.random.Generator, num_sources: int, num_samples: int, sfreq_hz: float, power: Power
) -> NDArray[np.float32]:
    """Return independent Gaussian signals (source, sample).

    Parameters
    ----------
    rng
        Source of chance.
    num_sources, num_samples
        Shape of the result.
    sfreq_hz
        Sampling rate.
    power
        One-sided power spectral density, unit squared per hertz, at frequencies in hertz.
    """
    length = fft.next_fast_len(num_samples, real=True)
    frequency_F = fft.rfftfreq(length, 1.0 / sfreq_hz)
    scale_F = np.sqrt(power(frequency_F) * sfreq_hz * length / 4.0).astype(np.float32)
    scale_F[0] = 0.0
    signals_KT = np.empty((num_sources, num_samples), dtype=np.float32)
    for source in range(num_sources):
        parts = rng.standard_normal((len(scale_F), 2), dtype=np.float32)
        spectrum_F = parts.view(np.complex64)[:, 0] * scale_F
        signals_KT[source] = fft.irfft(spectrum_F, length)[:num_samples]
    return signals_KT


def power_law(exponent: float, band_hz: tuple[float, float]) -> Power:
    """Return the spectrum f^-exponent whose power within a band is 1; nothing lies below it."""
    low, high = band_hz
    rest = 1.0 - exponent
    area = (high**rest - low**rest) / rest if rest else float(np.log(high / low))

    def power(frequency_F: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = frequency_F >= low
        return np.where(inside, np.maximum(frequency_F, low) ** -exponent, 0.0) / area

    return power


def knee(knee_hz: float, exponent: float) -> Power:
    """Return a spectrum of density 1 well below the knee, that falls as f^-exponent above."""

    def power(frequency_F: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1.0 / (1.0 + (frequency_F / knee_hz) ** exponent))

    return power


def peak(centre_hz: float, sd_hz: float) -> Power:
    """Return a bell-shaped spectrum of power 1."""

    def power(frequency_F: NDArray[np.float64]) -> NDArray[np.float64]:
        bell = np.exp(-0.5 * ((frequency_F - centre_hz) / sd_hz) ** 2)
        return np.asarray(bell / (sd_hz * np.sqrt(2.0 * np.pi)))

    return power
