"""FIF files that are cut, damaged, of another kind or split are known before MNE sees them."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import pytest
from _neuromag_maker import make_raw, save
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.datasets._neuromag.options import ReadOptions
from neurodecode.datasets._neuromag.reading import read_signal
from neurodecode.datasets._neuromag.tags import inspect_fif
from neurosweep.core.errors import DataError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make_raw(0.5), tmp_path_factory.mktemp("fif") / "a_raw.fif")


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        inspect_fif(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_whole_file_is_summarised(whole: Path) -> None:
    summary = inspect_fif(whole)
    assert (summary.raw, summary.maxshield) == (True, False)
    assert (summary.next_file, summary.previous_file) == (None, None)
    assert summary.num_buffers >= 1


def test_gzipped_file_is_summarised_alike(whole: Path, tmp_path: Path) -> None:
    packed = tmp_path / "a_raw.fif.gz"
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    assert inspect_fif(packed) == inspect_fif(whole)


@settings(deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_file_cut_anywhere_is_refused(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    content = whole.read_bytes()
    cut = tmp_path_factory.mktemp("cut") / "a_raw.fif"
    cut.write_bytes(content[: int(share * len(content))])
    assert "copy it again" in refusal(cut)


@pytest.mark.parametrize("missing", [1, 15, 16, 17, 4000])
def test_file_that_lacks_its_last_bytes_is_refused(
    whole: Path, tmp_path: Path, missing: int
) -> None:
    cut = tmp_path / "a_raw.fif"
    cut.write_bytes(whole.read_bytes()[:-missing])
    assert "was cut" in refusal(cut)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_gzipped_file_cut_anywhere_is_refused(whole: Path, tmp_path: Path, kept: float) -> None:
    packed = gzip.compress(whole.read_bytes())
    cut = tmp_path / "a_raw.fif.gz"
    cut.write_bytes(packed[: int(kept * len(packed))])
    assert "gzip stream is damaged or was cut" in refusal(cut)


def test_plain_file_named_gz_is_refused(whole: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "a_raw.fif.gz"
    wrong.write_bytes(whole.read_bytes())
    assert "gzip stream is damaged" in refusal(wrong)


@pytest.mark.parametrize(
    "content", [b"MATLAB 5.0 MAT-file, and so on", b"\x00" * 64, b"type\tstart\n", b"\x89HDF"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a_raw.fif"
    path.write_bytes(content)
    assert "is not a FIF file" in refusal(path)


def test_empty_absent_and_folder_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "a_raw.fif"
    empty.touch()
    assert "is empty (0 bytes)" in refusal(empty)
    assert "No such file" in refusal(tmp_path / "b_raw.fif")
    assert "is a folder" in refusal(tmp_path)


def test_hole_in_the_middle_is_refused(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[2000:12000] = b"\xff" * 10000
    path = tmp_path / "a_raw.fif"
    path.write_bytes(content)
    text = refusal(path)
    assert "is damaged" in text or "was cut" in text


def test_loop_of_tags_ends(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[36 + 12 : 36 + 16] = (20).to_bytes(4, "big")
    path = tmp_path / "a_raw.fif"
    path.write_bytes(content)
    assert "tag 1 at byte 36 is damaged" in refusal(path)


def test_split_recording_names_its_neighbours(tmp_path: Path) -> None:
    first = save(make_raw(12.0), tmp_path / "a_raw.fif", split_size="2MB", buffer_size_sec=1.0)
    second = tmp_path / "a_raw-1.fif"
    assert inspect_fif(first).next_file == second.name
    assert inspect_fif(second).previous_file == first.name


def test_next_tag_beyond_the_end_of_the_file_is_damage(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[36 + 12 : 36 + 16] = (len(content) + 1000).to_bytes(4, "big")
    path = tmp_path / "a_raw.fif"
    path.write_bytes(content)
    assert "tag 1 at byte 36 is damaged" in refusal(path)


def test_type_that_does_not_exist_is_damage(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[36 + 4 : 36 + 8] = (56).to_bytes(4, "big")
    path = tmp_path / "a_raw.fif"
    path.write_bytes(content)
    assert "is damaged (data type 56 does not exist)" in refusal(path)


@settings(deadline=None, max_examples=60)
@given(where=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_wrong_byte_in_the_header_never_escapes_as_another_error(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, where: int, value: int
) -> None:
    content = bytearray(whole.read_bytes())
    content[where] = value
    path = tmp_path_factory.mktemp("flip") / "a_raw.fif"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert read_signal(path, ReadOptions()).data_CT.shape[0] == 306
