"""``neurosweep run``: train a recipe as it is, or with single values changed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from neurosweep.cli.options import (
    add_limits,
    add_recipe,
    add_running,
    execution_changes,
    open_home,
    positive,
)

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    text = "train a recipe as it is, over one or more seeds"
    parser = subparsers.add_parser(
        "run", help=text, description=f"{text}; recorded as a study of one round."
    )
    add_recipe(parser, many=False)
    parser.add_argument(
        "--seeds", type=positive, default=1, metavar="N", help="number of training seeds"
    )
    parser.add_argument("--name", help="name of the study (default: from the recipe)")
    add_limits(parser)
    add_running(parser)


def run(args: argparse.Namespace) -> int:
    """Run the recipe once for every seed.

    Raises
    ------
    ConfigError
        When an assignment has several values or names what cannot be changed for a trial.
    """
    from neurosweep.cli.console import Console
    from neurosweep.cli.designs import fixed_design
    from neurosweep.cli.launch import RunOptions, create, drive, make_spec

    options = RunOptions.of(args)
    data = fixed_design(args.recipe, args.entry, args.set, args.seeds, args.name)
    spec = make_spec(data, execution_changes(args), f"neurosweep run {args.recipe}")
    console = Console(as_json=args.json)
    study = create(spec, open_home(args.home, create=True), console)
    return drive(study, console, options)
