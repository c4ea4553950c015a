"""Parse arguments, and say what is wrong with them in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from neurosweep.core.errors import NeurosweepError
from neurosweep.core.plugins import near_misses

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction["Parser"]

_CHOICE = re.compile(r"(?:argument (?P<what>\S+): )?invalid choice: '(?P<given>.*?)' \(choose from")


class UsageError(NeurosweepError):
    """Report a command line that cannot be understood."""


class Parser(argparse.ArgumentParser):
    """Parse without abbreviations; every problem is a `UsageError` with a near miss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        self.set_defaults(parser=self)

    def error(self, message: str) -> NoReturn:
        """Raise the problem instead of leaving the process."""
        match = _CHOICE.match(message)
        if match:
            given = match["given"]
            known = self._choices(given, match["what"])
            what = "verb" if (match["what"] or "").isupper() else match["what"]
            listed = ", ".join(known)
            message = f"unknown {what} '{given}'{hint(given, known)}allowed: {listed}"
        stop = "" if message.endswith("?") else "."
        msg = f"{message}{stop} See: {self.prog} --help"
        raise UsageError(msg)

    def _choices(self, given: str, what: str | None) -> list[str]:
        for action in self._actions:
            names = [*action.option_strings, action.metavar, action.dest]
            asked = what is None or any(what == n or what in str(n).split("/") for n in names)
            if asked and action.choices is not None and given not in action.choices:
                return [str(choice) for choice in action.choices]
        return []

    def options(self) -> list[str]:
        """Return every option of this parser."""
        return [name for action in self._actions for name in action.option_strings]


def hint(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'? " when a known word is close, else "; "."""
    return f"{near_misses(word, known)}; ".replace("?; ", "? ")


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments.

    Raises
    ------
    UsageError
        When an argument is unknown, missing or has no allowed value.
    """
    args, unknown = parser.parse_known_args(list(argv))
    if unknown:
        owner: Parser = args.parser
        owner.error(_unknown(unknown, owner.options()))
    return args


def _unknown(unknown: Iterable[str], options: list[str]) -> str:
    given = next((text for text in unknown if text.startswith("-")), None)
    if given is None:
        return "unexpected argument " + ", ".join(f"'{text}'" for text in unknown)
    name = given.split("=")[0]
    return f"unknown option '{name}'{near_misses(name, options)}"
