from __future__ import annotations

import shutil

import numpy as np
import pytest
from _dataset_maker import SHARED, write_typing

from neurodecode.checks import check_channels_distinct, check_recording
from neurodecode.datasets import finger_typing
from neurodecode.datasets.finger_typing import Config
from neurosweep.core.errors import DataError

REAL = SHARED / "finger_typing_eeg"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the recording is not in {REAL}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_typing(tmp_path_factory.mktemp("typing"))


def test_test_presses_are_sealed_and_training_presses_a_pool(folder):
    config = Config(path=str(folder))
    recordings = finger_typing.read(config)
    windows = finger_typing.windows(config, recordings)
    assert [r.name for r in recordings] == ["s01/train", "s01/test"]
    assert [item.part for item in windows.items] == ["pool"] * 40 + ["test"] * 10
    assert windows.epoched
    for item in windows.items:
        assert item.reference == windows.symbols[item.labels[0]]


def test_samples_are_volts_of_the_right_epoch_and_channel(folder):
    recording = finger_typing.read(Config(path=str(folder)))[0]
    with np.load(folder / "fm16_unscrambled.npz") as file:
        epoch, label = file["Xtr"][7], str(file["ytr"][7])
    start, stop = recording.segments[7]
    assert np.allclose(recording.data_CT[:, start:stop], epoch * 1e-6, rtol=1e-6)
    assert recording.events[7].text == {"left": "L", "right": "R"}[label]
    assert recording.channels[13] == "C3"
    assert set(recording.positions) == set(recording.channels)
    assert recording.positions["C3"][0] < 0 < recording.positions["F4"][0]


def test_original_has_28_channels_and_no_test_part(folder):
    config = Config(path=str(folder), source="original")
    (recording,) = finger_typing.read(config)
    windows = finger_typing.windows(config, (recording,))
    assert recording.data_CT.shape == (28, 5000)
    assert {item.part for item in windows.items} == {"pool"}
    labels = np.loadtxt(folder / "labels_data_set_iv.txt")
    assert [item.labels[0] for item in windows.items] == labels.tolist()


def test_scrambled_copy_is_refused_with_reason_and_remedy(tmp_path):
    path = tmp_path / "FingerMovements_TRAIN.ts"
    path.write_text("@data\n")
    for given in (path, tmp_path):
        with pytest.raises(DataError, match="scrambled") as caught:
            finger_typing.sources(Config(path=str(given)))
        assert "fm16_unscrambled.npz" in str(caught.value)
        assert "28d" in str(caught.value)


def test_missing_and_damaged_files_are_errors(folder, tmp_path):
    with pytest.raises(DataError, match=r"has no fm16_unscrambled\.npz"):
        finger_typing.sources(Config(path=str(tmp_path)))
    cut = tmp_path / "fm16_unscrambled.npz"
    cut.write_bytes((folder / cut.name).read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be read"):
        finger_typing.read(Config(path=str(tmp_path)))
    np.savez(cut, Xtr=np.zeros((3, 28, 50)), ytr=["left"] * 3, Xte=1, yte=1)
    with pytest.raises(DataError, match=r"shape \(3, 28, 50\)"):
        finger_typing.read(Config(path=str(tmp_path)))
    np.savez(cut, Xtr=np.zeros((3, 16, 50)), ytr=["up"] * 3, Xte=1, yte=1)
    with pytest.raises(DataError, match="'up'"):
        finger_typing.read(Config(path=str(tmp_path)))


def test_original_with_wrong_shape_or_labels_is_an_error(folder, tmp_path):
    shutil.copy(folder / "sp1s_aa_test.txt", tmp_path)
    config = Config(path=str(tmp_path), source="original")
    labels = tmp_path / "labels_data_set_iv.txt"
    labels.write_text("1\n0\n")
    with pytest.raises(DataError, match=r"\(2,\)"):
        finger_typing.read(config)
    labels.write_text("7\n" * 100)
    with pytest.raises(DataError, match="other values than 0"):
        finger_typing.read(config)
    labels.write_text("left\n" * 100)
    with pytest.raises(DataError, match="cannot be read"):
        finger_typing.read(config)


@needs_real
def test_real_recording_passes_every_check():
    for source, shape in (("rebuilt", (16, 15800)), ("original", (28, 5000))):
        recording = finger_typing.read(Config(path=str(REAL), source=source))[0]
        assert recording.data_CT.shape == shape
        check_recording(recording)


@needs_real
def test_scrambled_channels_are_recognised_by_what_they_share():
    row = (REAL / "FingerMovements_TEST.ts").read_text().split("@data")[1].split("\n")[1]
    dimensions = [list(map(float, text.split(","))) for text in row.split(":")[:-1]]
    recording = finger_typing.read(Config(path=str(REAL), source="original"))[0]
    scrambled = np.array(dimensions, dtype=np.float32)
    broken = type(recording)(
        **{**recording.__dict__, "data_CT": scrambled, "segments": ((0, 50),), "events": ()}
    )
    with pytest.raises(DataError, match="27 pairs, for example F3 and F1"):
        check_channels_distinct(broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Xtr": np.ones((3, 16, 50)) * 1j}, "Xtr holds complex128 values, real numbers"),
        ({"Xtr": np.ones((3, 16, 50)).astype(str)}, "Xtr holds <U32 values, real numbers"),
        ({"ytr": [["left"] * 3] * 2}, r"ytr \(2, 3\)"),
        ({"ytr": "left"}, r"ytr \(\)"),
        ({"Xtr": np.ones((0, 16, 50)), "ytr": []}, "holds no press"),
    ],
)
def test_arrays_of_other_types_are_errors(tmp_path, changes, message):
    arrays = {"Xtr": np.ones((3, 16, 50)), "ytr": ["left"] * 3}
    arrays |= {"Xte": arrays["Xtr"], "yte": arrays["ytr"]}
    np.savez(tmp_path / "fm16_unscrambled.npz", **{**arrays, **changes})
    with pytest.raises(DataError, match=message):
        finger_typing.read(Config(path=str(tmp_path)))


def test_values_that_overflow_are_refused_without_a_warning(folder, tmp_path):
    with np.load(folder / "fm16_unscrambled.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "fm16_unscrambled.npz", **{**arrays, "Xtr": arrays["Xtr"] * 1e300})
    with pytest.raises(DataError, match="samples are NaN or infinite"):
        check_recording(finger_typing.read(Config(path=str(tmp_path)))[0])


def test_flipped_and_empty_files_are_errors_without_a_warning(folder, tmp_path):
    path = tmp_path / "fm16_unscrambled.npz"
    with np.load(folder / path.name) as file:
        np.savez_compressed(path, **dict(file))
    damaged = bytearray(path.read_bytes())
    damaged[200:240] = bytes(range(40))
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="cannot be read"):
        finger_typing.read(Config(path=str(tmp_path)))
    (tmp_path / "sp1s_aa_test.txt").write_text("")
    shutil.copy(folder / "labels_data_set_iv.txt", tmp_path)
    with pytest.raises(DataError, match=r"sp1s_aa_test\.txt has shape \(0,\)"):
        finger_typing.read(Config(path=str(tmp_path), source="original"))
