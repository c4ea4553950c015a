"""One recording: order, units, bad and missing sensors, gaps, parts, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
from _neuromag_maker import SD_OF_KIND, make_raw, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurodecode.datasets._neuromag.helmet import reference_helmet
from neurodecode.datasets._neuromag.options import ReadOptions
from neurodecode.datasets._neuromag.reading import Signal, read_signal
from neurosweep.core.errors import DataError

NAMES = reference_helmet().names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a_raw.fif"


def read(path: Path, sfreq_hz: float | None = None, **options: object) -> Signal:
    return read_signal(path, ReadOptions.model_validate(options), sfreq_hz)


def refusal(path: Path, sfreq_hz: float | None = None, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read(path, sfreq_hz, **options)
    assert str(path.parent) in str(caught.value)
    return str(caught.value)


def test_values_are_those_of_the_file_in_tesla(path: Path) -> None:
    raw = make_raw(2.0)
    signal = read(save(raw, path))
    assert signal.data_CT.shape == (306, 200)
    assert signal.data_CT.dtype == np.float32
    assert np.array_equal(signal.data_CT, raw.get_data("meg").astype(np.float32))
    assert (signal.sfreq_hz, signal.segments, signal.bads) == (100.0, ((0, 200),), ())
    for kind, sd in SD_OF_KIND.items():
        rows = [k == kind for k in reference_helmet().kinds]
        assert signal.data_CT[rows].std() == pytest.approx(sd, rel=0.02)


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations(range(306)))
def test_order_in_the_file_does_not_change_the_tensor(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("order")
    plain = read(save(make_raw(0.3), folder / "plain_raw.fif"))
    shuffled = read(save(make_raw(0.3, order=order), folder / "shuffled_raw.fif"))
    assert np.array_equal(plain.data_CT, shuffled.data_CT)


def test_file_names_that_mne_would_warn_about_are_read_in_silence(tmp_path: Path) -> None:
    odd = tmp_path / "block1.fif"
    save(make_raw(0.3), tmp_path / "a_raw.fif").rename(odd)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(odd).files == (odd,)


def test_bad_sensors_are_zero_and_named_by_default(path: Path) -> None:
    raw = make_raw(1.0)
    raw.info["bads"] = ["MEG0112", "MEG2643"]
    signal = read(save(raw, path))
    assert signal.bads == ("MEG0112", "MEG2643")
    zero = [not row.any() for row in signal.data_CT]
    assert [name for name, dead in zip(NAMES, zero, strict=True) if dead] == list(signal.bads)
    assert signal.facts["bads"] == list(signal.bads)


def test_bad_sensors_are_refused_on_demand(path: Path) -> None:
    raw = make_raw(1.0)
    raw.info["bads"] = ["MEG0112"]
    text = refusal(save(raw, path), bad_channels="refuse")
    assert "1 sensors are bad or flat: MEG0112; use bad_channels = 'zero' or" in text


def dipole_pattern() -> np.ndarray:
    """Return what the 306 sensors measure of a magnetic dipole in the middle of the head."""
    helmet = reference_helmet()
    offset_m = helmet.place_mm / 1e3 - [0.0, 0.02, 0.0]
    moment = np.array([1.0, 0.5, 0.8])

    def field(places: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(places, axis=1)[:, None]
        unit = places / distance
        return (3 * unit * (unit @ moment)[:, None] - moment) / distance**3

    base_m = 0.0168
    half = helmet.along * base_m / 2
    slope = (field(offset_m + half) - field(offset_m - half)) / base_m
    is_mag = np.array([kind == "mag" for kind in helmet.kinds])
    vectors = np.where(is_mag[:, None], field(offset_m), slope)
    pattern = (vectors * helmet.normal).sum(axis=1)
    return pattern * 2e-13 / np.abs(pattern[is_mag]).max()


def test_interpolation_rebuilds_a_smooth_field(path: Path) -> None:
    raw = make_raw(1.0)
    raw._data[:306] = dipole_pattern()[:, None] * np.sin(np.arange(100) / 7)[None]
    truth = read(save(raw, path)).data_CT
    bads = ["MEG1131", "MEG1643"]
    raw.info["bads"] = bads
    rebuilt = read(save(raw, path), bad_channels="interpolate")
    assert rebuilt.bads == tuple(sorted(bads, key=NAMES.index))
    for name in bads:
        index = NAMES.index(name)
        error = np.abs(rebuilt.data_CT[index] - truth[index]).max() / np.abs(truth[index]).max()
        assert 0 < error < 0.1
    good = [name not in bads for name in NAMES]
    assert np.array_equal(rebuilt.data_CT[good], truth[good])


def test_flat_sensors_are_taken_as_bad_and_noted(path: Path) -> None:
    raw = make_raw(1.0)
    raw._data[NAMES.index("MEG0242")] = 3e-12
    signal = read(save(raw, path))
    assert signal.bads == ("MEG0242",)
    assert not signal.data_CT[NAMES.index("MEG0242")].any()
    assert signal.facts["warnings"] == ["MEG0242: flat, so taken as bad"]


def test_recording_without_any_signal_is_refused(path: Path) -> None:
    raw = make_raw(1.0)
    raw._data[:306] = 0.0
    assert "all sensors are bad, flat or missing" in refusal(save(raw, path))


def test_missing_sensors_are_refused_and_named(path: Path) -> None:
    save(make_raw(0.5, leave_out=["MEG0113", "MEG1421"]), path)
    text = refusal(path)
    assert "2 of 306 sensors are missing: MEG0113, MEG1421" in text
    assert "missing_sensors = 'zero'" in text


def test_missing_sensors_are_zero_by_option_and_the_others_stay_in_place(path: Path) -> None:
    whole = read(save(make_raw(0.5), path)).data_CT
    save(make_raw(0.5, leave_out=["MEG0113", "MEG1421"]), path)
    signal = read(path, missing_sensors="zero")
    gone = [name in ("MEG0113", "MEG1421") for name in NAMES]
    assert not signal.data_CT[gone].any()
    assert np.array_equal(signal.data_CT[~np.array(gone)], whole[~np.array(gone)])
    assert signal.bads == ("MEG0113", "MEG1421")
    assert signal.facts["missing"] == ["MEG0113", "MEG1421"]
    assert "2 of 306 sensors are missing" in signal.facts["warnings"][0]


def test_long_lists_of_sensors_are_cut(path: Path) -> None:
    save(make_raw(0.5, leave_out=NAMES[:50]), path)
    assert "MEG0122, MEG0123, MEG0121 and 44 more" in refusal(path)


def test_moved_sensors_are_refused_or_noted(path: Path) -> None:
    raw = make_raw(0.5)
    raw.info["chs"][10]["loc"][1] += 0.010
    save(raw, path)
    text = refusal(path)
    assert f"1 sensors are not where the reference helmet has them: {NAMES[10]} (10.0 mm)" in text
    assert "allowed are 2 mm" in text
    assert NAMES[10] in read(path, moved_sensors="warn").facts["warnings"][0]
    assert read(path, moved_mm=11.0).facts["warnings"] == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_samples_are_refused_with_sensor_and_time(path: Path, value: float) -> None:
    raw = make_raw(1.0)
    raw._data[NAMES.index("MEG0131"), 25] = value
    text = refusal(save(raw, path))
    assert "MEG0131 is NaN or infinite at 0.250 s (1 such samples" in text


def test_broken_samples_of_a_bad_sensor_do_not_matter(path: Path) -> None:
    raw = make_raw(1.0)
    raw._data[NAMES.index("MEG0131"), 25] = np.nan
    raw.info["bads"] = ["MEG0131"]
    assert not read(save(raw, path)).data_CT[NAMES.index("MEG0131")].any()


@pytest.mark.parametrize(
    ("factor", "kind"), [(1e15, "mag"), (1e13, "mag"), (1e-9, "mag")], ids=["fT", "fT/cm", "tiny"]
)
def test_values_in_another_unit_are_refused(path: Path, factor: float, kind: str) -> None:
    raw = make_raw(1.0)
    raw._data[:306] *= factor
    text = refusal(save(raw, path))
    assert f"the median standard deviation of its {kind} sensors is {2e-13 * factor:.2g} T" in text
    assert "Convert them to T and T/m" in text


def test_wrong_sampling_rate_is_refused(path: Path) -> None:
    save(make_raw(0.5), path)
    assert read(path, 100.05).sfreq_hz == 100.0
    assert "is sampled at 100 Hz, 1000 Hz was expected" in refusal(path, 1000.0)


def test_long_recordings_are_read_in_chunks_without_seams(path: Path) -> None:
    raw = make_raw(65.0, 20.0)
    assert np.array_equal(read(save(raw, path)).data_CT, raw.get_data("meg").astype(np.float32))


def test_gap_of_the_acquisition_parts_the_segments(path: Path) -> None:
    raw = make_raw(3.0)
    raw.set_annotations(mne.Annotations(1.0, 0.5, "BAD_ACQ_SKIP"))
    save(raw, path)
    signal = read(path)
    assert signal.segments == ((0, 100), (150, 300))
    assert not signal.data_CT[:, 100:150].any()
    assert signal.data_CT[:, 150:].any(axis=0).all()


@pytest.mark.parametrize("dated", [False, True])
def test_gap_is_found_after_a_first_sample_that_is_not_zero(path: Path, dated: bool) -> None:
    raw = make_raw(6.0)
    if dated:
        raw.set_meas_date(1_500_000_000)
    raw.crop(2.0, None)
    onset = 1.0 + (2.0 if dated else 0.0)
    raw.set_annotations(
        mne.Annotations(onset, 0.5, "BAD_ACQ_SKIP", orig_time=raw.info["meas_date"])
    )
    assert read(save(raw, path)).segments[0] == (0, 100)


def test_split_recording_is_read_whole(path: Path) -> None:
    raw = make_raw(12.0)
    save(raw, path, split_size="2MB", buffer_size_sec=1.0)
    signal = read(path)
    assert [file.name for file in signal.files] == ["a_raw.fif", "a_raw-1.fif", "a_raw-2.fif"]
    assert np.array_equal(signal.data_CT, raw.get_data("meg").astype(np.float32))


def test_parts_of_a_split_recording_are_refused_alone_absent_or_cut(path: Path) -> None:
    save(make_raw(12.0), path, split_size="2MB", buffer_size_sec=1.0)
    second = path.with_name("a_raw-1.fif")
    assert "continues 'a_raw.fif', which reads it by itself" in refusal(second)
    content = second.read_bytes()
    second.write_bytes(content[: len(content) // 2])
    assert f"{second}: was cut" in refusal(path)
    second.unlink()
    assert "its continuation 'a_raw-1.fif' is not beside it" in refusal(path)


def test_fif_files_without_raw_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a-cov.fif"
    mne.make_ad_hoc_cov(make_raw(0.5).info, verbose="ERROR").save(path, verbose="ERROR")
    assert "is a FIF file without continuous data" in refusal(path)


def test_damage_inside_a_whole_chain_of_tags_is_one_error(path: Path) -> None:
    """Every tag is there, but the number of channels says something else."""
    content = bytearray(save(make_raw(0.5), path).read_bytes())
    at = content.find((200).to_bytes(4, "big") + (3).to_bytes(4, "big") + (4).to_bytes(4, "big"))
    content[at + 16 : at + 20] = (99).to_bytes(4, "big")
    path.write_bytes(content)
    text = refusal(path)
    assert "copy it again" in text
    assert "damaged" in text
