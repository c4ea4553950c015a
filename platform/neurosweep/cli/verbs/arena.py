"""``neurosweep arena``: compare agents on one recipe, with one budget, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.options import (
    add_budget,
    add_home,
    add_json,
    add_running,
    execution_changes,
    home_flag,
    open_home,
)

if TYPE_CHECKING:
    from neurosweep.cli.gates import Condition
    from neurosweep.cli.launch import RunOptions
    from neurosweep.cli.parser import Subparsers
    from neurosweep.core.errors import NeurosweepError
    from neurosweep.core.layout import StudyDir
    from neurosweep.research.arena import Arena
    from neurosweep.research.loop import Driver
    from neurosweep.research.notify import Notifier

_WHICH = "an arena's id, or its name (then the newest)"
_HEADER = ("arm", "agent", "state", "trials", "best", "default", "core-h")


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb and its actions."""
    text = "compare agents: several studies under one driver, slots fairly shared"
    parser = subparsers.add_parser(
        "arena",
        help=text,
        description=f"{text}. Data, budget and training seeds are the same for all.",
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    start = _action(actions, "start", _start, "create the studies of an arena.toml and run them")
    start.add_argument("file", metavar="FILE", type=Path, help="a study.toml with [[arms]]")
    add_budget(start)
    add_running(start)
    resume = _action(actions, "resume", _resume, "go on with an arena whose driver has ended")
    resume.add_argument("arena", metavar="ARENA", help=_WHICH)
    add_running(resume)
    status = _action(actions, "status", _status, "say where every arm stands; or list all arenas")
    status.add_argument("arena", metavar="ARENA", nargs="?", help=_WHICH)
    add_home(status)
    add_json(status)


def _action(
    actions: Any, name: str, run_action: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(run_action=run_action)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    action: Callable[[argparse.Namespace], int] = args.run_action
    return action(args)


def _start(args: argparse.Namespace) -> int:
    from neurosweep.cli.launch import RunOptions, check_place, make_spec
    from neurosweep.research.arena import create_arena, read_arena_toml

    options = RunOptions.of(args)
    changes = execution_changes(args)
    arena_spec, specs = read_arena_toml(args.file)
    specs = {
        label: make_spec(spec.model_dump(mode="json"), changes, str(args.file))
        for label, spec in specs.items()
    }
    check_place(next(iter(specs.values())).execution.on)
    console = Console(as_json=args.json)
    arena = create_arena(arena_spec, specs, open_home(args.home, create=True), say=console.line)
    console.line(f"arena {arena.id} in {arena.root}")
    return _drive(arena, console, options)


def _resume(args: argparse.Namespace) -> int:
    from neurosweep.cli.launch import RunOptions
    from neurosweep.research.arena import open_arena

    options = RunOptions.of(args)
    execution_changes(args)
    arena = open_arena(open_home(args.home, create=False), args.arena)
    return _drive(arena, Console(as_json=args.json), options)


def _status(args: argparse.Namespace) -> int:
    from neurosweep.research.arena import list_arenas, open_arena

    home, console = open_home(args.home, create=False), Console(as_json=args.json)
    if args.arena is None:
        arenas = list_arenas(home)
        console.lines(arenas or [f"no arena in {home.root}"])
        console.data({"v": 1, "arenas": arenas})
        return exits.OK
    _show(open_arena(home, args.arena), console)
    return exits.OK


def _drive(arena: Arena, console: Console, options: RunOptions) -> int:
    from neurosweep.cli.launch import check_place, notifier_of
    from neurosweep.core.errors import LockedError, NeurosweepError
    from neurosweep.records.fold import load_state
    from neurosweep.research.together import run_together

    states = {label: load_state(study) for label, study in arena.studies.items()}
    pool: dict[str, object] = {}
    drivers: dict[str, Driver] = {}
    notifiers: dict[str, Notifier] = {}
    for label, study in arena.studies.items():
        if states[label].closed is None:
            check_place(options.on or states[label].spec["execution"]["on"])
            notifiers[label] = notifier_of(study, states[label], options)
            drivers[label] = _driver(label, study, console, options, pool, notifiers[label])
    console.take_logs()
    endings = run_together(drivers) if drivers else {}
    errors = {label: end for label, end in endings.items() if isinstance(end, NeurosweepError)}
    for label, error in errors.items():
        if not isinstance(error, LockedError):
            notifiers[label].trouble("driver", f"its driver has ended: {error}")
    return _show(arena, console, errors, options.conditions)


def _driver(
    label: str,
    study: StudyDir,
    console: Console,
    options: RunOptions,
    pool: dict[str, object],
    notifier: Notifier,
) -> Driver:
    from neurosweep.cli.summary import home_of
    from neurosweep.records.mlflow_worker import ProcessMirror
    from neurosweep.research.journal import Hooks
    from neurosweep.research.setup import build_driver

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "round_closed":
            data = event["data"]
            best = f", best {data['best']['value']:.4f}" if data["best"] else ""
            counts = f"{data['done']} done, {data['failed']} failed"
            console.line(f"{label}: round {data['round']} closed, {counts}{best}")
        elif event["event"] == "study_closed":
            _report(study, label, console)
        notifier.on_event(event)

    mirror = ProcessMirror(study, home_of(study)) if options.mlflow else None
    return build_driver(
        study,
        on=options.on,
        workers=options.workers,
        mirror=mirror,
        hooks=Hooks(on_event=on_event, on_tick=notifier.tick, on_executor=notifier.executor),
        pool=pool,
    )


def _report(study: StudyDir, label: str, console: Console) -> None:
    from neurosweep.report.build import build

    try:
        build(study)
    except Exception as error:  # noqa: BLE001 - a page that fails costs no trial
        console.line(f"{label}: the report could not be built ({error})")


def _show(
    arena: Arena,
    console: Console,
    errors: Mapping[str, NeurosweepError] | None = None,
    conditions: Sequence[Condition] | None = None,
) -> int:
    """Print one line an arm, what stopped those that stopped, and what was not reached.

    Whoever only looks gives no conditions, and nothing is held against an arm.
    """
    from neurosweep.cli.gates import violations
    from neurosweep.cli.summary import home_of, summarize
    from neurosweep.core.clock import SystemClock
    from neurosweep.records.fold import load_state

    now, errors = SystemClock().now(), errors or {}
    summaries = {
        label: summarize(study, load_state(study), now) for label, study in arena.studies.items()
    }
    console.line()
    console.table(_HEADER, [_row(label, summary) for label, summary in summaries.items()])
    broken = {
        label: [] if conditions is None else violations(summary, conditions)
        for label, summary in summaries.items()
    }
    for label, error in errors.items():
        console.line(f"{label}: {error}")
    for label, texts in broken.items():
        console.lines([f"{label}: not reached: {text}" for text in texts])
    states = {summary["state"] for summary in summaries.values()}
    if states & {"resumable", "paused"}:
        console.line(f"go on with: neurosweep arena resume {arena.id}")
    for label, summary in summaries.items():
        console.lines(_more(label, summary))
    home = home_of(next(iter(arena.studies.values())))
    console.line(f"neurosweep ui{home_flag(home)}  # open MLflow")
    code = exits.NOT_REACHED if errors or any(broken.values()) else exits.OK
    code = exits.INTERRUPTED if "resumable" in states and not errors else code
    console.data(
        {
            "v": 1,
            "arena": arena.id,
            "arms": [{"label": label, **summary} for label, summary in summaries.items()],
            "errors": {label: str(error) for label, error in errors.items()},
            "violations": broken,
            "exit_code": code,
        }
    )
    return code


def _more(label: str, summary: Mapping[str, Any]) -> list[str]:
    from neurosweep.cli.summary import show_path
    from neurosweep.cli.wording import cost_text, failures_text

    lines = [f"{label}: {cost_text(summary['cost'])}"]
    if summary["failures"]:
        lines.append(f"{label}: failures: {failures_text(summary['failures'])}")
    if summary["report"]:
        lines.append(f"{label}: report: {show_path(summary['report'])}")
    return lines


def _row(label: str, summary: Mapping[str, Any]) -> list[str]:
    metric, trials, best = summary["objective"]["metric"], summary["trials"], summary["best"]
    default = summary["default"]["mean"].get(metric)
    shown = "-"
    if best is not None:
        from neurosweep.cli.wording import interval_text

        shown = f"{best['value']:.4f}{interval_text(best['low'], best['high'])}"
    return [
        label,
        summary["agent"],
        summary["state"],
        f"{trials['done']}+{trials['failed']} of {trials['planned']}",
        shown,
        "-" if default is None else f"{default:.4f}",
        f"{summary['core_hours']:.2f}",
    ]
