"""The ledger: appended lines are durable and chained; damage is found, a cut line forgiven."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import LedgerError
from neurosweep.records.ledger import Ledger, read_ledger


class FixedClock:
    def now(self) -> float:
        return 1.75e9

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


def filled(path: Path, n: int = 4) -> Path:
    ledger = Ledger(path, FixedClock())
    for index in range(n):
        ledger.append("control", {"action": f"number {index}"})
    return path


def test_events_come_back_in_order(tmp_path: Path) -> None:
    events = read_ledger(filled(tmp_path / "ledger.jsonl"))
    assert [e["data"]["action"] for e in events] == [f"number {i}" for i in range(4)]
    assert [e["seq"] for e in events] == [1, 2, 3, 4]


@given(cut=st.integers(min_value=1, max_value=60))
def test_cut_last_line_is_dropped_and_writing_goes_on(tmp_path_factory, cut: int) -> None:  # type: ignore[no-untyped-def]
    path = filled(tmp_path_factory.mktemp("l") / "ledger.jsonl")
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    assert len(read_ledger(path)) == 3
    Ledger(path, FixedClock()).append("control", {"action": "again"})
    assert [e["data"]["action"] for e in read_ledger(path)][-1] == "again"
    assert len(read_ledger(path)) == 4


@pytest.mark.parametrize("line", [0, 1, 2])
def test_damage_elsewhere_names_the_line_and_changes_nothing(tmp_path: Path, line: int) -> None:
    path = filled(tmp_path / "ledger.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"number", b"numbed")
    damaged = b"".join(lines)
    path.write_bytes(damaged)
    with pytest.raises(LedgerError, match=rf"line {line + 2}: does not follow"):
        Ledger(path)
    assert path.read_bytes() == damaged


def test_removed_line_is_damage(tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(LedgerError, match="line 2: does not carry sequence number 2"):
        read_ledger(path)


def test_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "ledger.jsonl")
    before = path.read_bytes()
    ledger = Ledger(path, FixedClock())
    with monkeypatch.context() as patch:

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            ledger.append("control", {"action": "lost"})
    assert path.read_bytes() == before
    ledger.append("control", {"action": "kept"})
    assert read_ledger(path)[-1]["data"]["action"] == "kept"


def test_missing_ledger_says_where(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger here"):
        read_ledger(tmp_path / "ledger.jsonl")


def test_what_cannot_be_written_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.jsonl")
    before = path.read_bytes()
    for value in (float("nan"), "\ud800", object()):
        with pytest.raises(LedgerError, match="control event cannot be written"):
            Ledger(path).append("control", {"action": value})
    assert path.read_bytes() == before


def test_memory_and_file_agree_when_a_caller_changes_its_data(tmp_path: Path) -> None:
    ledger, data = Ledger(tmp_path / "l", FixedClock()), {"inner": [1]}
    ledger.append("control", {"action": data})
    data["inner"].append(2)
    assert ledger.events == read_ledger(tmp_path / "l")
