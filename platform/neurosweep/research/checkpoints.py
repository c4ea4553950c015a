"""Which checkpoints stay after scoring: the small ones, and of large ones the running best's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from neurosweep.core.layout import StudyDir
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.research.best import running_best

_MEGABYTE = 1024 * 1024


def tidy(study: StudyDir, state: StudyState, trial: TrialState) -> None:
    """Decide on the checkpoint of the attempt of a trial that has just ended.

    Kept are those of scored trials up to ``budget.keep_mb``, and the one of the running best
    whatever its size. When the running best changes, the one before loses a large checkpoint.
    What its attempts were to go on from goes once nothing more will happen to the trial.

    Parameters
    ----------
    study
        Folder of the study.
    state
        Its state, with the end of the attempt and its scores.
    trial
        The trial.
    """
    limit = int(float(state.spec["budget"].get("keep_mb", 64.0)) * _MEGABYTE)
    best = running_best(state)
    best_trial = "" if best is None else best.trial
    _tidy_one(study, trial, best_trial, limit)
    if trial.phase.final:
        for number in range(1, len(trial.attempts) + 1):
            shutil.rmtree(study.trial(trial.plan.trial).attempt(number).resume, ignore_errors=True)
    if trial.plan.trial == best_trial:
        for other in state.trials.values():
            if other.phase is Phase.SCORED and other is not trial:
                _tidy_one(study, other, best_trial, limit)


def _tidy_one(study: StudyDir, trial: TrialState, best: str, limit: int) -> None:
    folder = study.trial(trial.plan.trial).attempt(trial.attempts[-1].number).ckpt
    size = num_bytes(folder, limit)
    kept = trial.plan.trial == best or size <= limit
    if trial.phase is not Phase.SCORED or not kept or size == 0:
        shutil.rmtree(folder, ignore_errors=True)


def num_bytes(folder: Path, limit: int) -> int:
    """Return the size of the files of a folder, or any number above `limit` once it is passed.

    Links are not followed.
    """
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except OSError:
                continue
            if total > limit:
                return total
    return total
