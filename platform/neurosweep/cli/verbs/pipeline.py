"""``neurosweep pipeline``: run stages that follow from each other, each of them once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from neurosweep.cli.options import add_home, add_json, home_flag, open_home, positive

if TYPE_CHECKING:
    from neurosweep.cli.console import Console
    from neurosweep.cli.parser import Subparsers
    from neurosweep.core.layout import Home, PipelineDir

_ABOUT = {
    "run": "run the stages of a pipeline file; what is already there is not made again",
    "resume": "go on with a pipeline; tasks that failed are tried again",
    "status": "say where a pipeline stands, or list all",
}


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb and its actions."""
    text = "run stages that follow from each other, such as encoder, adapters, soup"
    parser = subparsers.add_parser(
        "pipeline",
        help=text,
        description=text,
        epilog="examples:\n  neurosweep pipeline run sentences\n"
        "  neurosweep pipeline run my.toml --on slurm:my-cluster\n  neurosweep pipeline status",
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
            action.add_argument("pipeline", metavar="PIPELINE", nargs=many, help="its id")
        if name != "status":
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
    parser.add_argument("--verbose", action="store_true", help="show what the driver logs")


def run(args: argparse.Namespace) -> int:
    """Do what is asked.

    Raises
    ------
    ConfigError
        When the file, its recipe or a stage is wrong.
    StudyError
        When there is no such pipeline.
    """
    from neurosweep.cli.console import Console

    console = Console(as_json=args.json)
    if args.action == "status":
        return _status(args, open_home(args.home, create=False), console)
    home = open_home(args.home, create=True)
    if args.on is not None:
        from neurosweep.cli.launch import check_place

        check_place(args.on)
    if args.action == "resume":
        return _drive(args, home.pipeline(args.pipeline), console)
    from neurosweep.pipeline.create import create_pipeline
    from neurosweep.pipeline.spec import find_pipeline

    try:
        pipeline = create_pipeline(find_pipeline(args.file, args.entry), home, say=console.line)
    except KeyboardInterrupt:
        msg = "interrupted before the pipeline existed: nothing was run; give the command again"
        raise KeyboardInterrupt(msg) from None
    _warn_of_others(home, pipeline, console)
    return _drive(args, pipeline, console)


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
                f"{command}"
            )


def _drive(args: argparse.Namespace, pipeline: PipelineDir, console: Console) -> int:
    from neurosweep.cli import exits
    from neurosweep.core.layout import Home
    from neurosweep.pipeline.driver import drive
    from neurosweep.pipeline.journal import Hooks
    from neurosweep.pipeline.telling import Teller, result_lines, result_table

    home = Home(pipeline.root.parent.parent)
    console.line(f"pipeline {pipeline.pipeline_id} in {pipeline.root}")
    console.take_logs()
    teller = Teller(console.line)
    try:
        result = drive(
            pipeline, on=args.on, workers=args.workers, hooks=Hooks(on_event=teller.on_event)
        )
    except KeyboardInterrupt:
        command = f"neurosweep pipeline resume {pipeline.pipeline_id}{home_flag(home)}"
        msg = f"interrupted; what runs goes on. Go on with: {command}"
        raise KeyboardInterrupt(msg) from None
    if not args.no_mlflow:
        _mirror(pipeline, result, console)
    header, rows = result_table(result)
    if rows:
        console.table(header, rows)
    console.lines(result_lines(result))
    console.data(result | {"folder": str(pipeline.root)})
    return exits.OK if result["state"] == "complete" else exits.NOT_REACHED


def _mirror(pipeline: PipelineDir, result: dict[str, Any], console: Console) -> None:
    from neurosweep.core.errors import NeurosweepError
    from neurosweep.pipeline.mirror import mirror_result

    try:
        mirror_result(pipeline, result)
    except NeurosweepError as error:
        console.line(f"warning: MLflow is not up to date: {error}")


def _status(args: argparse.Namespace, home: Home, console: Console) -> int:
    from neurosweep.cli import exits
    from neurosweep.pipeline.journal import read_state
    from neurosweep.pipeline.telling import status_of, status_table

    if args.pipeline is not None:
        status = status_of(home.pipeline(args.pipeline), read_state(home.pipeline(args.pipeline)))
        console.line(f"pipeline {status['pipeline']}: {status['state']}")
        console.table(*status_table(status))
        console.data(status)
        return exits.OK
    found = []
    for path in sorted(home.pipelines_dir.glob("*/ledger.jsonl")):
        pipeline = home.pipeline(path.parent.name)
        if not pipeline.pipeline_id.startswith("."):
            found.append(status_of(pipeline, read_state(pipeline)))
    rows = [
        [one["pipeline"], one["state"], f"{one['there']} of {one['num_tasks']}"] for one in found
    ]
    if rows:
        console.table(["pipeline", "state", "tasks there"], rows)
    else:
        console.line(f"no pipelines in {home.root}; make one with: neurosweep pipeline run FILE")
    console.data({"v": 1, "pipelines": found})
    return exits.OK
