"""Slots that the stages of a pipeline share among themselves and with other drivers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neurosweep.core.files import read_json
from neurosweep.pipeline.shares import Shares
from neurosweep.research.sharing import SlotFile
from neurosweep.testing.fake import FakeClock


@dataclass(eq=False)
class Place:
    """An executor, as far as slots go."""

    slots: int = 8
    slots_file: Path | None = None
    name: str = "slurm"
    given: list[int] = field(default_factory=list)

    def adjust(self, *, slots: int) -> None:
        self.given.append(slots)
        self.slots = slots


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_one_executor_alone_keeps_its_slots(clock):
    place, shares = Place(), Shares(clock)
    for demand in (3, 50, 1):
        shares.divide([(place, demand)])
        clock.sleep(3.0)
    assert place.given == []


def test_stages_with_resources_of_their_own_hold_no_more_together(clock):
    first, second, shares = Place(), Place(), Shares(clock)
    shares.divide([(first, 50)])
    clock.sleep(3.0)
    shares.divide([(first, 50), (second, 2)])
    assert (first.slots, second.slots) == (6, 2)
    clock.sleep(3.0)
    shares.divide([(first, 50), (second, 50)])
    assert (first.slots, second.slots) == (4, 4)
    clock.sleep(3.0)
    shares.divide([(second, 50)])
    assert second.slots == 8


def test_other_places_have_slots_of_their_own(clock):
    here, there, shares = Place(name="local", slots=2), Place(), Shares(clock)
    shares.divide([(here, 9), (there, 9)])
    assert here.given == there.given == []


def test_shares_are_looked_at_now_and_then(clock):
    first, second, shares = Place(), Place(), Shares(clock)
    shares.divide([(first, 50), (second, 50)])
    shares.divide([(first, 50), (second, 1)])
    assert second.given == [4]


def test_a_slots_file_is_shared_with_other_drivers(clock, tmp_path):
    path = tmp_path / "slots.json"
    other = SlotFile(path, 8, clock)
    other.share(50)
    place, shares = Place(slots_file=path), Shares(clock)
    shares.divide([(place, 50)])
    assert place.given == [4]
    other.leave()
    clock.sleep(3.0)
    shares.divide([(place, 50)])
    assert place.given == [4, 8]
    shares.leave()
    assert read_json(path)["drivers"] == {}
