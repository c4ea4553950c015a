"""Slots are divided fairly, and drivers that are gone give theirs back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.fair import fair_shares
from neurosweep.research.sharing import LEASE_S, SlotFile
from neurosweep.testing.fake import FakeClock

names = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 60), max_size=6)


@given(total=st.integers(0, 100), demands=names)
def test_nobody_has_less_than_somebody_who_could_give_one_up(
    total: int, demands: dict[str, int]
) -> None:
    shares = fair_shares(total, demands)
    assert set(shares) == set(demands)
    assert all(0 <= shares[name] <= demands[name] for name in demands)
    assert sum(shares.values()) == min(total, sum(demands.values()))
    for name in demands:
        if shares[name] < demands[name]:
            assert all(shares[other] <= shares[name] + 1 for other in demands)


def test_single_slots_go_to_the_first() -> None:
    assert fair_shares(2, {"b": 5, "a": 5, "c": 5}) == {"b": 1, "a": 1, "c": 0}
    assert fair_shares(8, {"a": 50, "b": 2, "c": 50}) == {"a": 3, "b": 2, "c": 3}


def test_drivers_share_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "shared" / "slots.json"
    first, second = SlotFile(path, 8), SlotFile(path, 8)
    assert first.share(50) == 8
    assert second.share(50) == 4
    assert first.share(50) == 4
    assert second.share(1) == 1
    assert first.share(50) == 7
    second.leave()
    assert first.share(50) == 8


def test_the_smaller_of_two_totals_holds(tmp_path: Path) -> None:
    first, second = SlotFile(tmp_path / "slots", 8), SlotFile(tmp_path / "slots", 4)
    first.share(50)
    assert second.share(50) == 2
    assert first.share(50) == 2


def test_a_silent_driver_counts_no_more(tmp_path: Path) -> None:
    clock = FakeClock()
    first, second = (SlotFile(tmp_path / "slots", 8, clock) for _ in range(2))
    second.share(50)
    assert first.share(50) == 4
    clock.sleep(LEASE_S)
    assert first.share(50) == 8


def test_a_driver_that_died_here_counts_no_more(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neurosweep.research.sharing import SlotFile;"
        "print(SlotFile(Path(sys.argv[1]), 8).share(50))"
    )
    path = tmp_path / "slots"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert len(json.loads(path.read_text())["drivers"]) == 1
    assert SlotFile(path, 8).share(50) == 8


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    path.write_text('{"drivers": {"x": {"demand": "many"}}')
    assert SlotFile(path, 8).share(3) == 3
    path.write_text('{"drivers": {"x": {"demand": 3}}}')
    assert SlotFile(path, 8).share(50) == 8


def test_who_cannot_see_the_others_does_not_take_everything(tmp_path: Path) -> None:
    slots = SlotFile(tmp_path / "file" / "slots", 8)
    (tmp_path / "file").write_text("")
    assert slots.share(50) == 4, "half of it: others may be in the same position"


def test_what_others_still_run_is_not_given_away(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    first, second = SlotFile(path, 4), SlotFile(path, 4)
    assert first.share(50, running=0) == 4
    assert second.share(50, running=0) == 2, "nothing runs yet"
    assert first.share(50, running=4) == 2
    assert second.share(50, running=0) == 0
    assert first.share(50, running=3) == 2
    assert second.share(50, running=0) == 1
