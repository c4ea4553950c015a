"""What all commands have in common: options, and an answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from neurosweep.testing.slurm.batch import Refused


@dataclass(frozen=True)
class Reply:
    """Hold what a command prints and returns."""

    out: str = ""
    error: str = ""
    code: int = 0


def user_name() -> str:
    """Return the name of whoever runs the cluster."""
    return "root" if os.getuid() == 0 else os.environ.get("USER", str(os.getuid()))


@dataclass
class Asked:
    """Hold the options of a query.

    Attributes
    ----------
    flags
        Options without a value.
    values
        Options with one; the last wins.
    """

    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)

    def listed(self, name: str) -> set[str] | None:
        """Return the words of a list; None when the option is absent."""
        return set(self.values[name].split(",")) if name in self.values else None


def read_asked(
    arguments: Sequence[str], flags: dict[str, str], valued: dict[str, str], program: str
) -> Asked:
    """Read the options of a query.

    Parameters
    ----------
    arguments
        The command line.
    flags, valued
        Each spelling to the name of the option.
    program
        Whose options they are.

    Raises
    ------
    Refused
        When there is an unknown one.
    """
    asked, words = Asked(), list(arguments)
    while words:
        word = words.pop(0)
        name, has_value, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in flags:
            asked.flags.add(flags[name])
        elif name in valued:
            asked.values[valued[name]] = value if has_value else words.pop(0)
        elif word[:2] in valued and not word.startswith("--"):
            asked.values[valued[word[:2]]] = word[2:]
        else:
            msg = f"{program}: unrecognized option '{word}'\nTry \"{program} --help\""
            raise Refused(msg)
    return asked
