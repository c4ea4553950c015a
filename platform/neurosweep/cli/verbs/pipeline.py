"""``neurosweep pipeline``: run stages that follow from each other, each of them once."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.cli.options import add_home, add_json, anywhere, home_flag, open_home, positive
from neurosweep.core.clock import SystemClock
from neurosweep.core.layout import Home

if TYPE_CHECKING:
    from neurosweep.cli.console import Console
    from neurosweep.cli.parser import Subparsers
    from neurosweep.core.layout import PipelineDir

_ABOUT = {
    "run": "run the stages of a pipeline file; what is already there is not made again",
    "resume": "go on with a pipeline; tasks that failed are tried again",
    "status": "say where a pipeline stands, or list all",
    "cancel": "end what runs of a pipeline, and close it; what was made stays",
}
_WHICH = "its id, or its name when there is one of it"
_ANSWER_S = 10.0
_LOOK_S = 0.1


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb and its actions."""
    text = "run stages that follow from each other, such as encoder, adapters, soup"
    parser = subparsers.add_parser(
        "pipeline",
        help=text,
        description=text,
        epilog="examples:\n  neurosweep pipeline run sentences\n"
        "  neurosweep pipeline run my.toml --on slurm:my-cluster\n  neurosweep pipeline status\n"
        "  neurosweep pipeline cancel sentences-1a2b3c4d --reason 'wrong corpus'",
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    for name, line in _ABOUT.items():
        action = actions.add_parser(name, help=line, description=line)
        if name == "run":
            action.add_argument("file", metavar="FILE", help="a bundled pipeline or a TOML file")
            action.add_argument(
                "--entry", default="neurodecode", metavar="PACKAGE", help=argparse.SUPPRESS
            )
        else:
            many = "?" if name == "status" else None
            action.add_argument("pipeline", metavar="PIPELINE", nargs=many, help=_WHICH)
        if name == "cancel":
            action.add_argument("--reason", default="", metavar="TEXT", help="why, for the record")
        elif name != "status":
            _add_running(action)
        add_home(action)
        add_json(action)


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on",
        metavar="WHERE",
        help="local, inline, or slurm:PROFILE (default: as the file says); stages that name a"
        " place of their own stay there",
    )
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="tasks at a time (default: all cores)"
    )
    parser.add_argument("--no-mlflow", action="store_true", help="leave MLflow alone")
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="shell command at the end of the pipeline and on trouble (default: as the file says)",
    )
    parser.add_argument("--verbose", action="store_true", help="show what the driver logs")


def run(args: argparse.Namespace) -> int:
    """Do what is asked.

    Without ``--on`` a pipeline goes on where its last run ran.

    Raises
    ------
    ConfigError
        When the file, its recipe or a stage is wrong.
    StudyError
        When there is no such pipeline.
    """
    from neurosweep.cli.console import Console
    from neurosweep.cli.launch import check_place

    console = Console(as_json=args.json)
    if args.action == "status":
        return _status(args, open_home(args.home, create=False), console)
    if args.action == "cancel":
        return _cancel(args, open_home(args.home, create=False), console)
    home = open_home(args.home, create=True)
    if args.on is not None:
        args.on = anywhere(args.on, Path.cwd())
        check_place(args.on)
    if args.action == "resume":
        return _drive(args, _find(home, args.pipeline), console)
    pipeline = _create(args, home, console)
    _warn_of_others(home, pipeline, console)
    return _drive(args, pipeline, console)


def _create(args: argparse.Namespace, home: Home, console: Console) -> PipelineDir:
    from neurosweep.pipeline.create import create_pipeline
    from neurosweep.pipeline.journal import read_state
    from neurosweep.pipeline.spec import find_pipeline

    try:
        file = find_pipeline(args.file, args.entry)
        pipeline = create_pipeline(file, home, on=args.on, say=console.line)
    except KeyboardInterrupt:
        msg = "interrupted before the pipeline existed: nothing was run; give the command again"
        raise KeyboardInterrupt(msg) from None
    state = read_state(pipeline)
    if args.on is None and state.closed is not None:
        args.on = state.created["spec"]["on"]  # not where an earlier run was sent to
    return pipeline


def _find(home: Home, text: str) -> PipelineDir:
    """Return the pipeline of an id, or the one of a name.

    Raises
    ------
    StudyError
        When there are several of the name.
    """
    from neurosweep.core.errors import StudyError

    found = sorted(home.pipelines_dir.glob(f"{glob.escape(text)}-????????/ledger.jsonl"))
    if home.pipeline(text).ledger.exists() or not found:
        return home.pipeline(text)
    if len(found) > 1:
        listed = ", ".join(path.parent.name for path in found)
        raise StudyError(f"there are {len(found)} pipelines '{text}'; name one: {listed}")
    return home.pipeline(found[0].parent.name)


def _warn_of_others(home: Home, pipeline: PipelineDir, console: Console) -> None:
    """Tell of tasks of the same file, or of other code, that may still run."""
    from neurosweep.pipeline.journal import read_state

    name = pipeline.pipeline_id.rpartition("-")[0]
    for path in sorted(home.pipelines_dir.glob(f"{name}-????????/ledger.jsonl")):
        other = home.pipeline(path.parent.name)
        count = len(read_state(other).open_tasks()) if other != pipeline else 0
        if count:
            command = f"neurosweep pipeline resume {other.pipeline_id}{home_flag(home)}"
            console.line(
                f"warning: file, code or data have changed: this is not pipeline "
                f"{other.pipeline_id}, of which {count} tasks may still run; go on with it by: "
                f"{command}, or end it with cancel instead of resume"
            )


def _drive(args: argparse.Namespace, pipeline: PipelineDir, console: Console) -> int:
    from neurosweep.cli import exits
    from neurosweep.pipeline.driver import drive
    from neurosweep.pipeline.journal import Hooks, read_state
    from neurosweep.pipeline.notify import PipelineNotifier
    from neurosweep.pipeline.telling import Teller

    own = read_state(pipeline).created["spec"].get("notify")
    home = Home(pipeline.root.parent.parent)
    console.line(f"pipeline {pipeline.pipeline_id} in {pipeline.root}")
    console.take_logs()
    teller = Teller(console.line, pipeline)
    command = own if args.notify is None else args.notify
    notifier = PipelineNotifier(command or None, pipeline)

    def tell(event: Mapping[str, Any]) -> None:
        teller.on_event(event)
        notifier.on_event(event)

    hooks = Hooks(on_event=tell, on_tick=teller.on_tick, on_executor=notifier.executor)
    try:
        with notifier.told_of_errors():
            result = drive(pipeline, on=args.on, workers=args.workers, hooks=hooks)
    except KeyboardInterrupt:
        which = f"{pipeline.pipeline_id}{home_flag(home)}"
        msg = f"interrupted; what runs goes on. Go on with: neurosweep pipeline resume {which}"
        msg += f"\nor end what runs with: neurosweep pipeline cancel {which}"
        raise KeyboardInterrupt(msg) from None
    _show(pipeline, result, console)
    if not args.no_mlflow:
        _mirror(pipeline, result, console)
    return exits.OK if result["state"] == "complete" else exits.NOT_REACHED


def _show(pipeline: PipelineDir, result: Mapping[str, Any], console: Console) -> None:
    """Print a result, before anything else may fail or be interrupted."""
    from neurosweep.pipeline.telling import result_lines, result_table

    header, rows = result_table(result)
    if rows:
        console.table(header, rows)
    console.lines(result_lines(result))
    console.line(f"result: {pipeline.result_json}")
    console.data({**result, "folder": str(pipeline.root)})


def _mirror(pipeline: PipelineDir, result: dict[str, Any], console: Console) -> None:
    from neurosweep.core.errors import NeurosweepError
    from neurosweep.pipeline.mirror import mirror_result

    flag = home_flag(Home(pipeline.root.parent.parent))
    again = f"bring it there with: neurosweep pipeline resume {pipeline.pipeline_id}{flag}"
    try:
        mirror_result(pipeline, result)
    except NeurosweepError as error:
        console.line(f"warning: MLflow is not up to date: {error}; {again}")
    except KeyboardInterrupt:
        msg = f"interrupted; the result is there, but MLflow is not up to date: {again}"
        raise KeyboardInterrupt(msg) from None


def _cancel(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Ask the driver to end a pipeline, or end it here where it has none.

    Raises
    ------
    StudyError
        When there is no such pipeline, or it has ended.
    """
    from neurosweep.cli import exits
    from neurosweep.core.errors import StudyError
    from neurosweep.pipeline.driver import drive
    from neurosweep.pipeline.journal import Hooks, read_state
    from neurosweep.pipeline.telling import Teller
    from neurosweep.research.control import send_request
    from neurosweep.research.lock import live_driver

    pipeline = _find(home, args.pipeline)
    closed = read_state(pipeline).closed
    if closed is not None:
        msg = f"pipeline {pipeline.pipeline_id}: has ended ({closed['state']}); nothing to cancel"
        raise StudyError(msg)
    holder = live_driver(pipeline.lock)
    request = send_request(pipeline, "cancel", reason=args.reason)
    if holder is None:
        console.take_logs()
        teller = Teller(console.line, pipeline)
        hooks = Hooks(on_event=teller.on_event, on_tick=teller.on_tick)
        _show(pipeline, drive(pipeline, hooks=hooks), console)
        return exits.OK
    console.line(f"asked the driver of {pipeline.pipeline_id} ({holder})")
    taken = _is_taken(pipeline.control_dir / f"{request}.json")
    obeyed = request in read_state(pipeline).requests
    if taken and not obeyed:
        msg = f"pipeline {pipeline.pipeline_id}: has ended meanwhile; nothing was cancelled"
        raise StudyError(msg)
    told = "ends what runs and closes the pipeline as cancelled"
    late = "has not answered yet and obeys at its next look"
    console.line(f"it {told if obeyed else late}")
    data = {"v": 1, "pipeline": pipeline.pipeline_id, "request": request}
    console.data(data | {"driver": True, "obeyed": obeyed})
    return exits.OK


def _is_taken(path: Path) -> bool:
    """Wait a moment for a request to be taken."""
    clock = SystemClock()
    deadline = clock.monotonic() + _ANSWER_S
    while path.exists() and clock.monotonic() < deadline:
        clock.sleep(_LOOK_S)
    return not path.exists()


def _status(args: argparse.Namespace, home: Home, console: Console) -> int:
    from neurosweep.cli import exits
    from neurosweep.pipeline.journal import read_state
    from neurosweep.pipeline.telling import (
        cost_text,
        next_lines,
        result_table,
        status_lines,
        status_of,
        status_table,
    )

    flag = home_flag(home)
    if args.pipeline is not None:
        pipeline = _find(home, args.pipeline)
        status = status_of(pipeline, read_state(pipeline))
        console.lines(status_lines(status))
        console.table(*status_table(status))
        if status["rows"]:
            console.line()
            console.table(*result_table(status))
        console.lines(next_lines(status, flag))
        console.data(status)
        return exits.OK
    found = []
    for path in sorted(home.pipelines_dir.glob("*/ledger.jsonl")):
        pipeline = home.pipeline(path.parent.name)
        if not pipeline.pipeline_id.startswith("."):
            found.append(status_of(pipeline, read_state(pipeline)))
    rows = [
        [one["pipeline"], one["state"], f"{one['there']} of {one['num_tasks']}", cost_text(one)]
        for one in found
    ]
    if rows:
        console.table(["pipeline", "state", "tasks there", "cost"], rows)
    else:
        console.line(f"no pipelines in {home.root}; make one with: neurosweep pipeline run FILE")
    console.data({"v": 1, "pipelines": found})
    return exits.OK
