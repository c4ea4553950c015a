"""``neurosweep doctor``: say what is missing on this machine, and how to get it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from neurosweep.cli.options import add_home, add_json

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers

AREAS = ("local", "slurm", "gpu", "mlflow", "optional")


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    text = "say what is missing on this machine, and how to get it"
    parser = subparsers.add_parser(
        "doctor", help=text, description=f"{text}. Exit code 3 when a needed area lacks something."
    )
    parser.add_argument(
        "--need",
        action="append",
        choices=AREAS,
        help="an area that you need; repeatable (default: local and mlflow)",
    )
    add_home(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check and print what to do."""
    from neurosweep.cli import exits
    from neurosweep.cli.checks import all_checks
    from neurosweep.cli.console import Console
    from neurosweep.core.layout import Home, default_home

    home = default_home() if args.home is None else Home(args.home.absolute())
    needed = tuple(args.need or ("local", "mlflow"))
    console = Console(as_json=args.json)
    findings = all_checks(home)
    missing = [f for f in findings if f.state == "missing" and f.area in needed]
    for area in AREAS:
        console.line(f"{area}" + (" (needed)" if area in needed else ""))
        for finding in (f for f in findings if f.area == area):
            console.line(f"  {finding.state:<8}{finding.name}: {finding.detail}")
            if finding.fix and finding.state != "ok":
                console.line(f"          -> {finding.fix}")
    names = ", ".join(finding.name for finding in missing)
    console.line(f"missing and needed: {names}" if missing else "everything needed is here")
    code = exits.NOT_REACHED if missing else exits.OK
    console.data(
        {
            "v": 1,
            "needed": list(needed),
            "ok": not missing,
            "checks": [finding.to_dict() for finding in findings],
            "exit_code": code,
        }
    )
    return code
