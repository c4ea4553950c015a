"""``neurosweep rerun``: run one trial of a study again and compare."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from neurosweep.cli.options import add_home, add_json, add_place, open_home, parse_on

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    text = "run one trial of a study again and compare"
    parser = subparsers.add_parser(
        "rerun",
        help=text,
        description=f"{text}. Exit code 3 when the result differs by more than the noise between "
        "seeds. The study itself is not changed.",
    )
    parser.add_argument(
        "trial", metavar="TRIAL", help="STUDY/TRIAL, or a trial of --study, e.g. r01t003"
    )
    parser.add_argument("--study", metavar="STUDY", help="default: the newest study of the home")
    add_place(parser)
    add_home(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the trial again from the code, data, configuration and seed that it names.

    Raises
    ------
    StudyError
        When there is no such study or trial, or it was not scored.
    """
    from neurosweep.cli import exits
    from neurosweep.cli.console import Console
    from neurosweep.cli.locate import find_trial
    from neurosweep.cli.summary import show_path
    from neurosweep.records.fold import load_state
    from neurosweep.research.rerun import rerun
    from neurosweep.research.setup import build_executor

    if args.on is not None:
        parse_on(args.on)
    study, trial = find_trial(
        args.trial, lambda: open_home(args.home, create=False), args.study or ""
    )
    console = Console(as_json=args.json)
    console.line(f"running {trial} of {study.study_id} again")
    executor = build_executor(study, load_state(study), on=args.on, workers=args.workers or 1)
    result = rerun(study, trial, executor)
    console.line(f"{result.metric}: recorded {result.recorded:.6f}, now {result.value:.6f}")
    verdict = "within" if result.agrees else "NOT within"
    console.line(f"{verdict} the noise band of {result.band:.6f}")
    same = "the same to the byte" if result.identical else "different"
    console.line(f"predictions: {same}; in {show_path(result.folder)}")
    console.lines([f"note: {text}" for text in result.notes])
    code = exits.OK if result.agrees else exits.NOT_REACHED
    console.data({"study": study.study_id, **result.to_dict(), "exit_code": code})
    return code
