"""Names for the content of files that are large and seldom change."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

_LENGTH = 16


def fingerprint_files(files: Sequence[Path]) -> str:
    """Return hexadecimal digits that depend on the names and the content of files alone."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        status = path.stat()
        digest.update(f"{path.name}:{_sha256(path, status.st_size, status.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:_LENGTH]


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed_ns: int) -> str:  # noqa: ARG001 - they tell versions apart
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
