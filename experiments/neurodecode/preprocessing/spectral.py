"""Zero-phase FIR filters and resampling of long segments, all in one Fourier transform.

The filters are those of ``mne.filter``; what they do one after the other, the product of their
frequency responses does at once. The signal is continued at both ends by odd reflection, which
every filter of unit gain at 0 Hz keeps, so the ends come out as they would step by step.
T samples.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

_LARGEST_DENOMINATOR = 10_000
_JOINT_S = 1.0


def filter_and_resample(
    block: Samples,
    sfreq: float,
    new_hz: float,
    band: tuple[float | None, float | None],
    lines: tuple[float, ...],
) -> Samples:
    """Return a block without mains, within a band, at a new rate.

    Parameters
    ----------
    block
        (..., T) samples of one segment.
    sfreq, new_hz
        Sampling rate, and the one to return; not above `sfreq`.
    band
        Edges of the high-pass and the low-pass, hertz; None for none.
    lines
        Frequencies that are notched.

    Notes
    -----
    Sample 0 stays sample 0: padding and lengths are multiples of what makes whole samples at
    both rates.
    """
    kernels = _kernels(sfreq, band, lines)
    ratio = Fraction(new_hz / sfreq).limit_denominator(_LARGEST_DENOMINATOR)
    if not kernels and ratio == 1:
        return block
    num = block.shape[-1]
    unit = ratio.denominator
    reach = sum(len(kernel) // 2 for kernel in kernels) + round(_JOINT_S * sfreq)
    pad = -(-reach // unit) * unit
    total = unit * _fast_length(-(-(num + 2 * pad + round(_JOINT_S * sfreq)) // unit))
    new_total = total // unit * ratio.numerator
    extended = _extend(block, pad, total)
    spectrum = _rfft(extended)
    del extended
    spectrum = spectrum[..., : new_total // 2 + 1]
    spectrum *= _response(kernels, total)[: new_total // 2 + 1]
    if new_total < total and new_total % 2 == 0:
        spectrum[..., -1] *= 2.0
    result = _irfft(spectrum, new_total)
    first = pad // unit * ratio.numerator
    result = result[..., first : first + round(num * new_hz / sfreq)]
    if new_total != total:
        result *= new_total / total
    return np.ascontiguousarray(result)


@lru_cache(maxsize=16)
def _kernels(
    sfreq: float, band: tuple[float | None, float | None], lines: tuple[float, ...]
) -> tuple[Samples, ...]:
    """Return the impulse responses that MNE designs for notches and band, symmetric."""
    import mne

    kernels = []
    if lines:
        freqs = np.array(lines)
        low, high = freqs - freqs / 400.0 - 0.5, freqs + freqs / 400.0 + 0.5
        kernels.append(
            mne.filter.create_filter(
                None,
                sfreq,
                list(high),
                list(low),
                l_trans_bandwidth=0.5,
                h_trans_bandwidth=0.5,
                verbose="error",
            )
        )
    if any(edge is not None for edge in band):
        kernels.append(mne.filter.create_filter(None, sfreq, *band, verbose="error"))
    return tuple(np.asarray(kernel, dtype=np.float64) for kernel in kernels)


def _fast_length(least: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(least, real=True))


def _extend(block: Samples, pad: int, total: int) -> Samples:
    """Return the block between its odd reflections and a ramp that closes the circle."""
    num = block.shape[-1]
    extended = np.zeros((*block.shape[:-1], total))
    extended[..., pad : pad + num] = block
    reach = min(pad, num - 1)
    extended[..., pad - reach : pad] = 2 * block[..., :1] - block[..., reach:0:-1]
    tail = block[..., num - 1 - reach : num - 1][..., ::-1]
    stop = pad + num + reach
    extended[..., pad + num : stop] = 2 * block[..., -1:] - tail
    if reach == pad:
        ramp = np.linspace(0.0, 1.0, total - stop + 2)[1:-1]
        start, end = extended[..., stop - 1 : stop], extended[..., :1]
        extended[..., stop:] = start + (end - start) * ramp
    return extended


def _response(kernels: tuple[Samples, ...], total: int) -> Samples:
    """Return the real frequency response of the filters together."""
    response = np.ones(total // 2 + 1)
    for kernel in kernels:
        centred = np.zeros(total)
        centred[: len(kernel)] = kernel
        response *= _rfft(np.roll(centred, -(len(kernel) // 2))).real
    return response


def _rfft(samples: Samples) -> npt.NDArray[np.complex128]:
    from scipy import fft

    return np.asarray(fft.rfft(samples, axis=-1, workers=1))


def _irfft(spectrum: npt.NDArray[np.complex128], length: int) -> Samples:
    from scipy import fft

    return np.asarray(fft.irfft(spectrum, length, axis=-1, overwrite_x=True, workers=1))
