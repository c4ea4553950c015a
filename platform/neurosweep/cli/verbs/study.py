"""``neurosweep study``: start, resume, watch, steer, report or confirm a study."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.options import (
    add_budget,
    add_home,
    add_json,
    add_place,
    add_running,
    anywhere,
    execution_changes,
    open_home,
)
from neurosweep.core.errors import StudyError
from neurosweep.core.layout import StudyDir

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers

# What the files of other verbs hold, and a study's does not.
_OTHERS = {"arms": "arena start", "stages": "pipeline run"}
_WHICH = "a study's id, its folder, or the study.toml it was started from (then the newest)"


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb and its actions."""
    text = "start, resume, watch, steer, report or confirm a study"
    parser = subparsers.add_parser("study", help=text, description=text)
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    start = _action(actions, "start", _start, "start a study")
    start.add_argument("file", metavar="FILE", type=Path, help="a study.toml")
    add_budget(start)
    add_running(start)
    resume = _action(actions, "resume", _resume, "go on with a study whose driver has ended")
    _add_study(resume)
    add_running(resume)
    status = _action(actions, "status", _status, "say where a study stands; without one, list all")
    status.add_argument("study", metavar="STUDY", nargs="?", help=_WHICH)
    status.add_argument("--watch", action="store_true", help="look again until its driver ends")
    add_home(status)
    add_json(status)
    _add_control(_action(actions, "cancel", _cancel, "close a study early, as incomplete"))
    _add_control(_action(actions, "pause", _pause, "let running trials end, then stop; resumable"))
    throttle = _action(actions, "throttle", _throttle, "change how many trials run at a time")
    _add_control(throttle)
    throttle.add_argument(
        "value", metavar="N", type=int, help="trials at a time from now on; 0 starts no further one"
    )
    poll = _action(actions, "poll", _poll, "change how often the scheduler is asked")
    _add_control(poll)
    poll.add_argument(
        "value", metavar="SECONDS", type=float, help="shortest time between two queries of SLURM"
    )
    report = _action(actions, "report", _report, "build the report and bring MLflow up to date")
    _add_study(report)
    _add_no_mlflow(report)
    report.add_argument(
        "--export", type=Path, metavar="FILE", help="also write the canonical export as JSON"
    )
    add_home(report)
    add_json(report)
    confirm = _action(
        actions, "confirm", _confirm, "freeze the best configuration and open the test part, once"
    )
    _add_study(confirm)
    confirm.add_argument("--trial", metavar="TRIAL", help="configuration to confirm instead")
    confirm.add_argument("--reason", default="", help="why the test part is opened once more")
    add_place(confirm)
    _add_no_mlflow(confirm)
    add_home(confirm)
    add_json(confirm)


def _action(
    actions: Any, name: str, run_action: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(run_action=run_action)
    return parser


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help=_WHICH)


def _add_no_mlflow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-mlflow", action="store_true", help="leave MLflow alone")


def _add_control(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("--reason", default="", help="why, for the record")
    add_home(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    action: Callable[[argparse.Namespace], int] = args.run_action
    return action(args)


def _find(args: argparse.Namespace) -> StudyDir:
    from neurosweep.cli.locate import find_study

    return find_study(args.study, lambda: open_home(args.home, create=False))


def _start(args: argparse.Namespace) -> int:
    from neurosweep.cli.launch import RunOptions, create, drive, make_spec
    from neurosweep.core.config import load_toml

    options = RunOptions.of(args)
    changes = execution_changes(args)
    file: Path = args.file
    if (file / "ledger.jsonl").is_file() or (file.parent / "ledger.jsonl").is_file():
        msg = f"{file}: is a study already; go on with it: neurosweep study resume {file}"
        raise StudyError(msg)
    data = load_toml(file)
    for key, verb in _OTHERS.items():
        if key in data:
            msg = f"{file}: holds {key}, so it is no study; give it to: neurosweep {verb} {file}"
            raise StudyError(msg)
    beside = file.parent / str(data.get("recipe", ""))
    if beside.suffix == ".toml" and beside.is_file():
        data["recipe"] = str(beside.resolve())
    on = data.get("execution", {}).get("on") if isinstance(data.get("execution"), dict) else None
    if isinstance(on, str) and (file.parent / on.partition(":")[2]).is_file():
        data["execution"]["on"] = anywhere(on, file.parent)
    spec = make_spec(data, changes, str(file))
    console = Console(as_json=args.json)
    study = create(spec, open_home(args.home, create=True), console)
    return drive(study, console, options)


def _resume(args: argparse.Namespace) -> int:
    from neurosweep.cli.launch import RunOptions, drive

    options = RunOptions.of(args)
    execution_changes(args)
    return drive(_find(args), Console(as_json=args.json), options)


def _status(args: argparse.Namespace) -> int:
    from neurosweep.cli.status import list_all, show_status, watch

    console = Console(as_json=args.json)
    if args.study is None:
        list_all(open_home(args.home, create=False), console)
        return exits.OK
    study = _find(args)
    if args.watch:
        watch(study, console)
    show_status(study, console)
    return exits.OK


def _cancel(args: argparse.Namespace) -> int:
    return _control(args, "cancel")


def _pause(args: argparse.Namespace) -> int:
    return _control(args, "pause")


def _throttle(args: argparse.Namespace) -> int:
    return _control(args, "throttle", args.value)


def _poll(args: argparse.Namespace) -> int:
    return _control(args, "poll", args.value)


def _control(args: argparse.Namespace, action: str, value: float | None = None) -> int:
    from neurosweep.cli.control import Asked, control

    asked = Asked(action, args.reason, value=value)
    return control(_find(args), Console(as_json=args.json), asked)


def _report(args: argparse.Namespace) -> int:
    from neurosweep.cli.rebuild import rebuild

    study = _find(args)
    console = Console(as_json=args.json)
    return rebuild(study, console, mlflow=not args.no_mlflow, export=args.export)


def _confirm(args: argparse.Namespace) -> int:
    from neurosweep.cli.confirm import confirm
    from neurosweep.cli.launch import RunOptions

    execution_changes(args)
    options = RunOptions(on=args.on, workers=args.workers, mlflow=not args.no_mlflow)
    console = Console(as_json=args.json)
    return confirm(_find(args), console, options, args.trial, args.reason)
