"""Files that are either whole or absent, and strict reading of files that others wrote."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from neurosweep.core.errors import DataError

DEFAULT_MAX_BYTES = 64 * 1024 * 1024


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal data gives equal text.

    Raises
    ------
    ValueError
        When the data holds NaN or infinity, which JSON cannot carry.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def atomic_write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write UTF-8 text as `atomic_write_bytes` does."""
    atomic_write_bytes(path, text.encode("utf-8"), mode)


def atomic_write_json(path: Path, data: Any, mode: int = 0o644) -> None:
    """Write readable JSON as `atomic_write_bytes` does."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write_text(path, text + "\n", mode)


def create_exclusive(path: Path, data: bytes) -> bool:
    """Create a file unless it exists; of all racing processes exactly one gets True.

    The content is complete when the name appears: it is written beside and linked.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _no_constant(name: str) -> NoReturn:
    msg = f"the constant {name} is not JSON"
    raise ValueError(msg)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        msg = f"the number {text[:40]} is too large"
        raise ValueError(msg)
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def loads_strict(text: str | bytes) -> Any:
    """Parse JSON without NaN, Infinity or characters that UTF-8 cannot hold.

    Raises
    ------
    ValueError
        When the text is not strict JSON.
    """
    try:
        source = text.decode("utf-8") if isinstance(text, bytes) else text
        value = _DECODER.decode(source)
        # A lone surrogate, legal as an escape, could never be written again.
        if "\\ud" in source or "\\uD" in source:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        msg = "the JSON is nested too deeply"
        raise ValueError(msg) from error
    return value


def read_bytes_capped(path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """Read a regular file that another process wrote, following no link at its name.

    Raises
    ------
    DataError
        When the name is absent, a link, a folder, a device, or larger than `max_bytes`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); a regular file is expected"
        raise DataError(msg) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            msg = f"{path}: is not a regular file"
            raise DataError(msg)
        if status.st_size > max_bytes:
            raise _too_large(path, max_bytes)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise _too_large(path, max_bytes)
    return data


def _too_large(path: Path, max_bytes: int) -> DataError:
    return DataError(f"{path}: is larger than the {max_bytes} bytes allowed for this file")


def read_json(path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> Any:
    """Read strict JSON.

    Raises
    ------
    DataError
        When the file is absent, too large, not UTF-8 or not strict JSON.
    """
    data = read_bytes_capped(path, max_bytes)
    try:
        return loads_strict(data.decode("utf-8"))
    except ValueError as error:
        msg = f"{path}: is not valid JSON ({error})"
        raise DataError(msg) from error


def read_jsonl(
    path: Path, max_bytes: int = DEFAULT_MAX_BYTES, max_lines: int = 1_000_000
) -> Iterator[Any]:
    """Yield the values of a file with one strict JSON value a line.

    Raises
    ------
    DataError
        When the file is absent or too large, or a line is not strict JSON; the line is named.
    """
    data = io.BytesIO(read_bytes_capped(path, max_bytes))
    for number, line in enumerate(data, start=1):
        if number > max_lines:
            msg = f"{path}: has more than the {max_lines} lines allowed"
            raise DataError(msg)
        if not line.strip():
            continue
        try:
            yield loads_strict(line.decode("utf-8"))
        except ValueError as error:
            msg = f"{path}, line {number}: is not valid JSON ({error})"
            raise DataError(msg) from error


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
