"""Slots are dealt evenly, none is idle, and there are never more tasks than slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import ExecutorError
from neurosweep.core.fair import fair_shares
from neurosweep.exec.slurm_throttle import Load, Throttle, levels

SLOTS = st.integers(0, 30)


@st.composite
def loads(draw: st.DrawFn) -> dict[str, Load]:
    found = {}
    for array in draw(st.lists(st.sampled_from("abcdef"), unique=True)):
        left = draw(st.integers(1, 20))
        running = draw(st.integers(0, left))
        found[array] = Load(left, running, draw(st.none() | st.integers(running, 20)))
    return found


@given(SLOTS, loads())
def test_levels_raise_only_by_what_is_free(slots: int, found: dict[str, Load]) -> None:
    taken = sum(load.taken for load in found.values())
    chosen = levels(slots, found)
    # Until SLURM is told, an array may take what its old level allows.
    at_worst = sum(max(chosen[array], found[array].taken) for array in found)
    assert at_worst <= max(slots, taken)
    assert all(0 <= chosen[array] <= found[array].left for array in found)


@given(SLOTS, loads())
def test_levels_settle_on_the_shares(slots: int, found: dict[str, Load]) -> None:
    wanted = fair_shares(slots, {array: load.left for array, load in found.items()})
    for _ in range(2):  # what was lowered has ended by the second time
        chosen = levels(slots, found)
        found = {
            a: Load(load.left, min(load.running, chosen[a]), chosen[a]) for a, load in found.items()
        }
    assert levels(slots, found) == wanted


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(
        "neurosweep.exec.slurm_throttle.run_slurm", lambda words: lines.append(" ".join(words[1:]))
    )
    return lines


def test_nothing_is_said_when_nothing_changes(told: list[str]) -> None:
    throttle = Throttle(8)
    assert throttle.start_level(50, {}) == 8
    throttle.note("1", 8)
    for left in range(50, 0, -1):
        throttle.settle({"1": Load(left, min(left, 8))})
    throttle.settle({})
    assert told == []


def test_a_later_array_waits_until_a_slot_is_free(told: list[str]) -> None:
    throttle = Throttle(8)
    throttle.note("1", 8)
    assert throttle.start_level(1, {"1": Load(50, 8)}) == 0
    throttle.note("2", 0, held=True)
    throttle.settle({"1": Load(50, 8), "2": Load(1)})
    assert told == ["update JobId=1 ArrayTaskThrottle=7"]
    throttle.settle({"1": Load(49, 8), "2": Load(1)})
    assert len(told) == 1, "its eighth task still runs"
    throttle.settle({"1": Load(49, 7), "2": Load(1)})
    assert told[1:] == ["update JobId=2 ArrayTaskThrottle=1", "release 2"]
    throttle.settle({"1": Load(40, 7)})
    assert told[3:] == ["update JobId=1 ArrayTaskThrottle=8"]


def test_no_slots_hold_and_more_slots_release(told: list[str]) -> None:
    throttle = Throttle(4)
    throttle.note("1", 4)
    throttle.slots = 0
    for _ in range(2):
        throttle.settle({"1": Load(10, 4)})
    assert told == ["hold 1"]
    throttle.slots = 6
    throttle.settle({"1": Load(8, 2)})
    assert told[1:] == ["update JobId=1 ArrayTaskThrottle=6", "release 1"]


def test_an_adopted_array_is_set_and_released_once(told: list[str]) -> None:
    throttle = Throttle(2)
    throttle.note("7", None, held=True)
    for _ in range(2):
        throttle.settle({"7": Load(5, 0)})
    assert told == ["update JobId=7 ArrayTaskThrottle=2", "release 7"]


def test_what_an_adopted_array_may_take_is_given_to_no_other(told: list[str]) -> None:
    throttle = Throttle(8)
    throttle.note("100", None)
    throttle.note("101", None, held=True)
    throttle.settle({"100": Load(20, 2), "101": Load(20, 0)})
    assert told == ["update JobId=100 ArrayTaskThrottle=4"], "it may run any number until then"
    throttle.settle({"100": Load(20, 4), "101": Load(20, 0)})
    assert told[1:] == ["update JobId=101 ArrayTaskThrottle=4", "release 101"]


def test_what_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["scontrol failed (1): Unable to contact slurm controller", ""])
    tried: list[str] = []

    def answer(words: list[str]) -> str:
        tried.append(words[1])
        if text := next(answers):
            raise ExecutorError(text)
        return ""

    monkeypatch.setattr("neurosweep.exec.slurm_throttle.run_slurm", answer)
    throttle = Throttle(4)
    throttle.note("1", 4)
    throttle.slots = 2
    for _ in range(3):
        throttle.settle({"1": Load(10, 4)})
    assert tried == ["update", "update"]
    assert throttle.commands == 2


def test_tasks_that_are_over_do_not_make_a_command_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_words: list[str]) -> str:
        msg = "scontrol hold failed (1): 1_0-7: Job has already finished\n1_9: No error"
        raise ExecutorError(msg)

    monkeypatch.setattr("neurosweep.exec.slurm_throttle.run_slurm", answer)
    throttle = Throttle(0)
    throttle.note("1", 4)
    throttle.settle({"1": Load(10, 4)})
    throttle.settle({"1": Load(10, 4)})
    assert throttle.commands == 1
