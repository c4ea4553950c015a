"""Files are whole or absent; what others wrote is read with suspicion."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core import files
from neurosweep.core.errors import DataError
from neurosweep.core.fingerprint import fingerprint


def test_atomic_write_leaves_old_content_when_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.json"
    files.atomic_write_json(target, {"a": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.atomic_write_json(target, {"a": 2})
    assert files.read_json(target) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_exactly_one_of_racing_writers_creates(tmp_path: Path) -> None:
    target = tmp_path / "claim"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: files.create_exclusive(target, bytes([i])), range(32)))
    assert won.count(True) == 1
    assert target.read_bytes() == bytes([won.index(True)])
    assert [p.name for p in tmp_path.iterdir()] == ["claim"]


HOSTILE = ['{"a": NaN}', "[Infinity]", "{", "", "[" * 100_000, "[1e999]", r'"\ud800"']


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_not_strict_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="is not valid JSON"):
        files.read_json(path)


def test_links_pipes_folders_and_large_files_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1", encoding="utf-8")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "absent"):
        with pytest.raises(DataError):
            files.read_bytes_capped(tmp_path / name)
    with pytest.raises(DataError, match="larger than the 0 bytes"):
        files.read_bytes_capped(secret, max_bytes=0)


def test_jsonl_names_the_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": }\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 3"):
        list(files.read_jsonl(path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)


@given(st.dictionaries(st.text("abc"), json_values))
def test_fingerprint_ignores_order_only(data: dict[str, object]) -> None:
    assert fingerprint(dict(reversed(data.items()))) == fingerprint(data)
    assert fingerprint({**data, "new": 1}) != fingerprint(data)


@given(st.text(st.characters(codec=None)))
def test_what_is_read_can_be_written_again(text: str) -> None:
    encoded = json.dumps(text)
    try:
        value = files.loads_strict(encoded)
    except ValueError:
        with pytest.raises(UnicodeEncodeError):
            text.encode("utf-8")
    else:
        assert files.canonical_json(value).encode("utf-8")


def test_blank_lines_count_against_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n" * 50, encoding="utf-8")
    with pytest.raises(DataError, match="more than the 10 lines"):
        list(files.read_jsonl(path, max_lines=10))
