from __future__ import annotations

import numpy as np
import pytest
from _dataset_maker import SHARED, write_eeglab
from scipy.io import loadmat, savemat

from neurodecode.checks import check_recording
from neurodecode.datasets import _eeglab_header, eeglab_buttons
from neurodecode.datasets._eeglab_header import facts
from neurodecode.datasets.eeglab_buttons import Config
from neurosweep.core.entry import call_entry
from neurosweep.core.errors import DataError

REAL = SHARED / "eeglab_sample"


@pytest.fixture
def folder(tmp_path):
    return write_eeglab(tmp_path)


def test_events_and_samples_are_read_in_seconds_and_volts(folder):
    (recording,) = eeglab_buttons.read(Config(path=str(folder)))
    samples = np.fromfile(folder / "eeglab_data.fdt", "<f4").reshape(-1, 5)
    assert recording.channels == ("Fz", "Cz", "Pz")
    assert np.allclose(recording.data_CT, samples[:, :3].T * 1e-6)
    presses = [event.start for event in recording.events if event.text == "rt"]
    assert np.allclose(presses, np.linspace(2.0, 58.0, 20))
    assert recording.positions["Fz"][1] > 0 > recording.positions["Pz"][1]


def test_background_keeps_away_from_presses_and_from_itself(folder):
    config = Config(path=str(folder))
    windows = eeglab_buttons.windows(config, eeglab_buttons.read(config))
    onsets = {
        label: [i.onsets_s[0] for i in windows.items if i.labels == (label,)] for label in (0, 1)
    }
    assert len(onsets[1]) == 20
    assert 10 <= len(onsets[0]) <= 40
    spans = sorted((t - 0.3, t + 0.3, 0.1) for t in onsets[1])
    for onset in onsets[0]:
        assert all(onset + 0.3 <= a - g + 1e-9 or onset - 0.3 >= b + g - 1e-9 for a, b, g in spans)
        assert 0.3 <= onset <= 60.0 - 0.3
    assert np.diff(sorted(onsets[0])).min() > 0.6 - 1e-9
    order = [item.onsets_s[0] for item in windows.items]
    assert order == sorted(order)


def test_number_of_background_windows_between_presses_varies(folder):
    config = Config(path=str(folder))
    windows = eeglab_buttons.windows(config, eeglab_buttons.read(config))
    runs = "".join(item.reference for item in windows.items).split("p")
    assert len({len(run) for run in runs}) > 1


def test_cut_samples_are_refused(folder):
    samples = folder / "eeglab_data.fdt"
    samples.write_bytes(samples.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"153200 bytes, eeglab_data\.set promises 153600"):
        eeglab_buttons.read(Config(path=str(folder)))


def test_missing_and_wrong_files_are_errors(folder, tmp_path):
    with pytest.raises(DataError, match="is not there"):
        eeglab_buttons.sources(Config(path=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="no channel XY; it has Fz, Cz, Pz, EOG1, EOG2"):
        eeglab_buttons.read(Config(path=str(folder), drop="XY"))
    header = folder / "eeglab_data.set"
    savemat(header, {"other": 1})
    with pytest.raises(DataError, match="no EEG structure"):
        eeglab_buttons.read(Config(path=str(folder)))
    header.write_bytes(b"no header" * 40)
    with pytest.raises(DataError, match="cannot be read as an EEGLAB header"):
        eeglab_buttons.read(Config(path=str(folder)))


def test_recording_without_presses_is_an_error(folder):
    config = Config(path=str(folder))
    (recording,) = eeglab_buttons.read(config)
    silent = type(recording)(**{**recording.__dict__, "events": ()})
    with pytest.raises(DataError, match="0 presses"):
        eeglab_buttons.windows(config, (silent,))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the recording is not in {REAL}")
def test_real_recording():
    config = Config(path=str(REAL))
    recordings = eeglab_buttons.read(config)
    check_recording(recordings[0])
    windows = eeglab_buttons.windows(config, recordings)
    assert recordings[0].data_CT.shape == (30, 30504)
    assert sum(item.labels[0] for item in windows.items) == 74


def rewrite(folder, change):
    """Write the header again with one field changed."""
    header = folder / "eeglab_data.set"
    eeg = loadmat(header, squeeze_me=True, struct_as_record=False)["EEG"]
    change(eeg)
    savemat(header, {"EEG": {name: getattr(eeg, name) for name in eeg._fieldnames}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda eeg: setattr(eeg, "srate", 0), "srate is 0, must be above 0"),
        (lambda eeg: setattr(eeg, "srate", "fast"), "srate is 'fast', one finite number"),
        (lambda eeg: setattr(eeg, "srate", np.array([])), "srate is empty, one finite number"),
        (lambda eeg: setattr(eeg, "nbchan", 4), "names 5 channels, but has 4"),
        (lambda eeg: setattr(eeg, "pnts", 7.5), "pnts is 7.5, a whole number"),
        (
            lambda eeg: setattr(eeg.event[3], "latency", np.array([])),
            r"event\(4\)\.latency is empty",
        ),
        (lambda eeg: setattr(eeg.event[3], "latency", np.nan), r"event\(4\)\.latency is nan"),
        (lambda eeg: setattr(eeg.chanlocs[1], "labels", np.array([])), "labels is empty, a name"),
    ],
)
def test_impossible_values_are_named(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(DataError, match=message):
        facts({"path": str(folder / "eeglab_data.set")})


@pytest.mark.parametrize("size", [0, 64, 128, 200])
def test_cut_header_is_one_clear_error(folder, size):
    header = folder / "eeglab_data.set"
    header.write_bytes(header.read_bytes()[:size])
    with pytest.raises(DataError, match=r"get a whole copy|no EEG structure"):
        facts({"path": str(header)})


def test_reader_that_dies_is_one_clear_error(folder, monkeypatch, tmp_path):
    def die(entry, payload, **options):
        assert (entry, list(payload)) == ("neurodecode.datasets._eeglab_header:facts", ["path"])
        code = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
        (tmp_path / "dying_reader.py").write_text(code)
        return call_entry("dying_reader:facts", payload, **options, code_root=tmp_path)

    monkeypatch.setattr(_eeglab_header, "call_entry", die)
    with pytest.raises(DataError, match=r"eeglab_data\.set: cannot .*exit code -11.*damaged"):
        eeglab_buttons.read(Config(path=str(folder)))


def test_dropping_every_channel_is_an_error(folder):
    with pytest.raises(DataError, match=r"data\.drop: leaves none of the 5 channels"):
        eeglab_buttons.read(Config(path=str(folder), drop="Fz,Cz,Pz,EOG1,EOG2"))
