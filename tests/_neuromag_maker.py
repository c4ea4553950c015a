"""Make FIF recordings of the 306-sensor helmet, and events tables, for tests."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np

from neurodecode.datasets._neuromag.helmet import reference_helmet

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "meg_neuromag306"
COIL_OF_KIND = {"mag": 3024, "grad": 3012}
SD_OF_KIND = {"mag": 2e-13, "grad": 4e-12}


def make_raw(
    seconds: float = 4.0,
    sfreq: float = 100.0,
    *,
    order: Sequence[int] | None = None,
    leave_out: Sequence[str] = (),
    triggers: Mapping[float, int] | None = None,
    seed: int = 0,
) -> Any:
    """Return a recording of noise of realistic size, its sensors where the helmet has them."""
    helmet = reference_helmet()
    rng = np.random.default_rng(seed)
    num = round(seconds * sfreq)
    scale = np.array([SD_OF_KIND[kind] for kind in helmet.kinds])[:, None]
    data = rng.standard_normal((306, num)) * scale
    rows = [i for i in (order or range(306)) if helmet.names[i] not in leave_out]
    names = [helmet.names[i] for i in rows]
    kinds = [helmet.kinds[i] for i in rows]
    info = mne.create_info([*names, "STI101"], sfreq, [*kinds, "stim"])
    for channel, i in zip(info["chs"], rows, strict=False):
        across = np.cross(helmet.normal[i], helmet.along[i])
        place = (helmet.place_mm[i] / 1e3, helmet.along[i], across, helmet.normal[i])
        channel["loc"] = np.concatenate(place)
        channel["coil_type"] = COIL_OF_KIND[helmet.kinds[i]]
    stim = np.zeros((1, num))
    for moment, code in (triggers or {}).items():
        first = round(moment * sfreq)
        stim[0, first : first + 3] = code
    return mne.io.RawArray(np.vstack([data[rows], stim]), info, verbose="ERROR")


def save(raw: Any, path: Path, **options: Any) -> Path:
    """Write a recording as FIF, double precision, so that nothing is rounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw.save(path, fmt="double", overwrite=True, verbose="ERROR", **options)
    return path


def table(
    path: Path,
    files: Mapping[str, Path | str],
    keys: Sequence[tuple[float, str]],
    *,
    subject: str = "S01",
    start: float = 0.0,
) -> Path:
    """Write a TSV with one Meg row a timeline and the same key presses in each."""
    lines = ["type\tstart\tduration\ttimeline\tsubject\tfilepath\tbutton"]
    for timeline, file in files.items():
        lines.append(f"Meg\t{start}\t0\t{timeline}\t{subject}\t{file}\t")
        lines += [
            f"Keystroke\t{start + moment}\t0.1\t{timeline}\t{subject}\t\t{key}"
            for moment, key in keys
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
