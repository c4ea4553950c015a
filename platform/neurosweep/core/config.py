"""Configuration: frozen models whose fields carry their own searchable range."""

from __future__ import annotations

import csv
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses
from neurosweep.core.schema import FieldSpec, Value

_SCALARS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}
ModelT = TypeVar("ModelT", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every configuration section: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


@dataclass(frozen=True)
class Searchable:
    """Declare on a field that it may be searched.

    Attributes
    ----------
    low, high
        Inclusive range.
    log
        Whether to search on a logarithmic scale.
    choices
        Allowed values instead of a range.
    off
        Value that switches an added idea off.

    Examples
    --------
    >>> from typing import Annotated
    >>> class Training(StrictModel):
    ...     learning_rate: Annotated[float, Searchable(1e-6, 1e-2, log=True)] = 1e-4
    """

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple[Value, ...] | None = None
    off: Value | None = None


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        When the file is absent, unreadable or not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = f"{path}: cannot be read ({reason}); a TOML file is expected here"
        raise ConfigError(msg) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{path}: is not valid TOML ({error})"
        raise ConfigError(msg) from error


def validate(model: type[ModelT], data: Mapping[str, Any], where: str) -> ModelT:
    """Return a validated model, or one error that lists every problem.

    Parameters
    ----------
    model
        Configuration class.
    data
        Nested values.
    where
        File or source that a person can look at, named in the error.

    Raises
    ------
    ConfigError
        With one line a problem: dotted path, what is wrong, what is allowed, a near miss.
    """
    try:
        instance = model.model_validate(dict(data))
    except ValidationError as error:
        details = error.errors()
        told = {".".join(map(str, detail["loc"])) for detail in details}
        problems = [_describe(model, detail) for detail in details]
        raise _problems_error(where, problems + _raw_range_problems(model, data, told)) from None
    problems = _range_problems(instance)
    if problems:
        raise _problems_error(where, problems)
    return instance


def _raw_range_problems(
    model: type[BaseModel], data: Mapping[str, Any], told: Collection[str]
) -> list[str]:
    """Check ranges in data that has other problems too, so that all are told at once."""
    flat = flatten(data)
    untold = (field for field in fields_of(model) if field.path in flat.keys() - told)
    fields = (field for field in untold if field.searchable)
    problems = (field.check(flat[field.path]) for field in fields)
    return [problem for problem in problems if problem is not None and ": is " in problem]


def _problems_error(where: str, problems: list[str]) -> ConfigError:
    count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    return ConfigError(f"{where}: {count}\n  " + "\n  ".join(problems))


def _describe(model: type[BaseModel], detail: ErrorDetails) -> str:
    location = [str(part) for part in detail["loc"]]
    path = ".".join(location) or "(top level)"
    if detail["type"] == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        known = list(owner.model_fields) if owner else []
        hint = near_misses(location[-1], known)
        return f"{path}: unknown key{hint}" + (f" (known: {', '.join(known)})" if not hint else "")
    if detail["type"] == "missing":
        owner = _model_at(model, location[:-1])
        field = owner.model_fields.get(location[-1]) if owner else None
        return f"{path}: is missing" + (f" ({field.description})" if field else "")
    given = detail.get("input")
    return f"{path}: {detail['msg']}, got {given!r} ({type(given).__name__})"


def _model_at(model: type[BaseModel], path: Iterable[str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for name in path:
        if name.isdigit():  # of a list, whose class is known already
            continue
        field = current.model_fields.get(name) if current else None
        current = _submodel(field, in_lists=True) if field else None
    return current


def _submodel(field: FieldInfo, *, in_lists: bool = False) -> type[BaseModel] | None:
    members = _union_members(field.annotation)
    lists = [m for m in members if in_lists and typing.get_origin(m) is list]
    for candidate in (*members, *(part for found in lists for part in typing.get_args(found))):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _union_members(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(a for a in typing.get_args(annotation) if a is not type(None))
    if origin is typing.Annotated:
        return _union_members(typing.get_args(annotation)[0])
    return (annotation,)


def fields_of(model: type[BaseModel] | BaseModel, prefix: str = "") -> list[FieldSpec]:
    """List every scalar field of a model and of its sections.

    Parameters
    ----------
    model
        A class, whose declared defaults are listed, or an instance, whose values are.
    prefix
        Dotted path put before every name.
    """
    cls = model if isinstance(model, type) else type(model)
    specs: list[FieldSpec] = []
    for name, field in cls.model_fields.items():
        path = f"{prefix}{name}"
        value = field.default if isinstance(model, type) else getattr(model, name)
        if isinstance(value, BaseModel):
            specs += fields_of(value, f"{path}.")
            continue
        section = _submodel(field)
        if section is not None:
            specs += fields_of(section, f"{path}.")
            continue
        spec = _field_spec(path, field, value)
        if spec is not None:
            specs.append(spec)
    return specs


def _field_spec(path: str, field: FieldInfo, value: Any) -> FieldSpec | None:
    search = next((m for m in field.metadata if isinstance(m, Searchable)), Searchable())
    members = _union_members(field.annotation)
    literal: tuple[Value, ...] | None = None
    kind = next((_SCALARS[m] for m in members if m in _SCALARS), None)
    if kind is None and typing.get_origin(members[0]) is typing.Literal:
        literal = typing.get_args(members[0])
        kind = _SCALARS.get(type(literal[0]))
    if kind is None:
        return None
    return FieldSpec(
        path=path,
        type=kind,
        low=search.low,
        high=search.high,
        log=search.log,
        choices=search.choices or literal,
        default=value if isinstance(value, int | float | bool | str) else None,
        off=search.off,
        doc=(field.description or "").strip(),
    )


def _range_problems(instance: BaseModel) -> list[str]:
    problems = (f.check(f.default) for f in fields_of(instance) if f.default is not None)
    return [problem for problem in problems if problem is not None]


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as dotted path to leaf value."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted paths as nested dictionaries."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        set_dotted(nested, path, value)
    return nested


def set_dotted(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a leaf of nested dictionaries, making the sections on the way.

    Raises
    ------
    ConfigError
        When a part of the path is already a plain value.
    """
    *sections, leaf = path.split(".")
    current = data
    for section in sections:
        current = current.setdefault(section, {})
        if not isinstance(current, dict):
            msg = f"{path}: '{section}' is a value, not a section"
            raise ConfigError(msg)
    current[leaf] = value


def get_dotted(data: Mapping[str, Any], path: str) -> Any:
    """Return a leaf of nested dictionaries.

    Raises
    ------
    ConfigError
        When the path does not exist; names a near miss.
    """
    current: Any = data
    for part in path.split("."):
        if not isinstance(current, Mapping) or part not in current:
            flat = flatten(data)
            msg = f"{path}: unknown field{near_misses(path, flat)}"
            raise ConfigError(msg)
        current = current[part]
    return current


def parse_assignment(text: str) -> tuple[str, list[Value]]:
    """Split ``a.b=1,2,3`` into its path and values; a value is read as TOML, else as text.

    Raises
    ------
    ConfigError
        When there is no ``=``, no path or no value.
    """
    path, equals, values = text.partition("=")
    parts = next(csv.reader([values], skipinitialspace=True, quotechar='"'), [])
    parts = [part.strip() for part in parts]
    if not equals or not path.strip() or not parts or not all(parts):
        msg = f"--set {text!r}: expected PATH=VALUE[,VALUE...], for example model.width=32,64"
        raise ConfigError(msg)
    return path.strip(), [_parse_value(part) for part in parts]


def _parse_value(text: str) -> Value:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text
