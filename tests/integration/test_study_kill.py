"""SIGKILL of a real driver with real jobs: exactly the budget, none lost, none twice."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest
from _kill_kit import completions, num_lines, start, wait_for_lines
from _loop_kit import new_study, state_of

from neurosweep.records.state import Phase
from neurosweep.records.trial import Purpose
from neurosweep.research.lock import live_driver

KILLS = 20


@pytest.mark.slow
def test_twenty_kills_over_two_rounds_of_fifty_lose_nothing_and_repeat_nothing(tmp_path):
    study = new_study(
        tmp_path, budget={"rounds": 2, "trials_per_round": 50}, reserve={"floor": 2, "confirm": 0}
    )
    rng = random.Random(20)
    # An undisturbed study of this size has 319 ledger lines; a few more come from the kills.
    moments = sorted(rng.sample(range(1, 312), KILLS))
    killed = 0
    for moment in moments:
        process = start(study, "local", slots=2)
        wait_for_lines(study, process, max(moment, num_lines(study) + 1))
        time.sleep(rng.uniform(0.0, 0.03))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert live_driver(study.lock) is None
    last = start(study, "local", slots=2)
    assert last.wait(timeout=120.0) == 0
    assert killed == KILLS
    state = state_of(study)
    search = list(state.of(Purpose.SEARCH))
    assert [len(state.rounds[number].trials) for number in (1, 2)] == [50, 50]
    assert Counter(trial.phase for trial in search) == {Phase.SCORED: 100}
    assert state.closed == {"reason": "complete", "planned": 100, "done": 100, "failed": 0}
    assert set(completions(study).values()) == {1}
    assert len(completions(study)) == 102
    refilled = [trial.plan.trial for trial in search if len(trial.attempts) > 1]
    assert len(refilled) <= KILLS
