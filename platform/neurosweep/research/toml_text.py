"""Plain data as TOML text, which the standard library reads and does not write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosweep.core.files import canonical_json


def to_toml(spec: Mapping[str, Any]) -> str:
    """Return a specification as TOML; what is None is left out."""
    lines: list[str] = []
    _toml_table(spec, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    values = {k: v for k, v in table.items() if v is not None and not isinstance(v, Mapping)}
    if path and values:
        lines += ["", "[" + ".".join(_toml_key(part) for part in path) + "]"]
    lines += [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in values.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _toml_table(value, (*path, key), lines)


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else _toml_value(key)


def _toml_value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return canonical_json(value)
