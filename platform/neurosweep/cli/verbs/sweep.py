"""``neurosweep sweep``: train a recipe with every combination of given values."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from neurosweep.cli.options import (
    add_limits,
    add_recipe,
    add_running,
    execution_changes,
    open_home,
)

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    text = "train a recipe with every combination of given values"
    parser = subparsers.add_parser(
        "sweep",
        help=text,
        description=f"{text}; recorded as a study of one round. On SLURM they are one array; "
        "interrupt it and what runs goes on: neurosweep study resume takes it up again.",
        epilog="examples:\n"
        "  neurosweep sweep speller --set training.learning_rate=1e-4,1e-3 "
        "--set training.batch_size=32,64\n"
        "  neurosweep sweep speller --set training.learning_rate=1e-4,1e-3 --on slurm:my.toml "
        "--workers 8",
    )
    add_recipe(parser, many=True)
    parser.add_argument("--name", help="name of the study (default: from the recipe)")
    add_limits(parser)
    add_running(parser)


def run(args: argparse.Namespace) -> int:
    """Run every combination once.

    Raises
    ------
    ConfigError
        When no values are given, or a path is given twice or cannot be changed for a trial.
    """
    from neurosweep.cli.console import Console
    from neurosweep.cli.designs import grid_design
    from neurosweep.cli.launch import RunOptions, create, drive, make_spec

    options = RunOptions.of(args)
    data = grid_design(args.recipe, args.entry, args.set, args.name)
    spec = make_spec(data, execution_changes(args), f"neurosweep sweep {args.recipe}")
    console = Console(as_json=args.json)
    study = create(spec, open_home(args.home, create=True), console)
    return drive(study, console, options)
