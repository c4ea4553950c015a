"""What a study has used of its hours, while its attempts run or wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from _study_builder import StudyBuilder

from neurosweep.core.clock import utc_iso
from neurosweep.core.files import atomic_write_json
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.state import AttemptState, Phase, StudyState, TrialState
from neurosweep.records.trial import Purpose, TrialPlan
from neurosweep.research import progress
from neurosweep.research.progress import Spending, hours_used, note_held
from neurosweep.research.status import study_status
from neurosweep.testing.fake import FakeClock


@pytest.fixture
def study(tmp_path: Path) -> StudyDir:
    return Home(tmp_path).study("some-20260101-0000")


def running(clock: FakeClock) -> StudyState:
    """Return a study with one trial of 4 GPUs that has just started."""
    attempt = AttemptState(1, started_t=utc_iso(clock.now()), gpus=4)
    plan = TrialPlan("r01t000", Purpose.SEARCH, 1, 0, {}, 0)
    return StudyState(study="s", trials={"r01t000": TrialState(plan, Phase.RUNNING, [attempt])})


def beat(study: StudyDir, held_s: float) -> None:
    path = study.trial("r01t000").attempt(1).heartbeat
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, {"v": 1, "held_s": held_s})


def test_hours_of_waiting_for_a_place_again_are_not_used(study: StudyDir) -> None:
    clock = FakeClock()
    state, spending = running(clock), Spending(study, clock)
    beat(study, 600.0)
    clock.sleep(36_000.0)
    assert not spending.reached(state, 10.0)
    assert hours_used(state, clock.now()) == pytest.approx(4 * 600 / 3600)
    beat(study, 9000.0)
    clock.sleep(progress._LOOK_S)
    assert spending.reached(state, 10.0)


def test_files_are_read_only_where_the_limit_is_near_and_now_and_then(
    study: StudyDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    clock = FakeClock()
    state, spending = running(clock), Spending(study, clock)
    monkeypatch.setattr(progress, "held_seconds", lambda _path: looks.append(clock.now()) or 60.0)
    clock.sleep(3600.0)
    assert not spending.reached(state, 4.5)
    assert looks == []
    clock.sleep(3600.0)
    for _ in range(30):
        assert not spending.reached(state, 4.5)
        clock.sleep(1.0)
    assert len(looks) == 3


def test_what_says_nothing_counts_from_its_start(study: StudyDir) -> None:
    clock = FakeClock()
    state = running(clock)
    clock.sleep(3600.0)
    note_held(study, state)
    assert hours_used(state, clock.now()) == pytest.approx(4.0)
    assert Spending(study, clock).reached(state, 3.9)


def test_status_counts_what_a_waiting_trial_held(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), rounds=1, per_round=1)
    builder.create()
    [plan] = builder.plan(1)
    builder.ledger.append("round_planned", {"round": 1, "trials": [plan.to_dict()]})
    intent = {"token": "tok", "round": 1, "trials": [[plan.trial, 1]]}
    builder.ledger.append("submit_intended", intent)
    builder.start(plan, 1)
    path = builder.dir.trial(plan.trial).attempt(1).heartbeat
    builder.clock.sleep(36_000.0)
    assert study_status(builder.dir, builder.clock).hours == pytest.approx(10.0, abs=0.1)
    atomic_write_json(path, {"v": 1, "held_s": 600.0})
    found = study_status(builder.dir, builder.clock)
    assert found.hours == pytest.approx(600 / 3600)
    assert found.cost.core_hours == pytest.approx(600 / 3600)
