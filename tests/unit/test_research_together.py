"""Several studies under one driver: slots are shared, and one that stops holds nobody up."""

from __future__ import annotations

import json

import pytest
from _loop_kit import PACE, START, ListAgent, copy_study, new_study, no_waiting_for_disks, state_of

from neurosweep.core.errors import LedgerError, StudyError
from neurosweep.records.export import export_study
from neurosweep.research.control import send_request
from neurosweep.research.loop import Driver
from neurosweep.research.progress import DriveState
from neurosweep.research.together import run_together
from neurosweep.testing.fake import FakeClock, FakeCluster, FakeExecutor


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(tmp_path_factory.mktemp("template"), budget={"trials_per_round": 6})


class CountingExecutor(FakeExecutor):
    """A fake executor that knows how many slots it was ever given."""

    def __init__(self, cluster):
        super().__init__(cluster)
        self.given = []

    def adjust(self, *, slots=None, poll_s=None):
        super().adjust(slots=slots, poll_s=poll_s)
        self.given.append(slots)


def drivers_of(template, tmp_path, names, clock, slots=6):
    """Return a driver and its executor for every name, each with a cluster of its own."""
    drivers, executors = {}, {}
    for name in names:
        executors[name] = CountingExecutor(FakeCluster(clock, slots=slots))
        study = copy_study(template, tmp_path / name)
        drivers[name] = Driver(study, executors[name], ListAgent(), clock=clock, pace=PACE)
    return drivers, executors


def run(drivers, clock):
    with no_waiting_for_disks():
        return run_together(drivers, clock)


def test_studies_end_as_they_would_alone(template, tmp_path):
    clock = FakeClock(START)
    alone, _ = drivers_of(template, tmp_path / "alone", ["x"], clock)
    with no_waiting_for_disks():
        alone["x"].run()
    drivers, executors = drivers_of(template, tmp_path, ["a", "b", "c"], clock)
    endings = run(drivers, clock)
    assert {e.state for e in endings.values()} == {DriveState.COMPLETE}
    expected = export_study(alone["x"].study)
    assert all(export_study(driver.study) == expected for driver in drivers.values())
    assert all(2 in executor.given for executor in executors.values()), "a third of six each"
    assert all(executor.closed for executor in executors.values())


def test_never_more_than_all_slots_are_given(template, tmp_path):
    clock = FakeClock(START)
    drivers, executors = drivers_of(template, tmp_path, ["a", "b", "c"], clock, slots=4)
    now = dict.fromkeys(executors, 4)
    sums = []
    for name, executor in executors.items():

        def adjust(*, slots=None, name=name, executor=executor, **_):
            now[name] = slots
            executor.cluster.allowed = slots
            sums.append(sum(now.values()))

        executor.adjust = adjust
    assert len(run(drivers, clock)) == 3
    assert max(sums[2:]) <= 4 + 1, "shares are moved one study after the other"
    assert all(state_of(driver.study).closed for driver in drivers.values())


def test_a_study_that_stops_does_not_hold_the_others_up(template, tmp_path):
    clock = FakeClock(START)
    drivers, _ = drivers_of(template, tmp_path, ["good", "bad"], clock)
    ledger = drivers["bad"].study.ledger
    ledger.write_bytes(ledger.read_bytes().replace(b"study_created", b"study_ended__"))
    endings = run(drivers, clock)
    assert endings["good"].state is DriveState.COMPLETE
    assert isinstance(endings["bad"], LedgerError)


def test_an_interrupt_stops_all_and_all_can_be_resumed(template, tmp_path):
    class Impatient(FakeClock):
        def sleep(self, seconds):
            super().sleep(seconds)
            if self.slept > 1.5 and not self.told:
                self.told = True
                raise KeyboardInterrupt

        told = False

    clock = Impatient(START)
    drivers, _ = drivers_of(template, tmp_path, ["a", "b"], clock)
    endings = run(drivers, clock)
    assert {e.state for e in endings.values()} == {DriveState.INTERRUPTED}
    again = {
        name: Driver(driver.study, driver.executor, ListAgent(), clock=clock, pace=PACE)
        for name, driver in drivers.items()
    }
    assert {e.state for e in run(again, clock).values()} == {DriveState.COMPLETE}


def test_drivers_with_a_slot_file_leave_some_to_others(template, tmp_path):
    clock, path = FakeClock(START), tmp_path / "slots.json"
    drivers, executors = drivers_of(template, tmp_path, ["a"], clock, slots=6)
    other = {"demand": 50, "total": 6, "t": START + 1.0}
    other |= {"pid": 99, "start_ticks": 1, "boot": "b", "host": "elsewhere"}
    path.write_text(json.dumps({"v": 1, "drivers": {"other": other}}))
    type(executors["a"]).slots_file = property(lambda _self: path)
    try:
        assert run(drivers, clock)["a"].state is DriveState.COMPLETE
    finally:
        del type(executors["a"]).slots_file
    assert executors["a"].given[0] == 3
    assert set(json.loads(path.read_text())["drivers"]) <= {"other"}


def test_a_throttle_of_one_study_takes_no_slots_from_the_others(template, tmp_path):
    clock = FakeClock(START)
    drivers, executors = drivers_of(template, tmp_path, ["a", "b"], clock, slots=4)
    for name, value in (("a", 50), ("b", 1)):
        send_request(drivers[name].study, "throttle", value=value)
    assert {e.state for e in run(drivers, clock).values()} == {DriveState.COMPLETE}
    assert max(executors["a"].given) <= 4
    assert 3 in executors["a"].given, "what b does not want is a's"
    told = executors["b"].given
    assert set(told[told.index(1) :]) <= {0, 1}


def test_a_bug_in_one_study_does_not_end_the_others(template, tmp_path):
    clock = FakeClock(START)
    drivers, _ = drivers_of(template, tmp_path, ["good", "bad"], clock)

    def broken(_token, _tasks):
        raise ZeroDivisionError("a bug")

    drivers["bad"].executor.submit = broken
    endings = run(drivers, clock)
    assert endings["good"].state is DriveState.COMPLETE
    assert "ZeroDivisionError: a bug" in str(endings["bad"])


def test_a_lock_that_may_not_be_opened_is_an_error_of_its_study(template, tmp_path):
    clock = FakeClock(START)
    drivers, _ = drivers_of(template, tmp_path, ["good", "bad"], clock)
    drivers["bad"].study.lock.mkdir()
    endings = run(drivers, clock)
    assert endings["good"].state is DriveState.COMPLETE
    assert isinstance(endings["bad"], StudyError)
