"""``neurosweep trial``: look at one trial of a study, stop it, or run it again changed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neurosweep.cli.console import Console
from neurosweep.cli.options import add_home, add_json, open_home, positive

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers
    from neurosweep.core.layout import StudyDir


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb and its actions."""
    text = "look at one trial of a study, stop it, or run it again changed"
    parser = subparsers.add_parser("trial", help=text, description=text)
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    show = _action(
        actions, "show", _show, "show its configuration, its attempts, and why it failed"
    )
    show.add_argument(
        "--lines", type=positive, default=20, metavar="N", help="lines of its log (default: 20)"
    )
    stop = _action(actions, "stop", _stop, "end it; its place in the round stays spent")
    _add_reason(stop)
    clone = _action(actions, "clone", _clone, "run it again in a place of the next round")
    clone.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="what the clone has otherwise; repeatable. Only fields that the study searches",
    )
    _add_reason(clone)


def _action(
    actions: Any, name: str, run_action: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(run_action=run_action)
    parser.add_argument(
        "trial", metavar="TRIAL", help="STUDY/TRIAL, or a trial of --study, e.g. r01t003"
    )
    parser.add_argument("--study", metavar="STUDY", help="default: the newest study of the home")
    add_home(parser)
    add_json(parser)
    return parser


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="why, for the record")


def run(args: argparse.Namespace) -> int:
    """Run the chosen action.

    Raises
    ------
    StudyError
        When there is no such study or trial, or it cannot be done; all reasons are said.
    """
    action: Callable[[argparse.Namespace], int] = args.run_action
    return action(args)


def _find(args: argparse.Namespace) -> tuple[StudyDir, str]:
    from neurosweep.cli.locate import find_trial

    return find_trial(args.trial, lambda: open_home(args.home, create=False), args.study or "")


def _show(args: argparse.Namespace) -> int:
    from neurosweep.cli.trial_view import show_trial

    study, trial = _find(args)
    return show_trial(study, trial, Console(as_json=args.json), args.lines)


def _stop(args: argparse.Namespace) -> int:
    from neurosweep.cli.control import Asked, control

    study, trial = _find(args)
    return control(study, Console(as_json=args.json), Asked("stop", args.reason, trial))


def _clone(args: argparse.Namespace) -> int:
    from neurosweep.cli.control import Asked, control, one_value_each

    overrides = one_value_each(args.set)
    study, trial = _find(args)
    asked = Asked("clone", args.reason, trial, overrides=overrides)
    return control(study, Console(as_json=args.json), asked)
