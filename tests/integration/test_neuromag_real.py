"""Real recordings of two generations of the system, from three sites."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.io
from _neuromag_maker import REAL, save, table

from neurodecode.datasets import neuromag_fif
from neurodecode.datasets._neuromag.helmet import canonical_name, reference_helmet
from neurodecode.datasets._neuromag.options import ReadOptions
from neurodecode.datasets._neuromag.reading import read_signal
from neurodecode.datasets._neuromag.tags import inspect_fif
from neurosweep.core.errors import DataError

pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the recordings of shared/data/meg_neuromag306 are not here"
)

SAMPLE = REAL / "sample_audvis_trunc_raw_sss.fif"
TRIUX = REAL / "triux_bmlhus_erm_raw_sss.fif"
SHIELDED = REAL / "test_move_anon_erm_raw.fif"
SLOW = REAL / "141027_cropped_90Hz_raw.fif"
ALL = [SAMPLE, TRIUX, SHIELDED, SLOW]
ACCEPT = ReadOptions(allow_maxshield=True)
KINDS = np.array(reference_helmet().kinds)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_values_are_those_of_mne_by_name_in_canonical_order(path: Path) -> None:
    signal = read_signal(path, ACCEPT)
    raw = mne.io.read_raw_fif(path, allow_maxshield="yes", preload=True, verbose="ERROR")
    names = {canonical_name(name): name for name in raw.ch_names}
    for index, name in enumerate(reference_helmet().names):
        assert np.array_equal(
            signal.data_CT[index], raw.get_data(names[name])[0].astype(np.float32)
        )


def test_triux_file_has_another_order_that_is_put_right() -> None:
    raw = mne.io.read_raw_fif(TRIUX, verbose="ERROR")
    names = [name for name in raw.ch_names if name.startswith("MEG")]
    assert names[:4] == ["MEG0111", "MEG0112", "MEG0113", "MEG0121"]
    signal = read_signal(TRIUX, ACCEPT)
    assert np.array_equal(signal.data_CT[2], raw.get_data("MEG0111")[0].astype(np.float32))


@pytest.mark.parametrize(
    ("path", "rate", "seconds", "sss"),
    [
        (SAMPLE, 300.3075, 1.0, True),
        (TRIUX, 1000.0, 1.0, True),
        (SHIELDED, 1200.0, 1.0, False),
        (SLOW, 90.0, 10.0, False),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_rates_lengths_and_flags(path: Path, rate: float, seconds: float, sss: bool) -> None:
    signal = read_signal(path, ACCEPT)
    assert signal.sfreq_hz == pytest.approx(rate, abs=1e-3)
    assert signal.data_CT.shape[1] / signal.sfreq_hz == pytest.approx(seconds, abs=0.01)
    assert signal.facts["sss"] is sss
    assert signal.facts["maxshield"] is (path == SHIELDED)
    assert signal.bads == ()
    assert signal.facts["warnings"] == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_sizes_are_those_of_fields_in_tesla_and_gradients_in_tesla_per_metre(path: Path) -> None:
    sd = read_signal(path, ACCEPT).data_CT.std(axis=1)
    assert 1e-13 < np.median(sd[KINDS == "mag"]) < 1e-11
    assert 1e-12 < np.median(sd[KINDS == "grad"]) < 3e-11


def test_noise_covariance_has_the_same_units_and_order_of_size() -> None:
    """In the baseline magnetometers have about 138 fT, gradiometers 38 fT/cm."""
    cov = mne.read_cov(REAL / "sample_audvis-cov.fif", verbose="ERROR")
    index = {canonical_name(name): i for i, name in enumerate(cov.ch_names)}
    sd = np.sqrt(np.diag(cov.data))[[index[name] for name in reference_helmet().names]]
    assert np.median(sd[KINDS == "mag"]) == pytest.approx(138e-15, rel=0.05)
    assert np.median(sd[KINDS == "grad"]) == pytest.approx(38e-13, rel=0.05)
    signal = read_signal(SAMPLE, ACCEPT)
    for kind in ("mag", "grad"):
        ratio = (signal.data_CT.std(axis=1) / sd)[kind == KINDS]
        assert 0.5 < np.median(ratio) < 3


def test_maxshield_is_accepted_only_by_option() -> None:
    assert inspect_fif(SHIELDED).maxshield
    with pytest.raises(DataError) as caught:
        read_signal(SHIELDED, ReadOptions())
    assert f"{SHIELDED}: was taken with MaxShield" in str(caught.value)
    assert "allow_maxshield = true" in str(caught.value)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.999, 0.999999])
def test_file_cut_anywhere_is_one_clear_error(tmp_path: Path, path: Path, share: float) -> None:
    cut = tmp_path / path.name
    content = path.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError) as caught:
        read_signal(cut, ACCEPT)
    assert str(cut) in str(caught.value)
    assert "copy it again" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("neuromag306_ft_raw_v7.mat", "is not a FIF file (it starts with the bytes 4d 41 54 4c"),
        ("sample_audvis-cov.fif", "is a FIF file without continuous data"),
        ("test-ave.fif.gz", "is a FIF file without continuous data"),
        ("SOURCE.txt", "is not a FIF file"),
    ],
)
def test_files_of_another_kind_are_refused(name: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_signal(REAL / name, ACCEPT)
    assert problem in str(caught.value)


def test_bad_sensors_of_real_fields_are_rebuilt_from_their_neighbours(tmp_path: Path) -> None:
    raw = mne.io.read_raw_fif(SAMPLE, preload=True, verbose="ERROR")
    raw.info["bads"] = ["MEG 1132", "MEG 2621", "EEG 001"]
    path = save(raw, tmp_path / "bad_raw.fif")
    truth = read_signal(SAMPLE, ACCEPT).data_CT
    zeroed = read_signal(path, ReadOptions())
    rebuilt = read_signal(path, ReadOptions(bad_channels="interpolate"))
    assert zeroed.bads == rebuilt.bads == ("MEG1132", "MEG2621")
    for name in zeroed.bads:
        index = reference_helmet().names.index(name)
        assert not zeroed.data_CT[index].any()
        assert np.corrcoef(rebuilt.data_CT[index], truth[index])[0, 1] > 0.95


def test_sensors_of_all_recordings_are_where_the_helmet_has_them() -> None:
    for path in ALL:
        assert (
            read_signal(path, ACCEPT.model_copy(update={"moved_mm": 0.1})).facts["warnings"] == []
        )


def test_head_in_place_of_the_device_is_a_move(tmp_path: Path) -> None:
    """Sensor places in head coordinates, the commonest mistake of conversions, are refused."""
    raw = mne.io.read_raw_fif(SAMPLE, preload=True, verbose="ERROR")
    to_head = raw.info["dev_head_t"]["trans"]
    for channel in raw.info["chs"]:
        if channel["ch_name"].startswith("MEG"):
            channel["loc"][:3] = to_head[:3, :3] @ channel["loc"][:3] + to_head[:3, 3]
    path = save(raw, tmp_path / "head_raw.fif")
    with pytest.raises(DataError, match=r"306 sensors are not where the reference helmet has"):
        read_signal(path, ReadOptions())
    notes = read_signal(path, ReadOptions(moved_sensors="warn")).facts["warnings"]
    assert len(notes) == 1


def test_recordings_with_and_without_sss_do_not_mix(tmp_path: Path) -> None:
    keys = [(0.3, "a"), (0.5, "b"), (0.6, "a"), (0.7, "b")]
    path = table(tmp_path / "events.tsv", {"clean": TRIUX, "raw": SLOW}, keys)
    config = neuromag_fif.Config(events=str(path), window_s=(-0.2, 0.2))
    with pytest.raises(DataError) as caught:
        neuromag_fif.read(config)
    assert "1 recordings are cleaned by SSS (first S01/clean) and 1 are not" in str(caught.value)
    mixed = neuromag_fif.read(config.model_copy(update={"allow_mixed_sss": True}))
    assert [recording.meta["sss"] for recording in mixed] == [True, False]


def test_recording_that_lacks_three_sensors_is_refused_or_filled(tmp_path: Path) -> None:
    """The FieldTrip copy of a recording has 303 of the 306 sensors."""
    raw = mne.io.read_raw_fif(SAMPLE, verbose="ERROR")
    path = REAL / "neuromag306_ft_raw_v7.mat"
    data = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["data"]
    names = [str(label) for label in data.label]
    info = raw.copy().pick(names).info
    saved = save(mne.io.RawArray(data.trial, info, verbose="ERROR"), tmp_path / "five_raw.fif")
    with pytest.raises(DataError, match=r"3 of 306 sensors are missing: MEG0143, MEG0233, MEG0321"):
        read_signal(saved, ReadOptions())
    signal = read_signal(saved, ReadOptions(missing_sensors="zero"), 300.31)
    assert signal.data_CT.shape == (306, 1503)
    assert signal.bads == ("MEG0143", "MEG0233", "MEG0321")
    row = {canonical_name(name): i for i, name in enumerate(names)}
    for index, name in enumerate(reference_helmet().names):
        expected = data.trial[row[name]].astype(np.float32) if name in row else np.zeros(1503)
        assert np.array_equal(signal.data_CT[index], expected)
