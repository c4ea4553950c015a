"""Walk the tags of a FIF file before anything interprets them: is it whole, what is in it.

A FIF file is a chain of tags: a header of four big-endian 32-bit integers (kind, type, size in
bytes, next) and then the content. ``next`` is 0 when the next tag follows at once, -1 on the last
tag, else the position of the next tag. A file that was cut ends before its last tag does.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from neurodecode.datasets._neuromag.matrices import MATRIX, content_problem
from neurosweep.core.errors import DataError

_HEADER = struct.Struct(">iIii")
_FILE_ID, _BLOCK_START, _REF_ROLE, _REF_FILE = 100, 104, 115, 118
_DATA_BUFFER = 300
_RAW_BLOCKS = (102, 112)
_MAXSHIELD_BLOCK = 119
_NEXT_FILE, _PREVIOUS_FILE = 2, 1
_SMALL = 4096
_AGAIN = "copy it again from its source and compare the sizes"


@dataclass(frozen=True)
class FifSummary:
    """Say what a whole FIF file holds.

    Attributes
    ----------
    raw
        Whether it holds continuous data.
    maxshield
        Whether that data was taken with MaxShield (internal active shielding).
    next_file
        Name of the continuation of a split recording, None when there is none.
    previous_file
        Name of the file that this one continues, None when it is not a continuation.
    num_buffers
        Data buffers in the file.
    """

    raw: bool
    maxshield: bool
    next_file: str | None
    previous_file: str | None
    num_buffers: int


def inspect_fif(path: Path) -> FifSummary:
    """Return what a FIF file holds after checking that every tag of it is there.

    Parameters
    ----------
    path
        Plain or gzipped FIF file.

    Raises
    ------
    DataError
        When the file is absent, is not FIF, was cut, or its chain of tags is damaged.
    """
    size = _size_of(path)
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                return _summarise(path, cast(BinaryIO, stream), None)
        with path.open("rb") as file:
            return _summarise(path, file, size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{path}: the gzip stream is damaged or was cut ({error}); {_AGAIN}"
        raise DataError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}); give the path of a FIF file"
        raise DataError(msg) from error


def _size_of(path: Path) -> int:
    if path.is_dir():
        msg = f"{path}: is a folder; give the path of a FIF file in it"
        raise DataError(msg)
    try:
        return path.stat().st_size
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give the path of a FIF file"
        raise DataError(msg) from error


def _summarise(path: Path, file: BinaryIO, size: int | None) -> FifSummary:
    blocks: set[int] = set()
    references: dict[int, str] = {}
    role = num_buffers = 0
    for kind, content in _tags(path, file, size):
        if kind == _BLOCK_START and len(content) == 4:
            blocks.add(int.from_bytes(content, "big", signed=True))
        elif kind == _REF_ROLE and len(content) == 4:
            role = int.from_bytes(content, "big", signed=True)
        elif kind == _REF_FILE:
            references[role] = content.decode("latin-1").replace("\\", "/").rsplit("/", 1)[-1]
        elif kind == _DATA_BUFFER:
            num_buffers += 1
    maxshield = _MAXSHIELD_BLOCK in blocks
    return FifSummary(
        raw=maxshield or any(block in blocks for block in _RAW_BLOCKS),
        maxshield=maxshield,
        next_file=references.get(_NEXT_FILE) or None,
        previous_file=references.get(_PREVIOUS_FILE) or None,
        num_buffers=num_buffers,
    )


def _tags(path: Path, file: BinaryIO, size: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of every tag; the content of a large plain tag is passed over."""
    position = count = 0
    while True:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size and count > 0:
            msg = f"{path}: was cut: it ends at byte {position + len(header)}"
            raise DataError(f"{msg}, after {count} tags and before the end mark; {_AGAIN}")
        if count == 0:
            _check_first(path, header)
        kind, data_type, length, following = _HEADER.unpack(header)
        start = position + _HEADER.size
        if not _chains(start, length, following, size):
            msg = f"{path}: tag {count} at byte {position} is damaged (size {length}, next"
            raise DataError(f"{msg} {following}); {_AGAIN}")
        content = _content(file, length, size, start, whole=data_type >= MATRIX)
        if content is None:
            found = f" and the file {size}" if size is not None else ""
            msg = f"{path}: was cut: tag {count} at byte {position} needs {start + length} bytes"
            raise DataError(f"{msg}{found}; {_AGAIN}")
        if problem := content_problem(data_type, content):
            msg = f"{path}: tag {count} at byte {position} is damaged ({problem}); {_AGAIN}"
            raise DataError(msg)
        yield kind, content
        if following == -1:
            return
        position = start + length
        if following > 0:
            file.seek(following)
            position = following
        count += 1


def _chains(start: int, length: int, following: int, size: int | None) -> bool:
    """Return whether a tag has a size, and a next tag that lies behind it and in the file."""
    if length < 0:
        return False
    if following in (0, -1):
        return True
    return following >= start + length and (size is None or following < size)


def _check_first(path: Path, header: bytes) -> None:
    if not header:
        msg = f"{path}: is empty (0 bytes); {_AGAIN}"
        raise DataError(msg)
    expected = struct.pack(">iIi", _FILE_ID, 31, 20)
    if len(header) < _HEADER.size and expected.startswith(header[: len(expected)]):
        msg = f"{path}: was cut: it has only {len(header)} bytes; {_AGAIN}"
        raise DataError(msg)
    if not header.startswith(expected):
        shown = header[:8].hex(" ")
        msg = f"{path}: is not a FIF file (it starts with the bytes {shown}); give a recording"
        raise DataError(f"{msg} in FIF format, plain or as .fif.gz")


def _content(
    file: BinaryIO, length: int, size: int | None, start: int, *, whole: bool
) -> bytes | None:
    """Return the content, or None where the file ends before it does.

    Large content is passed over and comes back empty, unless it is asked for as a whole.
    """
    if size is not None and start + length > size:
        return None
    if size is not None and length > _SMALL and not whole:
        file.seek(length, 1)
        return b""
    content = file.read(length)
    if len(content) < length:
        return None
    return content if length <= _SMALL or whole else b""
