"""Make small files of every dataset's format, for tests."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal
from scipy.io import savemat

from neurodecode.contracts import Item, Part, Recording, Windows
from neurodecode.datasets import feis_null

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FAKE_AMPLIFIER = Path(__file__).parent / "data" / "noisetag_fake_amplifier.txt.gz"


def brown_noise(channels: int, samples: int, sfreq: float, seed: int = 0) -> npt.NDArray[Any]:
    """Return noise whose spectrum falls as that of EEG does, about 10 microvolts."""
    rng = np.random.default_rng(seed)
    pole = np.exp(-2 * np.pi * 2.0 / sfreq)
    noise = signal.lfilter([1.0], [1.0, -pole], rng.standard_normal((channels, samples)))
    return np.asarray(noise / noise.std() * 10.0)


def write_speller_log(
    path: Path,
    *,
    modes: Sequence[str] = ("Calibration.supervised",) * 3 + ("Prediction.static",) * 2,
    flashes: int = 40,
    lost_at: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a log of trials whose flashes are 20 ms apart; its clock starts at 1,000,000 ms.

    Channel 1 carries the number of every sample, in units of 1e-3, so that time can be read
    off the data. With `lost_at`, two samples are lost before that sample.
    """
    rng = np.random.default_rng(seed)
    lines: list[tuple[int, str]] = []
    per_trial = flashes * 4 + 200
    total = per_trial * len(modes) + 400
    noise = brown_noise(3, total, 200.0, seed)
    sent = [n for n in range(total) if lost_at is None or n not in (lost_at, lost_at + 1)]
    for start in range(0, len(sent), 4):
        numbers = sent[start : start + 4]
        arrival = 1_000_000 + 5 * (numbers[-1] + 1) + int(rng.choice([0, 0, 3, 9]))
        rows = "".join(
            f"[{n / 1000},{','.join(f'{v:.4f}' for v in noise[:, n])},]" for n in numbers
        )
        lines.append((arrival, f"t:DATAPACKET ts:1 v[4x{len(numbers)}]:{rows} <-/x"))
    for trial, mode in enumerate(modes):
        begin = 1_000_000 + 5 * (trial * per_trial + 100)
        cued = 1 + trial % 3
        lines.append((begin, f"t:MODECHANGE ts:1 mode:{mode} <-/x"))
        lines.append((begin, "t:NEWTARGET ts:1 <-/x"))
        for flash in range(flashes):
            states = rng.integers(0, 2, 4)
            objects = "".join(f"{{{o + 1},{s}}}" for o, s in enumerate(states))
            event = f"t:STIMULUSEVENT ts:1 v[5]:{objects}{{0,{states[cued - 1]}}} <-/x"
            lines.append((begin + 20 * flash, event))
        if mode.startswith("Prediction"):
            lines.append((begin + 20 * flashes, f"t:SELECTION ts:1 id:{cued} <-/x"))
    text = "".join(f"sts:{t}  {body}\n" for t, body in sorted(lines, key=lambda line: line[0]))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def epochs(number: int, channels: int, samples: int, sfreq: float, seed: int) -> npt.NDArray[Any]:
    """Return (epochs, channels, samples) of noise like EEG."""
    long = brown_noise(channels, number * samples, sfreq, seed)
    return long.reshape(channels, number, samples).transpose(1, 0, 2)


def write_typing(folder: Path, train: int = 40, test: int = 10) -> Path:
    """Write both files of the typing EEG with random labels."""
    rng = np.random.default_rng(1)
    names = np.array(["left", "right"])
    np.savez(
        folder / "fm16_unscrambled.npz",
        Xtr=epochs(train, 16, 50, 100.0, 1),
        ytr=names[rng.integers(0, 2, train)],
        Xte=epochs(test, 16, 50, 100.0, 2),
        yte=names[rng.integers(0, 2, test)],
    )
    np.savetxt(folder / "sp1s_aa_test.txt", epochs(100, 28, 50, 100.0, 3).reshape(100, -1))
    np.savetxt(folder / "labels_data_set_iv.txt", rng.integers(0, 2, 100))
    return folder


def write_feis(folder: Path, participant: str = "01", number: int = 32) -> Path:
    """Write an archive of fixation epochs whose labels repeat in one order."""
    header = "Time:256Hz,Epoch,F3,FC5,AF3,F7,T7,P7,O1,O2,P8,T8,F8,AF4,FC6,F4,Label,Stage,Flag"
    data = epochs(number, 14, 256, 256.0, int(participant)) + 4200.0
    lines = [header]
    for epoch in range(number):
        label = feis_null._LABELS[epoch % 16]
        for time in range(256):
            values = ",".join(f"{v:.6f}" for v in data[epoch, :, time])
            lines.append(f"{time / 256},{epoch},{values},{label},articulators,")
    with zipfile.ZipFile(folder / f"{participant}_articulators.zip", "w") as archive:
        archive.writestr("articulators.csv", "\n".join(lines) + "\n")
    return folder


def write_eeglab(folder: Path, seconds: int = 60, presses: int = 20) -> Path:
    """Write a header and its samples: presses every few seconds, one target before each."""
    sfreq, channels = 128, 5
    data = brown_noise(channels, seconds * sfreq, sfreq, 5).astype("<f4")
    data.T.tofile(folder / "eeglab_data.fdt")
    times = np.linspace(2.0, seconds - 2.0, presses)
    event = [
        {"type": kind, "latency": (t - before) * sfreq + 1.0}
        for t in times
        for kind, before in (("square", 0.4), ("rt", 0.0))
    ]
    places = [
        {"labels": name, "X": x, "Y": 0.1, "Z": 0.5}
        for name, x in (("Fz", 0.7), ("Cz", 0.0), ("Pz", -0.7), ("EOG1", 0.9), ("EOG2", 0.8))
    ]
    eeg = {"nbchan": channels, "pnts": seconds * sfreq, "trials": 1, "srate": sfreq}
    eeg |= {"data": "eeglab_data.fdt", "event": event, "chanlocs": places}
    savemat(folder / "eeglab_data.set", {"EEG": eeg})
    return folder


def make_recording(
    data_CT: npt.NDArray[Any] | None = None, sfreq: float = 200.0, **changes: Any
) -> Recording:
    """Return a continuous recording; 20 s of noise like EEG unless told otherwise."""
    data = brown_noise(4, round(20 * sfreq), sfreq) if data_CT is None else data_CT
    values: dict[str, Any] = {
        "subject": "s01",
        "recording": "r1",
        "sfreq_hz": sfreq,
        "data_CT": np.asarray(data, dtype=np.float32),
        "channels": tuple(f"E{i}" for i in range(len(data))),
        "units": ("a.u.",) * len(data),
        "segments": ((0, data.shape[1]),),
    }
    return Recording(**{**values, **changes})


def make_windows(
    parts: Sequence[Part], *, spacing_s: float = 1.0, epoched: bool = False, recordings: int = 1
) -> Windows:
    """Return one-window items, labels alternating, spread over recordings in turn."""
    items = []
    for number, part in enumerate(parts):
        recording = f"r{number % recordings}"
        label = number // recordings % 2
        items.append(
            Item(
                item=f"s01/{recording}/k{number:03d}",
                part=part,
                onsets_s=(number // recordings * spacing_s,),
                labels=(label,),
                reference="ab"[label],
                typed="ab"[label],
            )
        )
    return Windows((0.0, 0.2), ("a", "b"), ("a", "b"), tuple(items), "as told", epoched=epoched)
