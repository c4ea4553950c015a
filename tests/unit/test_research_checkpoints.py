"""Which checkpoints stay: small ones of scored trials, and the best's."""

from pathlib import Path

import pytest
from _study_builder import build_study

from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.fold import load_state
from neurosweep.records.state import Phase, StudyState
from neurosweep.records.trial import Purpose
from neurosweep.research.best import improvements
from neurosweep.research.checkpoints import num_bytes, tidy


@pytest.fixture
def study(tmp_path: Path) -> StudyDir:
    return build_study(tmp_path, per_round=12, rounds=1, floor=1, fail_share=0.2)[0]


def _keep(state: StudyState, keep_mb: float) -> StudyState:
    spec = {**state.spec, "budget": {**state.spec["budget"], "keep_mb": keep_mb}}
    state.created = {**state.created, "spec": spec}
    return state


def _write(study: StudyDir, trial: str, attempt: int, size: int) -> Path:
    folder = study.trial(trial).attempt(attempt).ckpt
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "weights").write_bytes(b"x" * size)
    return folder


def test_small_ones_stay_and_of_large_ones_the_running_best(study: StudyDir) -> None:
    state = _keep(load_state(study), 0.001)
    found = list(improvements(state))
    assert len(found) >= 2
    best, before = state.trials[found[-1].trial], state.trials[found[-2].trial]
    floor = next(state.of(Purpose.FLOOR))
    other = next(
        t for t in state.of(Purpose.SEARCH) if t.phase is Phase.SCORED and t not in (best, before)
    )
    folders = {
        trial.plan.trial: _write(study, trial.plan.trial, trial.attempts[-1].number, size)
        for trial, size in ((best, 2000), (before, 2000), (other, 500), (floor, 2000))
    }
    tidy(study, state, other)
    assert folders[other.plan.trial].exists()
    tidy(study, state, floor)
    assert not folders[floor.plan.trial].exists()
    assert folders[before.plan.trial].exists()
    tidy(study, state, best)
    assert folders[best.plan.trial].exists()
    assert not folders[before.plan.trial].exists()
    assert folders[other.plan.trial].exists()


def test_nothing_of_a_failed_trial_stays(study: StudyDir) -> None:
    state = load_state(study)
    failed = next(t for t in state.of(Purpose.SEARCH) if t.phase is Phase.FAILED)
    folder = _write(study, failed.plan.trial, failed.attempts[-1].number, 10)
    tidy(study, state, failed)
    assert not folder.exists()


def test_sizes_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 10_000)
    folder = tmp_path / "ckpt"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "large")
    (folder / "loop").symlink_to(folder)
    assert num_bytes(folder, 10**6) < 1000
    assert num_bytes(tmp_path, 100) > 100
    assert num_bytes(Home(tmp_path).cache_dir, 1) == 0


def test_saves_stay_until_nothing_more_happens_to_the_trial(study: StudyDir) -> None:
    """A new attempt goes on from what an earlier one saved."""
    state = load_state(study)
    trial = next(t for t in state.of(Purpose.SEARCH) if t.phase is Phase.SCORED)
    folder = study.trial(trial.plan.trial).attempt(1).resume
    folder.mkdir(parents=True)
    trial.phase = Phase.PLANNED
    tidy(study, state, trial)
    assert folder.exists()
    trial.phase = Phase.SCORED
    tidy(study, state, trial)
    assert not folder.exists()
