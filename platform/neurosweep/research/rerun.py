"""Run a recorded trial again, from the same code, data, configuration and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.errors import ExecutorError, StudyError
from neurosweep.core.files import atomic_write_json
from neurosweep.core.layout import Home, StudyDir, TrialDir
from neurosweep.core.provenance import environment_info
from neurosweep.exec.protocol import Executor, TaskPhase, TaskSpec, TaskView
from neurosweep.records.fold import load_state
from neurosweep.records.ledger import read_ledger
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.records.trial import Purpose
from neurosweep.research.create import ensure_data
from neurosweep.research.endings import Ending, judge_silence, read_status
from neurosweep.research.loop import task_shape
from neurosweep.research.planning import RunFolders
from neurosweep.research.scoring import Scorer
from neurosweep.research.status import floor_of

# 95 % of the differences between two runs that differ in their seed alone are smaller.
_BAND_IN_SD = 1.959964 * 2.0**0.5
_SAME = 1e-12


@dataclass(frozen=True)
class Rerun:
    """Compare a trial with its repetition.

    Attributes
    ----------
    trial, metric
        Which trial, and the objective.
    recorded, value
        Objective then and now.
    band
        Differences up to this are noise, as measured over the seeds of the floor; 0 when the
        floor has fewer than two scores, so that only equality agrees.
    agrees
        Whether the two differ by no more than the band.
    identical
        Whether the predictions are the same to the byte.
    folder
        Where the repetition lies.
    notes
        What differs in the circumstances, for example a version of a package.
    """

    trial: str
    metric: str
    recorded: float
    value: float
    band: float
    agrees: bool
    identical: bool
    folder: str
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        return {"v": 1, **asdict(self)}


def rerun(
    study: StudyDir,
    trial: str,
    executor: Executor,
    *,
    clock: Clock | None = None,
    poll_s: float = 0.1,
) -> Rerun:
    """Run a scored trial again and compare; the study and its ledger stay as they are.

    Parameters
    ----------
    study
        Folder of the study.
    trial
        Id of the trial.
    executor
        Runs it; closed at the end.
    clock
        Source of time.
    poll_s
        Seconds between two looks at the job.

    Raises
    ------
    StudyError
        When there is no such trial, it was not scored, or the repetition failed.
    WrongCodeError
        When the study's snapshot of the code was changed.
    DataError
        When its data cannot be prepared again as they were.
    """
    try:
        return _rerun(study, trial, executor, clock or SystemClock(), poll_s)
    finally:
        executor.close()


def _rerun(study: StudyDir, trial: str, executor: Executor, clock: Clock, poll_s: float) -> Rerun:
    state = load_state(study)
    found = _scored_trial(state, trial)
    created = state.created
    home = Home(study.root.parent.parent)
    folders = RunFolders(study, created)
    folders.verify_code()
    ensure_data(created, home)
    target = _new_folder(study, trial)
    atomic_write_json(target.run_json, folders.run_data(found.plan))
    files = target.attempt(1)
    files.root.mkdir(parents=True)
    shape = task_shape(state.spec, folders.code_root)
    task = TaskSpec(trial, 1, files.root, shape.cores, shape.memory_mb, shape.timeout_s, shape.env)
    ending = _run(executor, f"{state.study}.rerun.{target.root.name}", task, clock, poll_s)
    if not ending.done:
        msg = f"the repetition of {trial} ended in {ending.kind}: {ending.error.get('text', '')}"
        raise StudyError(f"{msg}; see {files.log}")
    scorer = Scorer(home.root / created["data_info"]["secret"] / "val_refs.jsonl", state.metric)
    scored = scorer.score(found.plan, 1, files, target.scores_json, ending.files)
    identical = scored.predictions_sha == _recorded_sha(study, found)
    notes = _environment_changes(created)
    return _compare(state, found, scored.metrics[state.metric], target, notes, identical=identical)


def _recorded_sha(study: StudyDir, trial: TrialState) -> str:
    """Return the hash of the predictions that the ledger says were scored."""
    for event in reversed(read_ledger(study.ledger)):
        if event["event"] == "trial_scored" and event["data"]["trial"] == trial.plan.trial:
            return str(event["data"]["predictions_sha"])
    raise AssertionError(trial.plan.trial)


def _scored_trial(state: StudyState, trial: str) -> TrialState:
    found = state.trials.get(trial)
    if found is None:
        msg = f"study {state.study} has no trial '{trial}'; its ids look like r01t000 or f000"
        raise StudyError(msg)
    if found.plan.purpose is Purpose.CONFIRM:
        raise StudyError(f"{trial} is a confirmation: repeating it would open the test part again")
    if found.phase is not Phase.SCORED:
        where = f"ended in {found.kind}" if found.phase is Phase.FAILED else f"is {found.phase}"
        raise StudyError(f"trial {trial} {where}; only a scored trial can be compared")
    return found


def _new_folder(study: StudyDir, trial: str) -> TrialDir:
    reruns = study.root / "reruns"
    reruns.mkdir(exist_ok=True)
    number = 1
    while True:
        folder = reruns / f"{trial}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        return TrialDir(folder)


def _run(executor: Executor, token: str, task: TaskSpec, clock: Clock, poll_s: float) -> Ending:
    executor.submit(token, [task])
    while True:
        try:
            view = executor.poll().get(task.key, TaskView(TaskPhase.GONE))
        except ExecutorError:
            clock.sleep(poll_s)
            continue
        if view.phase in (TaskPhase.ENDED, TaskPhase.GONE):
            return read_status(task.files, view.kind_hint) or judge_silence(view, view.kind_hint)
        clock.sleep(poll_s)


def _compare(
    state: StudyState,
    trial: TrialState,
    value: float,
    target: TrialDir,
    notes: list[str],
    *,
    identical: bool,
) -> Rerun:
    recorded = state.value(trial)
    assert recorded is not None
    sd = floor_of(state).get("sd")
    if sd is None:
        notes = [*notes, "the floor has fewer than two scores: only equality counts as agreement"]
    band = _BAND_IN_SD * (sd or 0.0)
    return Rerun(
        trial=trial.plan.trial,
        metric=state.metric,
        recorded=recorded,
        value=value,
        band=band,
        agrees=abs(value - recorded) <= band + _SAME,
        identical=identical,
        folder=str(target.root),
        notes=notes,
    )


def _environment_changes(created: Mapping[str, Any]) -> list[str]:
    then, now = created.get("env", {}), environment_info()
    return [
        f"{name} was {then.get(name, 'absent')}, is {now.get(name, 'absent')}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
