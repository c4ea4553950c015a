"""The searchable configuration as plain data: what a driver, a sampler and an agent see."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses

Value = float | int | bool | str
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "float": (float, int),
    "int": (int,),
    "bool": (bool,),
    "str": (str,),
}


@dataclass(frozen=True)
class FieldSpec:
    """Describe one configuration field.

    Attributes
    ----------
    path
        Dotted path, for example ``training.learning_rate``.
    type
        ``float``, ``int``, ``bool`` or ``str``.
    low, high
        Inclusive range of a number; None when the field is not searched by range.
    log
        Whether the range is searched on a logarithmic scale.
    choices
        Allowed values; None when the field is searched by range.
    default
        Value of the unchanged recipe.
    off
        Value that switches an added idea off; None for a field of the base recipe.
    doc
        One sentence.
    """

    path: str
    type: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple[Value, ...] | None = None
    default: Value | None = None
    off: Value | None = None
    doc: str = ""

    @property
    def searchable(self) -> bool:
        """Whether the field has a range or choices."""
        return self.choices is not None or self.low is not None

    def allowed(self) -> str:
        """Return the allowed values as text."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.low is not None:
            return f"in [{self.low:g}, {self.high:g}]" + (" (log scale)" if self.log else "")
        return f"any {self.type}"

    def check(self, value: object) -> str | None:
        """Return what is wrong with a value, or None when it is allowed."""
        expected = _PYTHON_TYPES[self.type]
        if not isinstance(value, expected) or (isinstance(value, bool) and self.type != "bool"):
            return (
                f"{self.path}: expected {self.type}, got {_short(value)} ({type(value).__name__})"
            )
        if isinstance(value, float) and not math.isfinite(value):
            return f"{self.path}: is {value}, which is not a finite number"
        if self.choices is not None and value not in self.choices:
            return f"{self.path}: is {_short(value)}, not {self.allowed()}"
        if self.low is not None and self.high is not None and self.choices is None:
            assert isinstance(value, int | float)
            if not self.low <= value <= self.high:
                return f"{self.path}: is {_short(value)}, not {self.allowed()}"
        return None

    def declaration_problem(self) -> str | None:
        """Return what is wrong with the field's own range or choices, or None."""
        if self.choices is not None:
            return self._choices_problem()
        low, high = self.low, self.high
        if low is None and high is None:
            return None
        if self.type not in ("float", "int"):
            return f"a {self.type} has choices, not a range"
        bounds = FieldSpec(self.path, self.type)
        if low is None or high is None or bounds.check(low) or bounds.check(high) or low > high:
            return f"low {_short(low)} and high {_short(high)} are not a range of {self.type}"
        if not isinstance(self.log, bool):
            return f"log is {_short(self.log)}, expected true or false"
        if self.log and low <= 0:
            return f"low {low} must be above 0 on a log scale"
        return None

    def _choices_problem(self) -> str | None:
        if not isinstance(self.choices, tuple) or not self.choices:
            return f"choices {_short(self.choices)} are not a list with at least one value"
        plain = FieldSpec(self.path, self.type)
        wrong = next((p for p in map(plain.check, self.choices) if p), None)
        if wrong is None and len(set(self.choices)) < len(self.choices):
            return f"choices {_short(list(self.choices))} name a value twice"
        return wrong

    def to_dict(self) -> dict[str, Any]:
        """Return the field as JSON data."""
        data = asdict(self)
        data["choices"] = None if self.choices is None else list(self.choices)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FieldSpec:
        """Read a field that `to_dict` wrote.

        Raises
        ------
        ConfigError
            When keys are unknown or the type is not one of the four.
        """
        values = dict(data)
        if values.get("type") not in _PYTHON_TYPES:
            msg = f"schema field {values.get('path')!r}: type must be one of {list(_PYTHON_TYPES)}"
            raise ConfigError(msg)
        if isinstance(values.get("choices"), list):
            values["choices"] = tuple(values["choices"])
        try:
            field = cls(**values)
        except TypeError as error:
            msg = f"schema field {values.get('path')!r}: {error}"
            raise ConfigError(msg) from error
        problem = field.declaration_problem()
        if problem is not None:
            msg = f"schema field {field.path}: {problem}"
            raise ConfigError(msg)
        return field


class Schema(Mapping[str, FieldSpec]):
    """Map dotted paths to fields, in their declared order."""

    def __init__(self, fields: Iterable[FieldSpec]) -> None:
        self._fields = {field.path: field for field in fields}

    def __getitem__(self, path: str) -> FieldSpec:
        return self._fields[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def exposed(
        self, paths: Iterable[str], overrides: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Schema:
        """Return the fields that a study searches, with its narrowed ranges.

        Parameters
        ----------
        paths
            Dotted paths to search.
        overrides
            For a path, any of ``low``, ``high``, ``log``, ``choices``.

        Raises
        ------
        ConfigError
            Naming every path that is unknown or has no range, and every override that is
            wrong or leaves the range that the field declares.
        """
        overrides = dict(overrides or {})
        problems: list[str] = []
        chosen: list[FieldSpec] = []
        for path in paths:
            if any(field.path == path for field in chosen):
                problems.append(f"{path}: is exposed twice")
                continue
            if path not in self._fields:
                problems.append(f"{path}: unknown field{near_misses(path, self._fields)}")
                overrides.pop(path, None)
                continue
            field = _override(self._fields[path], overrides.pop(path, {}), problems)
            if field.searchable:
                chosen.append(field)
            else:
                problems.append(
                    f'{path}: has no declared range; give one under [search.override."{path}"]'
                )
        problems += [f"{path}: has an override but is not exposed" for path in overrides]
        if problems:
            raise ConfigError(f"[search]: {_count(problems)}\n  " + "\n  ".join(problems))
        return Schema(chosen)

    def check_proposal(self, config: Mapping[str, object]) -> list[str]:
        """Return every problem of a proposal: unknown, missing and disallowed values."""
        problems = [
            f"{str(path)[:60]}: unknown field{near_misses(str(path)[:60], self)}"
            for path in config
            if path not in self
        ]
        problems += [f"{path}: is missing" for path in self if path not in config]
        for path, value in config.items():
            if path in self:
                problem = self[path].check(value)
                if problem is not None:
                    problems.append(problem)
        return problems

    def defaults(self) -> dict[str, Value]:
        """Return the default of every field that has one."""
        return {p: f.default for p, f in self._fields.items() if f.default is not None}

    def to_json(self) -> list[dict[str, Any]]:
        """Return the fields as JSON data."""
        return [field.to_dict() for field in self._fields.values()]

    @classmethod
    def from_json(cls, data: Iterable[Mapping[str, Any]]) -> Schema:
        """Read a schema that `to_json` wrote."""
        return cls(FieldSpec.from_dict(item) for item in data)

    def table(self) -> str:
        """Return an aligned text table: path, allowed values, default, sentence."""
        rows = [("field", "allowed", "default", "what it is")]
        rows += [
            (f.path, f.allowed(), "" if f.default is None else str(f.default), f.doc)
            for f in self._fields.values()
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            "  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]).rstrip()
            for row in rows
        )


def _count(problems: list[str]) -> str:
    return f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return f"a very long {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _override(field: FieldSpec, change: Mapping[str, Any], problems: list[str]) -> FieldSpec:
    allowed = ("low", "high", "log", "choices")
    unknown = [key for key in change if key not in allowed]
    if unknown:
        problems.append(f"{field.path}: unknown override {unknown}; allowed are {list(allowed)}")
        return field
    values = dict(change)
    if values.get("choices") is not None:
        listed = values["choices"]
        values["choices"] = tuple(listed) if isinstance(listed, list | tuple) else listed
        values |= {"low": None, "high": None}
    elif "low" in values or "high" in values:
        values["choices"] = None
    narrowed = replace(field, **values)
    problem = narrowed.declaration_problem() or _left_range(field, narrowed)
    if problem:
        prefix = "" if problem.startswith(f"{field.path}: ") else f"{field.path}: "
        problems.append(f"{prefix}{problem}")
        return field
    return narrowed


def _left_range(field: FieldSpec, narrowed: FieldSpec) -> str | None:
    if narrowed.choices is not None:
        wrong = (field.check(choice) for choice in narrowed.choices)
        return next((problem for problem in wrong if problem), None)
    if narrowed.low is None or narrowed.high is None:
        return None
    if field.choices is not None:
        return f"a range cannot replace the declared choices: {field.allowed()}"
    if field.low is None or field.high is None:
        return None
    if narrowed.low < field.low or narrowed.high > field.high:
        return f"[{narrowed.low:g}, {narrowed.high:g}] leaves the declared range {field.allowed()}"
    return None
