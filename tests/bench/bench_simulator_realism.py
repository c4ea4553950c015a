"""The typing simulator beside real recordings: spectra, evoked fields, rhythms, key timing.

Writes one picture and prints the numbers behind it:

* amplitude spectra of simulated typing, of a real brain and of two real empty rooms; the
  distance between two spectra is the root mean square of their difference in decibels, 1-40 Hz
  without the mains;
* how many dimensions carry the covariance of simulated and real noise;
* the field around a key press for either hand with its topography, beside evoked fields of a
  real brain;
* alpha and beta over the hand areas around the end of a sentence;
* key intervals beside those of real typists.

Run: python tests/bench/bench_simulator_realism.py DATA_FOLDER [--folder RECORDINGS] [--out PNG]
Cost: about one minute on one core. DATA_FOLDER holds meg_neuromag306 and keystrokes_aalto.
RECORDINGS is a folder of the simulator; without one, ten minutes are simulated.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mne
import numpy as np
from scipy import io, signal

from neurodecode.datasets import simulated_typing
from neurodecode.datasets._neuromag.helmet import canonical_name, reference_helmet
from neurodecode.datasets._typing_sim.fit_timing import fit, read_intervals
from neurodecode.datasets._typing_sim.keyboard import all_keys
from neurodecode.datasets._typing_sim.layouts import resting_place, sensor_info
from neurodecode.events import Event, read_events, select

BAND_HZ = (1.0, 40.0)
EPOCH_S = (-0.6, 0.6)
BASELINE_S = (-0.6, -0.45)
MOST_S = 400.0
QUANTILES = (5, 25, 50, 75, 95)
SHOWN_FT, SHOWN_FT_CM = 1e15, 1e13
MAGS = np.array([kind == "mag" for kind in reference_helmet().kinds])
LEFT_HAND = frozenset(key.name for key in all_keys() if key.hand == "left" and key.name != "space")


@dataclass(frozen=True)
class Data:
    """A recording: the sensors that it has, in the order of the helmet."""

    name: str
    data_CT: np.ndarray
    names: tuple[str, ...]
    sfreq_hz: float

    @property
    def mags(self) -> np.ndarray:
        """Which sensors are magnetometers."""
        return np.array([name.endswith("1") for name in self.names])

    def spectrum(self, mag: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return frequencies and the median amplitude over sensors, fT (/cm) per root hertz."""
        size = min(self.data_CT.shape[1], round(2.0 * self.sfreq_hz))
        frequency_F, power_CF = signal.welch(self.data_CT, self.sfreq_hz, nperseg=size)
        rows = self.mags if mag else ~self.mags
        scale = SHOWN_FT if mag else SHOWN_FT_CM
        return frequency_F, np.sqrt(np.median(power_CF[rows], axis=0)) * scale


def in_order(name: str, channels: list[str], data: np.ndarray, sfreq_hz: float) -> Data:
    """Return a recording without what is no sensor of the helmet."""
    row_of = {canonical_name(channel): row for row, channel in enumerate(channels)}
    present = tuple(sensor for sensor in reference_helmet().names if sensor in row_of)
    return Data(name, data[[row_of[sensor] for sensor in present]], present, sfreq_hz)


def raw_data(path: Path, name: str) -> Data:
    """Read a FIF recording."""
    raw = mne.io.read_raw_fif(path, allow_maxshield="yes", verbose="ERROR")
    raw.crop(0.0, min(float(raw.times[-1]), MOST_S))
    return in_order(name, raw.ch_names, raw.get_data(), float(raw.info["sfreq"]))


def real_recordings(folder: Path) -> list[Data]:
    """Read the real brain and the real empty rooms."""
    stored = io.loadmat(
        folder / "neuromag306_ft_raw_v7.mat", squeeze_me=True, struct_as_record=False
    )["data"]
    names = [str(name) for name in stored.label]
    brain = in_order("real brain, 5 s", names, stored.trial, float(stored.fsample))
    return [
        brain,
        raw_data(folder / "141027_cropped_90Hz_raw.fif", "real empty room, 10 s"),
        raw_data(folder / "test_move_anon_erm_raw.fif", "another empty room, 1 s"),
    ]


def distance_db(a: Data, b: Data, mag: bool) -> float:
    """Return the log-spectral distance."""
    low, high = BAND_HZ
    grid = np.arange(low, high + 0.1, 1.0)
    spectra = [np.interp(grid, *data.spectrum(mag)) for data in (a, b)]
    return float(np.sqrt(np.mean((20.0 * np.log10(spectra[0] / spectra[1])) ** 2)))


def print_spectra(simulated: Data, real: list[Data]) -> None:
    """Print distances of all pairs and a table of amplitudes."""
    print("Log-spectral distance 1-40 Hz, dB (magnetometers, gradiometers)")
    pairs = [(simulated, other) for other in real] + [(real[0], real[1]), (real[1], real[2])]
    for a, b in pairs:
        print(
            f"  {a.name} | {b.name}: {distance_db(a, b, True):.1f}, {distance_db(a, b, False):.1f}"
        )
    print("Amplitude, fT and fT/cm per root hertz (median sensor)")
    for hertz in (1, 2, 4, 8, 10, 15, 20, 30, 40):
        cells = []
        for data in (simulated, *real):
            values = [np.interp(hertz, *data.spectrum(mag)) for mag in (True, False)]
            cells.append(f"{data.name}: {values[0]:.0f}, {values[1]:.1f}")
        print(f"  {hertz:>2} Hz  " + " | ".join(cells))


def print_dimensions(simulated: Data, real: list[Data]) -> None:
    """Print how many components carry 90 and 99 % of the variance of gradiometers, 2-40 Hz."""
    for data in (simulated, *real[:2]):
        sos = signal.butter(4, (2.0, 40.0), "bandpass", fs=data.sfreq_hz, output="sos")
        rows_CT = signal.sosfiltfilt(sos, data.data_CT[~data.mags][:, : round(10 * data.sfreq_hz)])
        rows_CT = rows_CT / np.maximum(rows_CT.std(axis=1, keepdims=True), 1e-30)
        share = np.cumsum(np.linalg.svd(rows_CT, compute_uv=False) ** 2)
        counts = [int(np.searchsorted(share, part * share[-1])) + 1 for part in (0.5, 0.9, 0.99)]
        print(f"  components of 50, 90, 99 % of gradiometer variance, {data.name}: {counts}")


def press_field(data: Data, presses_s: np.ndarray) -> np.ndarray:
    """Return the average field around presses, 0.5-45 Hz, (sensor, time)."""
    sos = signal.butter(4, (0.5, 45.0), "bandpass", fs=data.sfreq_hz, output="sos")
    filtered_CT = signal.sosfiltfilt(sos, data.data_CT)
    first, last = (round(edge * data.sfreq_hz) for edge in EPOCH_S)
    at = np.round(presses_s * data.sfreq_hz).astype(int)
    at = at[(at + first >= 0) & (at + last < filtered_CT.shape[1])]
    mean = np.mean([filtered_CT[:, moment + first : moment + last] for moment in at], axis=0)
    low, high = (round((edge - EPOCH_S[0]) * data.sfreq_hz) for edge in BASELINE_S)
    return np.asarray(mean - mean[:, low:high].mean(axis=1, keepdims=True))


def hand_fields(data: Data, events: tuple[Event, ...]) -> dict[str, np.ndarray]:
    """Return the average field of keys of each hand."""
    keys = [event for event in select(events, "Keystroke") if event.text != " "]
    left = np.array([event.text in LEFT_HAND for event in keys])
    start = np.array([event.start for event in keys])
    return {
        "right hand": press_field(data, start[~left]),
        "left hand": press_field(data, start[left]),
    }


def real_evokeds(folder: Path) -> list[Any]:
    """Read the real evoked fields, below 40 Hz."""
    evokeds = mne.read_evokeds(folder / "test-ave.fif.gz", proj=False, verbose="ERROR")
    return [
        e.pick("meg").filter(None, 40.0, verbose="ERROR").apply_baseline((None, 0), verbose="ERROR")
        for e in evokeds
    ]


def print_fields(fields: dict[str, np.ndarray], evokeds: list[Any], sfreq: float) -> None:
    """Print peaks of simulated and real fields."""
    print("Peak of the average field (fT, fT/cm, when)")
    for name, mean in fields.items():
        peak = int(np.abs(mean[MAGS]).max(axis=0).argmax())
        when = peak / sfreq + EPOCH_S[0]
        values = np.abs(mean[MAGS]).max() * SHOWN_FT, np.abs(mean[~MAGS]).max() * SHOWN_FT_CM
        print(f"  simulated {name}: {values[0]:.0f}, {values[1]:.0f} at {when * 1e3:.0f} ms")
    for evoked in evokeds:
        mags = np.array([name.endswith("1") for name in evoked.ch_names])
        peak = int(np.abs(evoked.data[mags]).max(axis=0).argmax())
        values = (
            np.abs(evoked.data[mags]).max() * SHOWN_FT,
            np.abs(evoked.data[~mags]).max() * SHOWN_FT_CM,
        )
        what = f"real {evoked.comment} ({evoked.nave} repetitions)"
        print(f"  {what}: {values[0]:.0f}, {values[1]:.0f} at {evoked.times[peak] * 1e3:.0f} ms")


def rhythm_course(data: Data, ends_s: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Return power of a band around moments, relative to its mean, -2.5 to 2 s."""
    sos = signal.butter(4, band, "bandpass", fs=data.sfreq_hz, output="sos")
    x_mm, y_mm, z_mm = (reference_helmet().place_mm[:, axis] for axis in range(3))
    central = ~MAGS & (np.abs(x_mm) > 20) & (np.abs(y_mm) < 40) & (z_mm > 50)
    envelope_T = np.mean(
        np.abs(signal.hilbert(signal.sosfiltfilt(sos, data.data_CT[central]), axis=1)) ** 2, axis=0
    )
    first, last = round(-2.5 * data.sfreq_hz), round(2.0 * data.sfreq_hz)
    at = np.round(ends_s * data.sfreq_hz).astype(int)
    at = at[(at + first >= 0) & (at + last < len(envelope_T))]
    mean = np.mean([envelope_T[moment + first : moment + last] for moment in at], axis=0)
    smooth = signal.savgol_filter(mean, 2 * round(0.1 * data.sfreq_hz) + 1, 1)
    return np.asarray(smooth / envelope_T.mean())


def key_intervals_ms(events: tuple[Event, ...]) -> np.ndarray:
    """Return the simulated intervals between two keys of one sentence."""
    keys = sorted(select(events, "Keystroke"), key=lambda e: (e.timeline, e.start))
    return np.array(
        [
            (b.start - a.start) * 1e3
            for a, b in pairwise(keys)
            if (a.timeline, a.trial_id) == (b.timeline, b.trial_id)
        ]
    )


def real_intervals_ms(path: Path) -> dict[str, np.ndarray]:
    """Return real key intervals, as they are and as if all typists were equally fast."""
    intervals = read_intervals(path)
    _, users, _ = fit(intervals)
    alike = intervals.log_ms - users[intervals.user]
    return {"real": np.exp(intervals.log_ms), "real, one pace": np.exp(alike)}


def print_timing(distributions: dict[str, np.ndarray], slips: float) -> None:
    """Print quantiles of key intervals."""
    print(f"Key intervals, ms, quantiles {QUANTILES} %; mean and sd of the logarithm")
    for name, values in distributions.items():
        quantiles = ", ".join(f"{q:.0f}" for q in np.percentile(values, QUANTILES))
        logs = np.log(values)
        print(
            f"  {name}: {quantiles}; {logs.mean():.2f}, {logs.std():.2f} ({len(values)} intervals)"
        )
    print(f"  sentences typed otherwise than asked for: {slips:.0%}")


def draw(
    out: Path,
    simulated: Data,
    real: list[Data],
    evokeds: list[Any],
    events: tuple[Event, ...],
    real_ms: dict[str, np.ndarray],
) -> None:
    """Draw the picture and print the numbers of its panels."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(19, 8.5), layout="constrained")
    for axis, mag in ((axes[0, 0], True), (axes[1, 0], False)):
        for data, colour in zip((simulated, *real), ("C3", "k", "0.55", "C0"), strict=True):
            axis.loglog(*data.spectrum(mag), color=colour, lw=1.6, label=data.name)
        axis.set(xlim=(0.8, 60), xlabel="Hz", ylim=(3, 3000) if mag else (1.5, 100))
        axis.set_title("magnetometers, fT/√Hz" if mag else "gradiometers, fT/cm/√Hz")
    axes[0, 0].legend(fontsize=8)
    fields = hand_fields(simulated, events)
    print_fields(fields, evokeds, simulated.sfreq_hz)
    times_ms = (np.arange(fields["left hand"].shape[1]) / simulated.sfreq_hz + EPOCH_S[0]) * 1e3
    limit = max(np.abs(mean[MAGS]).max() for mean in fields.values()) * SHOWN_FT
    info = sensor_info("neuromag306", simulated.sfreq_hz, resting_place("neuromag306"))
    mag_info = mne.pick_info(info, np.flatnonzero(MAGS))
    for row, (name, mean) in enumerate(fields.items()):
        axes[row, 1].plot(times_ms, mean[MAGS].T * SHOWN_FT, lw=0.5, color="C3", alpha=0.5)
        axes[row, 1].set(
            title=f"simulated key press, {name}, fT", xlabel="ms", ylim=(-limit, limit)
        )
        axes[row, 1].axvline(0, color="k", lw=0.5)
        inset = axes[row, 1].inset_axes((0.0, 0.56, 0.38, 0.38))
        peak = int(np.abs(mean[MAGS]).max(axis=0).argmax())
        mne.viz.plot_topomap(mean[MAGS, peak], mag_info, axes=inset, show=False)
        inset.set_title(f"{times_ms[peak]:.0f} ms", fontsize=8)
    for row, number in enumerate((1, 2)):
        evoked = evokeds[number]
        mags = np.array([name.endswith("1") for name in evoked.ch_names])
        axes[row, 2].plot(evoked.times * 1e3, evoked.data[mags].T * SHOWN_FT, lw=0.5, color="k")
        axes[row, 2].set(
            title=f"real: {evoked.comment}, {evoked.nave} repetitions, fT", xlabel="ms"
        )
    draw_rhythms(axes[0, 3], simulated, events)
    own_ms = key_intervals_ms(events)
    bins = np.geomspace(20, 3000, 70)
    axes[1, 3].hist(own_ms, bins, density=True, color="C3", alpha=0.5, label="simulated")
    for (name, values), colour in zip(real_ms.items(), ("0.6", "k"), strict=False):
        axes[1, 3].hist(values, bins, density=True, histtype="step", color=colour, label=name)
    sentences = select(events, "Sentence")
    slips = float(np.mean([event.text != event.value("typed") for event in sentences]))
    print_timing({"simulated": own_ms, **real_ms}, slips)
    axes[1, 3].set(xscale="log", title="key intervals, ms")
    axes[1, 3].legend()
    figure.savefig(out, dpi=80)
    print(f"picture: {out}")


def draw_rhythms(axis: Any, data: Data, events: tuple[Event, ...]) -> None:
    """Draw power over the hand areas around the last key of a sentence."""
    ends_s = np.array([event.start + event.duration - 0.1 for event in select(events, "Sentence")])
    for name, band in (("mu, 8-13 Hz", (8.0, 13.0)), ("beta, 15-26 Hz", (15.0, 26.0))):
        course = rhythm_course(data, ends_s, band)
        times_s = np.arange(len(course)) / data.sfreq_hz - 2.5
        axis.plot(times_s, course, label=name)
        during = course[(times_s > -1.0) & (times_s < -0.2)].mean()
        after = course[(times_s > 0.6) & (times_s < 1.1)].mean()
        print(f"  {name}: power during typing {during:.2f}, after the last key {after:.2f}")
    axis.axvline(0, color="k", lw=0.5)
    axis.set(title="power over the hand areas; last key at 0", xlabel="s")
    axis.legend()


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--moment-nam", type=float)
    parser.add_argument("--out", type=Path, default=Path("simulator-realism.png"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "recordings"
        if arguments.folder is None:
            options: dict[str, Any] = {"folder": str(folder), "recordings": 1}
            options |= {"train_sentences": 80, "val_sentences": 15, "test_sentences": 5}
            if arguments.moment_nam is not None:
                options["moment_nam"] = arguments.moment_nam
            simulated_typing.make(simulated_typing.Config.model_validate(options), print)
        events = read_events(folder / "events.tsv")
        row = select(events, "Meg")[0]
        simulated = raw_data(folder / row.filepath, "simulated")
    own = tuple(e for e in events if e.timeline == row.timeline and e.start < MOST_S - 5.0)
    real = real_recordings(arguments.data / "meg_neuromag306")
    print_spectra(simulated, real)
    print_dimensions(simulated, real)
    keystrokes = arguments.data / "keystrokes_aalto" / "keystrokes.csv.gz"
    real_ms = real_intervals_ms(keystrokes) if keystrokes.is_file() else {}
    evokeds = real_evokeds(arguments.data / "meg_neuromag306")
    draw(arguments.out, simulated, real, evokeds, own, real_ms)


if __name__ == "__main__":
    main()
