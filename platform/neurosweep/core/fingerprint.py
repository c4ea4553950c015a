"""Names for content: equal data, equal name."""

from __future__ import annotations

from typing import Any

from neurosweep.core.files import canonical_json, sha256_bytes

_VERSION = "1"


def fingerprint(value: Any, length: int = 16) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of JSON data.

    Raises
    ------
    ValueError, TypeError
        When the value is not JSON data.
    """
    return sha256_bytes(f"{_VERSION}:{canonical_json(value)}".encode())[:length]
