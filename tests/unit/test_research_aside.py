"""What is slow is worked out aside: others go on, and its outcome is its caller's."""

from __future__ import annotations

import threading

import pytest
from _loop_kit import PACE, START, ListAgent, copy_study, new_study, no_waiting_for_disks

from neurosweep.research.aside import aside
from neurosweep.research.journal import Hooks
from neurosweep.research.loop import Driver
from neurosweep.research.progress import DriveState
from neurosweep.research.together import run_together
from neurosweep.testing.fake import FakeClock, FakeCluster, FakeExecutor


def outcome(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_the_result_comes_back_and_so_does_an_error():
    assert outcome(aside(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        outcome(aside(lambda: 1 / 0))


def test_what_takes_long_lets_others_work():
    over = threading.Event()
    steps = aside(over.wait)
    assert next(steps) > 0
    over.set()
    assert outcome(steps) is True


def test_an_agent_that_thinks_does_not_stop_the_other_studies(tmp_path):
    clock, over = FakeClock(START), threading.Event()
    template = new_study(tmp_path / "template")

    def think(n, schema, rng):
        assert over.wait(30.0), "the other study ends while this agent thinks"
        return ListAgent().propose([], n, schema, rng)

    agents = {"slow": ListAgent([think]), "quick": ListAgent()}
    hooks = Hooks(on_event=lambda e: over.set() if e["event"] == "study_closed" else None)
    drivers = {
        name: Driver(
            copy_study(template, tmp_path / name),
            FakeExecutor(FakeCluster(clock)),
            agent,
            clock=clock,
            pace=PACE,
            hooks=hooks if name == "quick" else None,
        )
        for name, agent in agents.items()
    }
    with no_waiting_for_disks():
        endings = run_together(drivers, clock)
    assert {ending.state for ending in endings.values()} == {DriveState.COMPLETE}
