"""``neurosweep demo``: a whole study on a real EEG recording, in a few minutes."""

from __future__ import annotations

import argparse
from importlib import resources
from typing import TYPE_CHECKING, Any

from neurosweep.cli.options import (
    add_budget,
    add_running,
    execution_changes,
    home_flag,
    open_home,
)
from neurosweep.core.layout import Home, StudyDir

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers

_TEXT = """search on a real EEG recording, from data to report, in a few minutes

The recording is a noise-tag speller: a person looks at one of 25 symbols, all flash in codes of
their own, and the decoder finds the symbol. The demo prepares the data, trains the unchanged
recipe over 5 seeds, lets Optuna propose 2 rounds of 50 configurations, trains and scores them
here, and builds a report. Run again it goes on with an unfinished demo, or starts a new one."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = subparsers.add_parser("demo", help=_TEXT.split("\n")[0], description=_TEXT)
    add_budget(parser)
    add_running(parser)
    parser.add_argument("--entry", help=argparse.SUPPRESS)
    parser.add_argument("--recipe", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Start a demo study, or go on with an unfinished one."""
    from neurosweep.cli import exits
    from neurosweep.cli.console import Console
    from neurosweep.cli.launch import RunOptions, create, drive, make_spec

    options = RunOptions.of(args)
    changes = execution_changes(args)
    for name in ("entry", "recipe"):
        if getattr(args, name) is not None:
            changes[name] = getattr(args, name)
    spec = make_spec(demo_study(), changes, "the demo's study")
    home = open_home(args.home, create=True)
    console = Console(as_json=args.json)
    unfinished = _unfinished(home, spec.model_dump(mode="json"))
    if unfinished is not None:
        console.line(f"going on with the unfinished demo {unfinished.study_id} in {home.root}")
        return drive(unfinished, console, options)
    console.line(f"starting a new demo in {home.root}")
    study = create(spec, home, console)
    code = drive(study, console, options)
    if code == exits.OK:
        console.lines(_next_steps(home_flag(home)))
    return code


def demo_study() -> dict[str, Any]:
    """Return the demo's specification as data."""
    import tomllib

    text = resources.files("neurosweep.cli.studies").joinpath("demo.toml").read_text("utf-8")
    return tomllib.loads(text)


def _unfinished(home: Home, spec: dict[str, Any]) -> StudyDir | None:
    """Return the newest demo that can go on with the same budget and recipe."""
    from neurosweep.cli.locate import studies_of, study_name
    from neurosweep.core.errors import LedgerError
    from neurosweep.records.fold import load_state

    for study in reversed(studies_of(home)):
        if study_name(study) != spec["name"]:
            continue
        try:
            state = load_state(study)
        except LedgerError:
            continue
        same = all(state.spec.get(key) == spec[key] for key in ("entry", "recipe", "budget"))
        if state.closed is None and same:
            return study
    return None


def _next_steps(flag: str) -> list[str]:
    return [
        f"neurosweep sweep speller --set training.learning_rate=1e-3,3e-3{flag}  # your own values",
        "neurosweep doctor  # what this machine can and cannot do, SLURM and GPU included",
    ]
