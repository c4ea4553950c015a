"""Trials that go wrong on a real SLURM: each keeps its kind, and the budget stays exact."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from _loop_kit import new_study
from _slurm_kit import driving, slurm, write_profile

from neurosweep.core.layout import StudyDir
from neurosweep.records.state import Phase, StudyState
from neurosweep.records.trial import Kind

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("own_cluster"), pytest.mark.timeout(240)]

FAULTS = {
    "sleepy": Kind.CANCELLED_USER,  # the first: cancelled by hand while it runs
    "hang": Kind.HANG,
    "endless": Kind.TIME_LIMIT,
    "hoard": Kind.OOM_HOST,
    "fill_disk": Kind.NODE_FAILURE,
    "vanish": Kind.LOST,
    "oom": Kind.OOM_HOST,
    "crash": Kind.USER_ERROR,
    "import_error": Kind.USER_ERROR,
    "segfault": Kind.USER_ERROR,
    "leave": Kind.USER_ERROR,
    "diverge": Kind.DIVERGED,
    "unknown_item": Kind.BROKEN_PREDICTIONS,
    "hostile": Kind.BROKEN_PREDICTIONS,
    "instant": Kind.NONE,
}
REFILLED = ("fill_disk", "vanish")
TRIALS = {f"r01t{place:03d}": name for place, name in enumerate(FAULTS)}
BY_NAME = {name: trial for trial, name in TRIALS.items()}


@pytest.fixture
def study(tmp_path: Path) -> Iterator[StudyDir]:
    """Return a study whose every trial meets a fault of its own, one of them a full disk."""
    modes = ",".join(FAULTS).replace("endless", "sleepy")
    study = new_study(
        tmp_path,
        recipe="assorted",
        set={"fault.mode": modes},
        budget={"rounds": 1, "trials_per_round": len(FAULTS), "trial_minutes": 0.35},
        execution={"stall_minutes": 9.0 / 60.0},
        reserve={"floor": 0, "confirm": 0},
    )
    small = study.trial(BY_NAME["fill_disk"]).root
    small.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(small)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {done.stderr}")
    yield study
    subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_every_kind_of_failure_keeps_its_name_and_its_place(
    study: StudyDir, tmp_path: Path
) -> None:
    def sleeps(state: StudyState) -> str:
        trial = state.trials.get(BY_NAME["sleepy"])
        attempt = trial.open_attempt if trial else None
        return attempt.job if attempt and attempt.started_t else ""

    with driving(study, write_profile(tmp_path, mem_gb=0.5)) as drive:
        slurm("scancel", drive.until(sleeps, "start of the trial that is cancelled by hand"))
        result = drive.finish()
        state = drive.state
    assert {TRIALS[name]: trial.kind for name, trial in state.trials.items()} == FAULTS
    assert (result.done, result.failed) == (1, len(FAULTS) - 1)
    for name, trial in state.trials.items():
        assert trial.phase is (Phase.SCORED if TRIALS[name] == "instant" else Phase.FAILED)
        assert len(trial.attempts) == (3 if TRIALS[name] in REFILLED else 1), name
        assert trial.kind is Kind.NONE or trial.attempts[-1].error["text"], name
    hoard = state.trials[BY_NAME["hoard"]].attempts[0].error["text"]
    assert "exceeded memory limit" in hoard or "OUT_OF_MEMORY" in hoard
    assert "disk is full" in state.trials[BY_NAME["fill_disk"]].attempts[2].error["text"]
    assert (
        "a_library_that_nobody_has"
        in state.trials[BY_NAME["import_error"]].attempts[0].error["text"]
    )
