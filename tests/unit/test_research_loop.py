"""The loop on the fake cluster: the exact budget, and what each kind of ending does to it."""

from __future__ import annotations

import pytest
from _loop_kit import START, copy_study, drive, new_study, state_of

from neurosweep.records.state import Phase
from neurosweep.records.types import Purpose
from neurosweep.research.progress import DriveState
from neurosweep.testing.fake import FakeClock, FakeCluster, Fate


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(tmp_path_factory.mktemp("template"))


@pytest.fixture
def study(template, tmp_path):
    return copy_study(template, tmp_path)


def cluster_of(fates=None, **options):
    table = dict(fates or {})

    def fate_of(trial, attempt):
        return table.get((trial, attempt), table.get(trial, Fate.DONE))

    return FakeCluster(FakeClock(START), fate_of, **options)


def test_a_study_ends_with_exactly_its_budget(study):
    result = drive(study)
    state = state_of(study)
    assert (result.state, result.planned, result.done, result.failed) == (
        DriveState.COMPLETE,
        6,
        6,
        0,
    )
    assert [t.plan.trial for t in state.of(Purpose.SEARCH)] == [
        "r01t000",
        "r01t001",
        "r01t002",
        "r02t000",
        "r02t001",
        "r02t002",
    ]
    assert [t.plan.trial for t in state.of(Purpose.FLOOR)] == ["f000"]
    assert all(trial.phase is Phase.SCORED for trial in state.trials.values())
    assert state.closed == {"reason": "complete", "planned": 6, "done": 6, "failed": 0}
