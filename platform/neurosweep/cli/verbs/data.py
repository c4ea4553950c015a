"""``neurosweep data``: make, prepare, check or describe the data of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.cli.options import add_home, add_json, add_recipe, open_home, positive

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers

_ACTIONS = {
    "make": "generate the simulated recordings of a recipe, where it has such",
    "prepare": "read, preprocess and split the recordings; done once, found again by fingerprint",
    "check": "refuse recordings that cannot be what they claim to be",
    "info": "say what the data are: subjects, channels, parts, chance",
}
_TIMEOUT_S = 6 * 3600.0


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb and its actions."""
    text = "make, prepare, check or describe the data of a recipe"
    parser = subparsers.add_parser("data", help=text, description=text)
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    for name, line in _ACTIONS.items():
        action = actions.add_parser(name, help=line, description=line)
        add_recipe(action, many=False)
        action.add_argument(
            "--workers", type=positive, metavar="N", help="cores to use (default: all)"
        )
        add_home(action)
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Call the package of the recipe in a process of its own.

    Raises
    ------
    DataError
        When a recording is missing or refused.
    ConfigError
        When the recipe or a value is wrong.
    """
    from neurosweep.cli import exits
    from neurosweep.cli.console import Console
    from neurosweep.core.entry import call_entry
    from neurosweep.research.create import prepare_threads

    console = Console(as_json=args.json)
    payload: dict[str, Any] = {
        "recipe": _recipe(args.recipe),
        "set": _assignments(args.set),
        "home": str(open_home(args.home, create=True).root),
    }
    try:
        answer = call_entry(
            f"{args.entry}.entry:{args.action}",
            payload,
            timeout_s=_TIMEOUT_S,
            threads=prepare_threads(args.workers),
            say=console.line,
        )
    except KeyboardInterrupt:
        msg = f"interrupted: data {args.action} left nothing half-made; give the command again"
        raise KeyboardInterrupt(msg) from None
    console.lines(answer.get("lines") or _described(answer))
    console.data({"v": 1, "action": args.action, **answer})
    return exits.OK


def _recipe(text: str) -> str:
    path = Path(text)
    return str(path.resolve()) if path.suffix == ".toml" and path.is_file() else text


def _assignments(texts: list[str]) -> dict[str, Any]:
    from neurosweep.core.config import parse_assignment
    from neurosweep.core.errors import ConfigError

    found: dict[str, Any] = {}
    for text in texts:
        path, values = parse_assignment(text)
        if len(values) != 1:
            msg = f"--set {text!r}: data takes one value for a field"
            raise ConfigError(msg)
        found[path] = values[0]
    return found


def _described(answer: Mapping[str, Any]) -> list[str]:
    lines = [f"data {answer['data_fp']}"] if "data_fp" in answer else []
    parts: Mapping[str, Mapping[str, Any]] = answer.get("parts") or {}
    for name, sizes in parts.items():
        lines.append(f"  {name}: " + ", ".join(f"{n} {what}" for what, n in sizes.items()))
    shown = [key for key in ("split", "subjects", "chance") if key in answer]
    lines += [f"  {key}: {_plain(answer[key])}" for key in shown]
    lines += [f"  warning: {text}" for text in answer.get("warnings") or []]
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items()
        )
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
