"""Sentences of an events table with the keys that typed them, checked all at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.events import Event, select
from neurosweep.core.errors import DataError

_SPACES = frozenset({"space", "spacebar", "&", " ", "_"})
_LEAST_KEYS = 0.5
_MAX_LISTED = 10
_ALLOWED = re.compile("[a-z ]*")
_PUNCTUATION = str.maketrans(dict.fromkeys('.,;:!?"\u201c\u201d', " "))


@dataclass(frozen=True)
class Trial:
    """One sentence that was typed.

    Attributes
    ----------
    trial_id
        Name of the trial within its recording.
    reference, typed
        The sentence that was asked for, and what was really typed.
    row
        Its row in the table.
    keys
        Rows of the keys that typed it, in the order of time.
    """

    trial_id: str
    reference: str
    typed: str
    row: Event
    keys: tuple[Event, ...]


@dataclass
class Findings:
    """Collect what is wrong and what was left out while a table is read."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def raise_all(self, where: str) -> None:
        """Raise one error with every problem.

        Raises
        ------
        DataError
            When there is any.
        """
        if not self.problems:
            return
        listed = self.problems[:_MAX_LISTED]
        more = len(self.problems) - len(listed)
        text = "\n  ".join([*listed, *([f"and {more} more"] if more else [])])
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) > 1 else "")
        raise DataError(f"{where}: {count}; correct the table\n  {text}")


def find_trials(
    events: Sequence[Event], options: SentenceReadOptions, findings: Findings
) -> list[Trial]:
    """Return the sentences of one timeline in the order of time.

    Parameters
    ----------
    events
        Rows of the timeline.
    options
        What is accepted.
    findings
        Gets the problems, and a warning for every kind of thing that is left out.
    """
    rows = select(events, "Sentence")
    names = _names(rows, findings)
    keys = _keys_of(events, rows, names, findings)
    trials: list[Trial] = []
    incomplete: list[str] = []
    slow: list[str] = []
    for name, row in zip(names, rows, strict=True):
        before = len(findings.problems)
        trial = _trial(name, row, keys.get(name, []), options, findings)
        if len(trial.keys) < _LEAST_KEYS * len(trial.reference):
            incomplete.append(name)
        elif trial.keys[-1].start - trial.keys[0].start > options.longest_s:
            slow.append(name)
        elif len(findings.problems) == before:
            trials.append(trial)
    _warn(findings, len(rows), incomplete, "have fewer key presses than half of their characters")
    _warn(findings, len(rows), slow, f"took more than {options.longest_s:g} s to type")
    if unlike := [t.trial_id for t in trials if len(t.keys) != len(t.typed)]:
        findings.warnings.append(
            f"{len(unlike)} of {len(rows)} sentences have other numbers of key presses than typed"
            f" characters: {_some(unlike)}"
        )
    trials.sort(key=lambda trial: trial.keys[0].start)
    findings.problems += _overlaps(trials)
    return trials


def _warn(findings: Findings, total: int, names: Sequence[str], why: str) -> None:
    if names:
        findings.warnings.append(
            f"{len(names)} of {total} sentences {why} and are left out: {_some(names)}"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")


def clean_reference(text: str) -> str | None:
    """Return a sentence in a-z and single spaces, None when it cannot be written so.

    Marks of punctuation between words are dropped; digits, apostrophes and letters beyond a-z
    have no key of their own in the alphabet and are refused.
    """
    cleaned = " ".join(text.translate(_PUNCTUATION).lower().split())
    return cleaned if _ALLOWED.fullmatch(cleaned) else None


def _names(rows: Sequence[Event], findings: Findings) -> list[str]:
    """Return the trials' names; numbers in the order of time where the table has none."""
    given = [row.trial_id for row in rows]
    if not any(given):
        return [f"{number:04d}" for number in range(len(rows))]
    for name, count in Counter(given).items():
        if not name:
            findings.problems.append(f"{_at(rows[given.index(name)])}: trial_id is empty")
        elif count > 1:
            where = _at(rows[given.index(name)])
            findings.problems.append(f"{where}: trial_id '{name}' names {count} sentences")
        elif "/" in name or name in (".", ".."):
            where = _at(rows[given.index(name)])
            findings.problems.append(f"{where}: trial_id '{name}' must not hold '/' or be dots")
    return given


def _at(row: Event) -> str:
    return f"sentence at {row.start:g} s of timeline '{row.timeline}'"


def _keys_of(
    events: Sequence[Event], rows: Sequence[Event], names: Sequence[str], findings: Findings
) -> Mapping[str, list[Event]]:
    """Return trial name to its keys: by trial_id, or by time where keys have none."""
    keys = select(events, "Keystroke")
    found: dict[str, list[Event]] = {name: [] for name in names}
    stray = 0
    by_name = any(key.trial_id for key in keys) and any(row.trial_id for row in rows)
    for key in keys:
        name = key.trial_id if by_name else _around(key, rows, names)
        if name in found:
            found[name].append(key)
        else:
            stray += 1
    if stray:
        findings.warnings.append(f"{stray} of {len(keys)} key presses belong to no sentence")
    return found


def _around(key: Event, rows: Sequence[Event], names: Sequence[str]) -> str:
    for name, row in zip(names, rows, strict=True):
        if row.start <= key.start <= row.start + row.duration:
            return name
    return ""


def _trial(
    name: str,
    row: Event,
    keys: Sequence[Event],
    options: SentenceReadOptions,
    findings: Findings,
) -> Trial:
    where = f"trial '{name}' of timeline '{row.timeline}'"
    reference = clean_reference(row.text) if row.text.strip() else ""
    if reference is None:
        findings.problems.append(
            f"{where}: text '{row.text[:60]}' cannot be written in a-z and spaces; spell it out"
        )
    elif not reference:
        findings.problems.append(f"{where}: text, the sentence asked for, is empty")
    symbols = [_symbol(key.button) for key in keys]
    pressed = [key for key, symbol in zip(keys, symbols, strict=True) if symbol != ""]
    given = row.value(options.typed_column)
    if given.strip():
        typed = given.strip().lower().replace("&", " ")
        if not _ALLOWED.fullmatch(typed):
            findings.problems.append(
                f"{where}: {options.typed_column} '{given[:60]}' holds other characters than a-z,"
                " the space and '&' for the space"
            )
    else:
        typed = "".join(symbol for symbol in symbols if symbol).strip()
        if any(symbol is None for symbol in symbols):
            findings.problems.append(
                f"{where}: has neither '{options.typed_column}' nor the button of every key"
            )
    return Trial(name, reference or row.text, typed, row, tuple(pressed))


def _symbol(button: str) -> str | None:
    """Return the character of a key, empty for keys without one, None where nobody knows."""
    if not button:
        return None
    if button in _SPACES or button.strip().lower() in _SPACES:
        return " "
    letter = button.strip().lower()
    return letter if len(letter) == 1 and _ALLOWED.fullmatch(letter) else ""


def _overlaps(trials: Sequence[Trial]) -> list[str]:
    return [
        f"trials '{a.trial_id}' and '{b.trial_id}' of timeline '{a.row.timeline}' overlap: keys"
        f" from {a.keys[0].start:g} to {a.keys[-1].start:g} s and from {b.keys[0].start:g} s"
        for a, b in pairwise(trials)
        if a.trial_id != b.trial_id and b.keys[0].start <= a.keys[-1].start
    ]
