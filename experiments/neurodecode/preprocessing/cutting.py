"""Cut windows out of preprocessed recordings.

W windows, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neurodecode.contracts import FloatArray, Item
from neurodecode.preprocessing.pipeline import Prepared
from neurosweep.core.errors import DataError


def cut_windows(
    prepared: Mapping[str, Prepared], items: Sequence[Item], window_s: tuple[float, float]
) -> FloatArray:
    """Return the windows of items, in their order.

    Parameters
    ----------
    prepared
        ``<subject>/<recording>`` to its preprocessed samples.
    items
        Items whose onsets are cut.
    window_s
        (start, stop) relative to each onset, seconds.

    Returns
    -------
    numpy.ndarray
        (W, C, T) float32.

    Raises
    ------
    DataError
        When a window reaches beyond its recording or its segment, or recordings do not have
        the same channels and sampling rate.
    """
    shapes = {(p.data_CT.shape[0], p.sfreq_hz) for p in prepared.values()}
    if len(shapes) > 1:
        listed = ", ".join(f"{c} channels at {hz:g} Hz" for c, hz in sorted(shapes))
        msg = f"recordings differ ({listed}); choose the same channels and set"
        raise DataError(f"{msg} preprocessing.resample_hz to a rate that all can have")
    if not items:
        channels, sfreq = next(iter(shapes))
        return np.zeros((0, channels, _length(window_s, sfreq)), dtype=np.float32)
    return np.concatenate([_cut_item(prepared, item, window_s) for item in items])


def _length(window_s: tuple[float, float], sfreq: float) -> int:
    return max(1, round((window_s[1] - window_s[0]) * sfreq))


def _cut_item(
    prepared: Mapping[str, Prepared], item: Item, window_s: tuple[float, float]
) -> FloatArray:
    source = prepared[f"{item.subject}/{item.recording}"]
    onsets_W = np.asarray(item.onsets_s)
    segment_W = np.searchsorted(source.segment_onsets_s, onsets_W + 1e-9, side="right") - 1
    bounds = np.asarray(source.segments)[np.maximum(segment_W, 0)]
    since_W = onsets_W - np.asarray(source.segment_onsets_s)[np.maximum(segment_W, 0)]
    first_W = bounds[:, 0] + np.round((since_W + window_s[0]) * source.sfreq_hz).astype(int)
    length = _length(window_s, source.sfreq_hz)
    outside = (segment_W < 0) | (first_W < bounds[:, 0]) | (first_W + length > bounds[:, 1])
    if outside.any():
        first = float(onsets_W[outside][0])
        msg = f"{item.item}: {int(outside.sum())} of {len(onsets_W)} windows reach beyond the"
        msg += f" recording or its segment, first the one at {first:g} s (window {window_s[0]:g} to"
        raise DataError(f"{msg} {window_s[1]:g} s); shorten the window or drop the event")
    index = first_W[:, None] + np.arange(length)
    return np.ascontiguousarray(source.data_CT[:, index].transpose(1, 0, 2), dtype=np.float32)
