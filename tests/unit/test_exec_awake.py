"""A clock that leaves out the time in which its process was stopped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.exec.awake import AwakeClock
from neurosweep.exec.lease import Lease
from neurosweep.exec.limits import Limits
from neurosweep.exec.watch import Verdict, Watch
from neurosweep.records.trial import Kind
from neurosweep.testing.fake import FakeClock


class Process:
    """A process that is looked at four times a second while it runs."""

    def __init__(self) -> None:
        self.clock, self.used = FakeClock(), 0.0
        self.awake = AwakeClock(self.clock, lambda: self.used)

    def run(self, seconds: float, *, busy: float = 0.1) -> None:
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 1e-9:
            self.clock.sleep(min(0.25, left))
            self.used += busy * 0.25
            self.awake.look()

    def stand(self, seconds: float) -> None:
        self.clock.sleep(seconds)


def test_standing_still_is_left_out_before_and_after_the_next_look() -> None:
    process = Process()
    process.run(10.0)
    process.stand(3600.0)
    assert process.awake.monotonic() == pytest.approx(15.0)
    process.run(10.0)
    process.stand(60.0)
    process.run(10.0)
    assert process.awake.monotonic() == pytest.approx(40.0, abs=0.5)
    assert process.awake.now() == process.clock.now()


def test_one_long_call_that_lets_no_other_thread_run_is_work() -> None:
    process = Process()
    process.run(10.0)
    process.stand(100.0)
    assert process.awake.monotonic() == pytest.approx(15.0)
    process.used += 99.0
    assert process.awake.monotonic() == 110.0


def test_a_look_that_comes_late_leaves_nothing_out() -> None:
    process = Process()
    process.stand(4.0)
    assert process.awake.monotonic() == 4.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 50.0)), max_size=8))
def test_it_never_goes_back_nor_faster_than_time(parts: list[tuple[bool, float]]) -> None:
    process, seen = Process(), [0.0]
    for runs, seconds in parts:
        before = seen[-1]
        (process.run if runs else process.stand)(seconds)
        seen.append(process.awake.monotonic())
        assert before - 1e-6 <= seen[-1] <= process.clock.monotonic() + 1e-6


def test_a_suspended_job_uses_up_neither_its_limit_nor_its_place() -> None:
    process = Process()
    limits = Limits.from_dict({"timeout_s": 60.0})
    watch = Watch(limits, Lease("7", True, 90.0), process.awake)
    process.run(20.0)
    process.stand(3600.0)
    assert watch.verdict() is Verdict.GO_ON
    assert (watch.stop, watch.leaving) == (None, False)
    process.run(36.0)
    watch.verdict()
    assert watch.stop is Kind.TIME_LIMIT
