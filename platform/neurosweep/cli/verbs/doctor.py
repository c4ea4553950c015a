"""``neurosweep doctor``: say what is missing on this machine or cluster, and how to get it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from neurosweep.cli.options import add_home, add_json, positive

if TYPE_CHECKING:
    from neurosweep.cli.checks import Finding
    from neurosweep.cli.console import Console
    from neurosweep.cli.parser import Subparsers
    from neurosweep.core.layout import Home

AREAS = ("local", "slurm", "gpu", "mlflow", "optional")
CLUSTER_AREAS = ("slurm", "cluster")
_WAIT_S = 300


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    text = "say what is missing on this machine or cluster, and how to get it"
    parser = subparsers.add_parser(
        "doctor", help=text, description=f"{text}. Exit code 3 when a needed area lacks something."
    )
    parser.add_argument(
        "--need",
        action="append",
        choices=AREAS,
        help="an area that you need; repeatable (default: local and mlflow)",
    )
    parser.add_argument(
        "--on",
        metavar="slurm:PROFILE",
        help="check a cluster profile against its cluster instead, with one small job",
    )
    parser.add_argument("--no-job", action="store_true", help="with --on: submit nothing")
    parser.add_argument(
        "--wait",
        type=positive,
        default=_WAIT_S,
        metavar="SECONDS",
        help=f"with --on: how long to wait for the job (default: {_WAIT_S})",
    )
    add_home(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check and print what to do."""
    from neurosweep.cli.checks import all_checks
    from neurosweep.cli.console import Console
    from neurosweep.core.layout import Home, default_home

    home = default_home() if args.home is None else Home(args.home.absolute())
    console = Console(as_json=args.json)
    if args.on is not None:
        return _show(console, _on_cluster(args, home), CLUSTER_AREAS)
    return _show(console, all_checks(home), tuple(args.need or ("local", "mlflow")))


def _on_cluster(args: argparse.Namespace, home: Home) -> Iterator[Finding]:
    """Check a profile against its cluster, from the commands to one job on a node.

    Raises
    ------
    ConfigError
        When the options name no profile, or one that holds problems.
    """
    from neurosweep.cli.checks import slurm_checks
    from neurosweep.cli.cluster_checks import profile_checks
    from neurosweep.cli.cluster_facts import ClusterFacts, ask
    from neurosweep.cli.cluster_probe import node_checks
    from neurosweep.cli.options import parse_on
    from neurosweep.core.errors import ConfigError
    from neurosweep.exec.profiles import load_profile

    name, option = parse_on(args.on)
    if name != "slurm" or args.need:
        msg = f"--on {args.on}: doctor checks slurm:PROFILE with it, and takes no --need then"
        raise ConfigError(msg)
    profile = load_profile(option)
    stopped = False
    for finding in slurm_checks():
        if finding.name == "profiles":
            continue  # of those with a name; this one is loaded
        stopped |= finding.state == "missing"
        yield finding
    if stopped:
        return
    for finding in profile_checks(profile, ClusterFacts(ask)):
        stopped |= finding.state == "missing" and finding.name in ("controller", "request")
        yield finding
    if not stopped and not args.no_job:
        yield from node_checks(profile, home, wait_s=args.wait)


def _show(console: Console, findings: Iterable[Finding], needed: Sequence[str]) -> int:
    """Print findings as they come; return the exit code."""
    from neurosweep.cli import exits

    shown: list[Finding] = []
    for finding in findings:
        if not shown or shown[-1].area != finding.area:
            console.line(finding.area + (" (needed)" if finding.area in needed else ""))
        console.line(f"  {finding.state:<8}{finding.name}: {finding.detail}")
        if finding.fix and finding.state != "ok":
            console.line(f"          -> {finding.fix}")
        shown.append(finding)
    missing = [f for f in shown if f.state == "missing" and f.area in needed]
    names = ", ".join(finding.name for finding in missing)
    console.line(f"missing and needed: {names}" if missing else "everything needed is here")
    code = exits.NOT_REACHED if missing else exits.OK
    console.data(
        {
            "v": 1,
            "needed": list(needed),
            "ok": not missing,
            "checks": [finding.to_dict() for finding in shown],
            "exit_code": code,
        }
    )
    return code
