"""Cost of studies: held hours, waiting, idle slots and waste."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.clock import utc_iso
from neurosweep.records.cost import (
    Cost,
    budget_hours,
    held_seconds,
    idle_share,
    round_cost,
    study_cost,
    trial_cost,
)
from neurosweep.records.state import AttemptState, Phase, RoundState, StudyState, TrialState
from neurosweep.records.trial import Kind, Outcome, Purpose, TrialPlan

T0 = 1_800_000_000.0


def attempt(intended=0.0, queue=0.0, seconds=3600.0, *, number=1, ended=True, **other):
    """Return an attempt that waited and then ran; times in seconds after T0."""
    done = other.pop("done", True)
    return AttemptState(
        number,
        intended_t=utc_iso(T0 + intended),
        started_t=utc_iso(T0 + intended + queue + (0.2 if queue else 0.0)),
        queue_s=queue,
        outcome=(Outcome.DONE if done else Outcome.FAILED) if ended else None,
        kind=Kind.NONE if done else Kind.PREEMPTED,
        seconds=seconds if ended else 0.0,
        held_s=other.pop("held_s", seconds if ended and seconds else None),
        **other,
    )


def trial(*attempts, name="r01t000", number=1, phase=Phase.SCORED):
    plan = TrialPlan(name, Purpose.SEARCH if number else Purpose.FLOOR, number, 0, {}, 0)
    return TrialState(plan, phase, list(attempts))


def study(*trials, mode="sync"):
    state = StudyState(study="s", created={"spec": {"execution": {"mode": mode}}})
    for index, one in enumerate(trials):
        name = f"{one.plan.trial}{index}"
        state.trials[name] = one
        state.rounds.setdefault(one.plan.round, RoundState(one.plan.round)).trials.append(name)
    return state


def test_a_trial_costs_what_all_its_attempts_held_and_the_failed_ones_are_lost():
    failed = attempt(seconds=1800.0, done=False, cores=4, gpus=1, restarts=2, queue=60.0)
    good = attempt(2000.0, 120.0, 3600.0, number=2, held_s=4000.0, cores=4, gpus=1)
    cost = trial_cost(trial(failed, good))
    assert cost.core_hours == pytest.approx(4 * (1800 + 4000) / 3600)
    assert cost.gpu_hours == pytest.approx(5800 / 3600)
    assert cost.lost_core_hours == pytest.approx(4 * 0.5)
    assert cost.lost_gpu_hours == pytest.approx(0.5)
    assert (cost.attempts, cost.restarts) == (2, 2)
    assert (cost.queue_s, cost.queue_max_s, cost.queue_mean_s) == (180.0, 120.0, 90.0)


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.PLANNED])
def test_all_is_lost_without_a_score(phase):
    cost = trial_cost(trial(attempt(done=False), phase=phase))
    assert cost.lost_core_hours == cost.core_hours == 1.0


def test_what_runs_counts_up_to_now_and_is_not_lost():
    running = trial(attempt(0.0, 10.0, ended=False, gpus=2), phase=Phase.RUNNING)
    assert trial_cost(running).core_hours == 0.0
    cost = trial_cost(running, T0 + 10.0 + 1800.0)
    assert cost.core_hours == pytest.approx(0.5)
    assert cost.gpu_hours == pytest.approx(1.0)
    assert cost.lost_core_hours == 0.0
    never = trial(AttemptState(1, intended_t=utc_iso(T0)), phase=Phase.SUBMITTED)
    assert trial_cost(never, T0 + 99.0) == Cost()


def test_a_job_that_was_killed_and_said_nothing_costs_until_its_end_was_noticed():
    killed = attempt(0.0, 10.0, 0.0, done=False, ended_t=utc_iso(T0 + 610.0))
    assert held_seconds(killed) == pytest.approx(600.0)
    never = AttemptState(1, outcome=Outcome.FAILED, ended_t=utc_iso(T0 + 99.0))
    assert held_seconds(never) == 0.0


def test_a_job_that_its_scheduler_counts_nothing_for_costs_nothing():
    stopped = attempt(0.0, 10.0, 0.0, done=False, held_s=0.0, ended_t=utc_iso(T0 + 14.0))
    assert held_seconds(stopped) == 0.0


def test_two_slots_that_work_all_the_time_are_not_idle():
    state = study(*(trial(attempt(seconds=100.0)) for _ in range(2)))
    assert round_cost(state, 1).idle == 0.0


def test_a_slot_that_waits_for_the_last_trial_is_idle():
    long, short = trial(attempt(seconds=100.0)), trial(attempt(seconds=50.0))
    assert round_cost(study(long, short), 1).idle == pytest.approx(1 - 150 / 200)


def test_the_wait_before_the_first_start_is_idle():
    assert idle_share([[trial(attempt(0.0, 300.0, 100.0))]]) == pytest.approx(0.75)


def test_a_successor_in_the_same_slot_adds_no_slot():
    first, second = attempt(0.0, 0.0, 100.0), attempt(0.0, 100.0, 100.0)
    assert idle_share([[trial(first), trial(second)]]) == pytest.approx(0.0)


def test_whole_seconds_of_accounting_make_no_second_slot():
    first, second = attempt(0.0, 1.0, 1.4, held_s=3.0), attempt(0.0, 2.5, 1.4, held_s=2.0)
    assert idle_share([[trial(first), trial(second)]]) == 0.0


def test_an_end_that_was_noticed_late_makes_no_second_slot():
    killed = attempt(0.0, 1.0, 0.0, done=False, ended_t=utc_iso(T0 + 5.0))
    after = attempt(0.0, 3.0, 2.0)
    assert idle_share([[trial(killed, phase=Phase.FAILED), trial(after)]]) == 0.0


def test_the_time_between_rounds_is_nobodys():
    first = trial(attempt(seconds=100.0))
    later = trial(attempt(50_000.0, 0.0, 100.0), number=2)
    assert study_cost(study(first, later)).idle == pytest.approx(0.0)


def test_rounds_of_an_asynchronous_study_share_their_slots():
    first = trial(attempt(seconds=100.0))
    refill = trial(attempt(100.0, 0.0, 100.0), number=2)
    floor = trial(attempt(-1000.0, 0.0, 100.0), number=0)
    state = study(floor, first, refill, mode="async")
    assert round_cost(state, 1).idle is None
    assert round_cost(state, 0).idle == pytest.approx(0.0)
    assert study_cost(state).idle == pytest.approx(0.0)


def test_a_budget_counts_gpus_and_cores_where_there_is_none():
    state = study(
        trial(attempt(seconds=3600.0, cores=8, gpus=2)),
        trial(attempt(seconds=3600.0, cores=3)),
        trial(attempt(ended=False, cores=1), phase=Phase.RUNNING),
    )
    assert budget_hours(state, T0 + 3600.0) == pytest.approx(2 + 3 + 1)


def test_an_open_attempt_that_waits_for_its_place_again_costs_what_it_held_before():
    waits = attempt(0.0, 10.0, ended=False, gpus=4, held_s=600.0)
    state = study(trial(waits, phase=Phase.RUNNING))
    assert budget_hours(state, T0 + 36_000.0) == pytest.approx(4 * 600 / 3600)
    assert study_cost(state, T0 + 36_000.0).gpu_hours == pytest.approx(4 * 600 / 3600)
    waits.held_s = 1e9
    assert budget_hours(state, T0 + 3610.0) == pytest.approx(4.0), "never more than has passed"


def test_nothing_that_ran_costs_nothing():
    empty = study_cost(StudyState(study="s"))
    assert empty == Cost()
    assert empty.to_dict()["idle"] is None


spans = st.lists(
    st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.1, 1e4), st.booleans()),
    min_size=1,
    max_size=8,
)


@given(spans)
def test_shares_and_sums_hold_whatever_ran(parts):
    trials = [
        trial(
            attempt(intended, queue, seconds, done=done, cores=2),
            phase=Phase.SCORED if done else Phase.FAILED,
        )
        for intended, queue, seconds, done in parts
    ]
    cost = study_cost(study(*trials))
    assert cost.idle is not None
    assert 0.0 <= cost.idle <= 1.0
    assert 0.0 <= cost.lost_core_hours <= cost.core_hours * (1 + 1e-9)
    assert cost.core_hours == pytest.approx(sum(trial_cost(t).core_hours for t in trials))
    assert cost.queue_max_s <= cost.queue_s * (1 + 1e-9)
    held = sum(held_seconds(t.attempts[0]) for t in trials)
    assert cost.core_hours * 3600 == pytest.approx(2 * held)
