"""Create a study, drive it to its end, say what came out, and choose the exit code."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.following import Progress
from neurosweep.cli.gates import Condition, parse_condition, violations
from neurosweep.cli.options import home_flag, parse_on
from neurosweep.cli.summary import home_of, summarize
from neurosweep.cli.wording import (
    changes_text,
    cost_text,
    failure_lines,
    failures_text,
    grid_table,
    headline,
    next_steps,
    results_table,
    where_report,
)
from neurosweep.core.clock import SystemClock
from neurosweep.core.errors import ConfigError, ExecutorError, NeurosweepError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.endings import refilled_text
from neurosweep.records.fold import load_state
from neurosweep.records.state import StudyState

if TYPE_CHECKING:
    from neurosweep.exec.profiles import Profile
    from neurosweep.records.spec import StudySpec
    from neurosweep.research.loop import Driver
    from neurosweep.research.notify import Notifier
    from neurosweep.research.progress import DriveResult

_GRID_ROWS = 40
_HOPELESS = re.compile(
    r"invalid (partition|account|qos|feature|generic resource|job array|option)"
    r"|configuration is not available|time limit is invalid|unrecognized option",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RunOptions:
    """Hold what the command line says about driving a study.

    Attributes
    ----------
    on, workers
        Executor and number of attempts at a time; None takes the study's own.
    conditions
        When the study still fails its job.
    mlflow
        Whether MLflow is written while the study runs.
    notify
        Command that tells a person; None takes the study's own.
    """

    on: str | None = None
    workers: int | None = None
    conditions: tuple[Condition, ...] = ()
    mlflow: bool = True
    notify: str | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> RunOptions:
        """Read the options that `options.add_running` added.

        Raises
        ------
        ConfigError
            When a condition is not understood.
        """
        conditions = tuple(parse_condition(text) for text in args.fail_if)
        notify = getattr(args, "notify", None)
        return cls(args.on, args.workers, conditions, not args.no_mlflow, notify)


def make_spec(data: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> StudySpec:
    """Return a specification with the changes of the command line.

    Raises
    ------
    ConfigError
        When it holds problems; all are listed.
    """
    import copy

    from neurosweep.core.config import set_dotted, validate
    from neurosweep.records.spec import StudySpec

    whole = copy.deepcopy(dict(data))
    for path, value in changes.items():
        set_dotted(whole, path, value)
    return validate(StudySpec, whole, where)


def create(spec: StudySpec, home: Home, console: Console) -> StudyDir:
    """Create a study and say what is being done.

    Raises
    ------
    NeurosweepError
        When anything in it is wrong; no study exists then.
    """
    from neurosweep.research.create import create_study

    check_place(spec.execution.on)

    try:
        study = create_study(spec, home, say=console.line)
    except KeyboardInterrupt:
        msg = "interrupted before the study existed: nothing was run; give the same command again"
        raise KeyboardInterrupt(msg) from None
    console.line(f"study {study.study_id} in {study.root}")
    return study


def check_place(on: str) -> None:
    """Refuse an executor or a cluster profile that does not exist, before anything is written.

    Raises
    ------
    ConfigError
        When there is no such executor or profile, the profile holds problems, or its cluster
        refuses for good what it asks.
    ExecutorError
        When SLURM is asked for on a machine without it.
    """
    name, option = parse_on(on)
    if name != "slurm":
        return
    from neurosweep.exec.profiles import load_profile

    profile = load_profile(option)
    if shutil.which("sbatch") is None:
        msg = f"--on {on}: sbatch is not installed here; neurosweep doctor --need slurm says more"
        raise ExecutorError(msg)
    _refuse_hopeless(on, profile)


def _refuse_hopeless(on: str, profile: Profile) -> None:
    """Refuse a profile that sbatch refuses for good; what may pass is not asked about here."""
    from neurosweep.cli.cluster_checks import request_words
    from neurosweep.exec.slurm_state import run_slurm

    try:
        run_slurm(["sbatch", "--test-only", *request_words(profile), "--wrap=true"], 10.0)
    except ExecutorError as error:
        if _HOPELESS.search(str(error)):
            said = str(error).strip().splitlines()[-1].rpartition("error: ")[2]
            msg = f"--on {on}: SLURM refuses what the profile asks: {said}; "
            raise ConfigError(f"{msg}`neurosweep doctor --on {on}` says what to change") from error


def drive(study: StudyDir, console: Console, options: RunOptions) -> int:
    """Run a study from where it is until it ends, and return the exit code."""
    state = load_state(study)
    if state.closed is None:
        check_place(options.on or state.spec["execution"]["on"])
        console.take_logs()
        notifier = notifier_of(study, state, options)
        with Progress(study, console, notifier) as progress, notifier.told_of_errors():
            result = _run(_driver(study, options, progress))
        if not result.mirrored:
            command = f"neurosweep study report {study.study_id}{home_flag(home_of(study))}"
            console.line(f"MLflow is not up to date; bring it there with: {command}")
    return conclude(study, console, options.conditions)


def notifier_of(study: StudyDir, state: StudyState, options: RunOptions) -> Notifier:
    """Return who is told of a study's events: the command line's command, else its own."""
    from neurosweep.research.notify import Notifier

    own = state.spec.get("notify", {}).get("command")
    command = own if options.notify is None else options.notify
    return Notifier(command or None, study)


def _run(driver: Driver) -> DriveResult:
    """Run a driver; one whose slots are shared with others asks for its share again and again."""
    if driver.executor.slots_file is None:
        return driver.run()
    from neurosweep.research.together import run_together

    ending = run_together({driver.study.study_id: driver})[driver.study.study_id]
    if isinstance(ending, NeurosweepError):
        raise ending
    return ending


def _driver(study: StudyDir, options: RunOptions, progress: Progress) -> Driver:
    from neurosweep.records.mlflow_worker import ProcessMirror
    from neurosweep.research.journal import Hooks
    from neurosweep.research.setup import build_driver

    hooks = Hooks(
        on_event=progress.on_event,
        on_round_closed=progress.on_round_closed,
        on_tick=progress.on_tick,
        on_executor=progress.on_executor,
    )
    mirror = ProcessMirror(study, home_of(study)) if options.mlflow else None
    return build_driver(study, on=options.on, workers=options.workers, mirror=mirror, hooks=hooks)


def conclude(study: StudyDir, console: Console, conditions: Sequence[Condition] = ()) -> int:
    """Print what a study came to and return the exit code that follows."""
    summary = summarize(study, load_state(study), SystemClock().now(), detail=True)
    broken = violations(summary, conditions)
    code = _exit_code(summary, broken)
    flag = home_flag(home_of(study))
    show_summary(console, summary, flag)
    if code == exits.INTERRUPTED:
        console.line("interrupted; running trials go on, and nothing is lost or run twice")
        console.line(f"end them with: neurosweep study cancel {study.study_id}{flag}")
    else:
        console.lines([f"not reached: {text}" for text in broken])
    if console.as_json:
        console.data(result_data(summary, flag) | {"violations": broken, "exit_code": code})
    return code


def _exit_code(summary: Mapping[str, Any], broken: Sequence[str]) -> int:
    if summary["state"] == "resumable":
        return exits.INTERRUPTED
    return exits.NOT_REACHED if broken else exits.OK


def result_data(summary: Mapping[str, Any], flag: str) -> dict[str, Any]:
    """Return a summary with its links and the command that goes on."""
    from neurosweep.cli.summary import links_of

    open_ended = summary["state"] in ("resumable", "paused")
    resume = f"neurosweep study resume {summary['study']}{flag}"
    return {
        **summary,
        "mlflow": dict(links_of(StudyDir(Path(summary["folder"])))),
        "ui": f"neurosweep ui{flag}",
        "resume": resume if open_ended else None,
    }


def show_summary(console: Console, summary: Mapping[str, Any], flag: str) -> None:
    """Print the figures of a study for people."""
    console.line()
    console.line(headline(summary))
    if summary["best"] is not None or summary["default"]["seeds"]:
        console.line()
        console.table(*results_table(summary))
    if len(summary.get("grid", ())) > 1:
        console.line()
        header, rows = grid_table(summary)
        console.table(header, rows[:_GRID_ROWS])
        if len(rows) > _GRID_ROWS:
            console.line(f"and {len(rows) - _GRID_ROWS} more; --json lists all")
        console.line()
    if summary["agent"] != "default" and summary["best"] is not None:
        console.line(f"best values: {changes_text(summary['best']['overrides'])}")
    if summary["failures"]:
        console.line(f"failures: {failures_text(summary['failures'])}")
        for error in summary["errors"]:
            console.lines(failure_lines(error))
    if summary["refilled"]:
        console.line(refilled_text(summary["refilled"]))
    console.line(f"cost: {cost_text(summary['cost'])}")
    console.line(f"report: {where_report(summary, flag)}")
    console.line()
    steps = next_steps(summary, flag)
    width = max(len(command) for command, _ in steps)
    console.lines([f"{command.ljust(width)}  # {what}" for command, what in steps])
