"""Which fields of a recipe are fixed for a whole study: what is prepared once follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosweep.core.errors import ConfigError

_DEFAULT = ("data", "preprocessing")


@dataclass(frozen=True)
class Prepared:
    """Tell which paths of a configuration all trials of a study share.

    Attributes
    ----------
    prefixes
        Dotted paths; a section stands for all its fields.
    """

    prefixes: tuple[str, ...] = _DEFAULT

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Prepared:
        """Read what a package's ``describe`` says under ``prepared``; by default the data.

        Raises
        ------
        ConfigError
            When it is no list of dotted paths.
        """
        listed = facts.get("prepared", list(_DEFAULT))
        if not isinstance(listed, list) or not all(isinstance(p, str) and p for p in listed):
            msg = f"describe: 'prepared' is {listed!r}, expected a list of dotted paths"
            raise ConfigError(msg)
        return cls(tuple(listed))

    def holds(self, path: str) -> bool:
        """Return whether a dotted path is fixed for all trials."""
        return any(path == prefix or path.startswith(f"{prefix}.") for prefix in self.prefixes)

    def among(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that are fixed for all trials."""
        return [path for path in paths if self.holds(path)]

    def __str__(self) -> str:
        """Return the prefixes as words."""
        return ", ".join(self.prefixes)
