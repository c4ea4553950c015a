"""When a job is asked to end or to leave, by a clock that stands still."""

from __future__ import annotations

import signal

import pytest

from neurosweep.exec.lease import Lease
from neurosweep.exec.limits import Limits
from neurosweep.exec.watch import Verdict, Watch
from neurosweep.records.trial import Kind
from neurosweep.testing.fake import FakeClock

TERM, USR2 = int(signal.SIGTERM), int(signal.SIGUSR2)


class Case:
    def __init__(self, lease: Lease | None = None, **limits: float) -> None:
        self.clock = FakeClock()
        self.watch = Watch(Limits.from_dict(limits), lease or Lease("7", True), self.clock)

    def after(self, seconds: float) -> Verdict:
        self.clock.sleep(seconds)
        return self.watch.verdict()


def test_without_requeue_a_signal_stops() -> None:
    case = Case(Lease("7"), grace_s=10.0)
    case.watch.on_signal(TERM)
    assert (case.watch.stop, case.watch.leaving) == (Kind.STOPPED, False)
    assert (case.after(10.0), case.after(0.5)) == (Verdict.GO_ON, Verdict.END)


def test_an_interrupt_from_the_keyboard_stops_everywhere() -> None:
    case = Case()
    case.watch.on_signal(int(signal.SIGINT))
    assert (case.watch.stop, case.watch.leaving) == (Kind.STOPPED, False)


def test_a_warning_lets_a_job_reach_its_next_save_whenever_that_is() -> None:
    case = Case(grace_s=10.0)
    case.watch.on_signal(USR2)
    assert case.watch.leaving
    assert case.after(1000.0) is Verdict.GO_ON
    case.watch.on_signal(TERM)
    assert (case.after(9.0), case.after(2.0)) == (Verdict.GO_ON, Verdict.LEAVE)


def test_a_later_warning_gives_no_more_time() -> None:
    case = Case(grace_s=10.0)
    case.watch.on_signal(TERM)
    case.clock.sleep(8.0)
    case.watch.on_signal(TERM)
    case.watch.on_signal(USR2)
    assert case.after(3.0) is Verdict.LEAVE


@pytest.mark.parametrize(
    ("needed_s", "seconds", "asked_at"),
    [(0.0, 600.0, 595.0), (20.0, 600.0, 555.0), (500.0, 600.0, 300.0), (0.0, 4.0, 2.0)],
)
def test_a_job_is_asked_to_leave_in_time_for_its_next_save(
    needed_s: float, seconds: float, asked_at: float
) -> None:
    case = Case(Lease("7", True, seconds))
    case.watch.needed_s = lambda: needed_s
    case.after(asked_at - 0.1)
    assert not case.watch.leaving
    case.after(0.2)
    assert case.watch.leaving
    assert case.after(seconds - asked_at) is Verdict.LEAVE


def test_the_trials_own_limit_ends_it_for_good_though_it_was_leaving() -> None:
    case = Case(Lease("7", True, 60.0), timeout_s=57.0, grace_s=10.0)
    case.after(56.0)
    assert not case.watch.leaving, "another place would not help it"
    case.watch.on_signal(TERM)
    assert case.watch.leaving
    case.after(1.5)
    assert (case.watch.leaving, case.watch.stop) == (False, Kind.TIME_LIMIT)
    with pytest.raises(Exception, match="longer than its limit of 57 s"):
        case.watch.raise_if_stopped()


def test_work_before_an_interruption_counts_against_the_limit() -> None:
    case = Case(timeout_s=100.0)
    case.watch.worked_s = 60.0
    case.after(39.0)
    assert case.watch.stop is None
    case.after(2.0)
    assert case.watch.stop is Kind.TIME_LIMIT
    assert case.watch.seconds == 101.0


def test_starts_that_are_too_short_to_save_once_come_to_an_end() -> None:
    case = Case(Lease("7", True, 60.0))
    case.clock.sleep(58.0)
    assert case.watch.too_short(2) is None
    too_short = case.watch.too_short(3)
    assert too_short is not None
    assert too_short.kind is Kind.TIME_LIMIT
    assert "3 starts of 60 s each were too short to save once" in str(too_short)


def test_who_is_pushed_aside_early_was_not_too_slow() -> None:
    case = Case(Lease("7", True, 60.0))
    case.clock.sleep(5.0)
    assert case.watch.too_short(9) is None
    assert Case().watch.too_short(9) is None


def test_too_much_memory_ends_a_job_at_once() -> None:
    case = Case(memory_mb=1)
    assert (case.watch.verdict(), case.watch.stop) == (Verdict.END, Kind.OOM_HOST)


def test_a_warning_of_the_end_of_a_place_that_is_long_enough_is_passed_over() -> None:
    """The trial's limit comes a minute before that of its place, and so may the warning."""
    case = Case(Lease("7", True, 660.0), timeout_s=600.0)
    case.after(590.0)
    case.watch.on_signal(USR2)
    assert not case.watch.leaving


def test_a_warning_long_before_the_end_is_one_of_being_pushed_aside() -> None:
    case = Case(Lease("7", True, 660.0), timeout_s=600.0)
    case.after(300.0)
    case.watch.on_signal(USR2)
    assert case.watch.leaving
