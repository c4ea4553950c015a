"""Open the test part of a study with its final configuration, and show what came out."""

from __future__ import annotations

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.launch import RunOptions
from neurosweep.cli.options import home_flag
from neurosweep.cli.summary import home_of
from neurosweep.cli.wording import interval_text
from neurosweep.core.layout import StudyDir


def confirm(
    study: StudyDir, console: Console, options: RunOptions, trial: str | None, reason: str
) -> int:
    """Confirm a configuration on the test part and return the exit code.

    Raises
    ------
    StudyError
        When the study has not ended, has no score or no test part, or the test part was opened
        before and no reason is given.
    """
    from neurosweep.records.fold import load_state
    from neurosweep.records.mlflow_worker import ProcessMirror
    from neurosweep.research.confirm import confirm as confirm_study
    from neurosweep.research.setup import build_executor

    state = load_state(study)
    executor = build_executor(study, state, on=options.on, workers=options.workers)
    console.take_logs()
    home = home_of(study)
    mirror = ProcessMirror(study, home) if options.mlflow else None
    console.line("freezing the configuration, then training it with fresh seeds for the test part")
    result = confirm_study(study, executor, trial=trial, reason=reason, mirror=mirror)
    console.line(f"{result.champion}: {result.seeds} seeds scored, {result.failed} failed")
    header = ("metric", "mean over seeds", "sd", "seeds")
    rows = [
        (
            name,
            f"{found.mean:.4f}{interval_text(found.low, found.high)}",
            f"{found.sd:.4f}",
            " ".join(f"{value:.4f}" for value in found.values),
        )
        for name, found in result.metrics.items()
    ]
    console.table(header, rows)
    times = "once" if result.opening == 1 else f"{result.opening} times"
    console.line(f"the test part of this study has been opened {times}")
    console.line(f"neurosweep study report {study.study_id}{home_flag(home)}  # with the result")
    code = exits.NOT_REACHED if result.failed or not result.seeds else exits.OK
    console.data({"study": study.study_id, **result.to_dict(), "exit_code": code})
    return code
