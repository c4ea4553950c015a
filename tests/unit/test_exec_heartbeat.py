"""Signs of life, and telling slow from stuck."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.clock import utc_iso
from neurosweep.exec.heartbeat import Pulse, held_seconds, is_stalled, read_heartbeat
from neurosweep.testing.fake import FakeClock


def beat_at(progress: float, written: float) -> dict[str, object]:
    return {"v": 1, "t": utc_iso(written), "progress_t": utc_iso(progress), "phase": "train"}


def test_before_the_first_sign_of_life_nothing_is_stalled() -> None:
    assert not is_stalled(None, 1e9, 1.0)


def test_a_process_that_lives_but_does_not_move_is_stalled() -> None:
    assert is_stalled(beat_at(progress=100.0, written=700.0), now=701.0, stall_s=600.0)
    assert not is_stalled(beat_at(progress=100.0, written=700.0), now=700.0, stall_s=600.0)


@pytest.mark.parametrize(
    "damaged", [{}, {"t": 5}, {"t": None, "progress_t": "yesterday"}, {"t": "9999-99-99"}]
)
def test_signs_of_life_without_a_time_count_as_none(damaged: dict[str, object]) -> None:
    assert is_stalled(damaged, 0.0, 1e9)


def test_without_progress_the_time_of_writing_counts() -> None:
    assert not is_stalled({"t": utc_iso(50.0)}, 55.0, 10.0)


@given(
    last=st.floats(0, 2e9),
    waited=st.floats(0, 1e6),
    limit=st.floats(1, 1e6),
    more=st.floats(0, 1e6),
)
def test_waiting_longer_never_undoes_a_stall(
    last: float, waited: float, limit: float, more: float
) -> None:
    beat = beat_at(last, last)
    if is_stalled(beat, last + waited, limit):
        assert is_stalled(beat, last + waited + more, limit)
    else:
        assert not is_stalled(beat, last + waited, limit + more)


def test_the_pulse_writes_what_was_reported(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.json"
    pulse = Pulse(path, period_s=3600.0)
    pulse.start()
    assert json.loads(path.read_text())["phase"] == "start"
    pulse.beat("train", step=3, epoch=1, loss=0.5)
    pulse.stop()
    heartbeat = read_heartbeat(path)
    assert heartbeat is not None
    expected = {"phase": "train", "step": 3, "epoch": 1, "loss": 0.5}
    assert {key: heartbeat[key] for key in expected} == expected
    pulse.beat("decode")
    assert pulse.num_epochs == 2
    assert [p.name for p in tmp_path.iterdir()] == ["heartbeat.json"]


def test_the_place_of_an_attempt_is_counted_over_its_starts_without_the_wait(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "heartbeat.json", FakeClock()
    assert held_seconds(path) is None
    for seconds in (600.0, 30.0):
        pulse = Pulse(path, clock=clock)
        clock.sleep(seconds)
        pulse.write()
        clock.sleep(36000.0)
    assert held_seconds(path) == 630.0


@pytest.mark.parametrize("held", ["-1", "true", '"9"', "1e999", "null"])
def test_a_place_that_cannot_be_counted_is_none(tmp_path: Path, held: str) -> None:
    path = tmp_path / "heartbeat.json"
    path.write_text(f'{{"held_s": {held}}}')
    assert held_seconds(path) is None


def test_a_loss_that_is_not_a_number_keeps_the_file_strict(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.json"
    pulse = Pulse(path)
    pulse.beat("train", loss=float("inf"))
    pulse.write()
    heartbeat = read_heartbeat(path)
    assert heartbeat is not None
    assert heartbeat["loss"] is None


def test_the_pulse_runs_its_checks_and_writes_again(tmp_path: Path) -> None:
    path, checked = tmp_path / "heartbeat.json", threading.Event()
    pulse = Pulse(path, [checked.set], period_s=0.005)
    pulse.start()
    first = path.stat().st_mtime_ns
    assert checked.wait(10.0)
    for _ in range(1000):
        if path.stat().st_mtime_ns != first:
            break
        threading.Event().wait(0.005)
    pulse.stop()
    assert path.stat().st_mtime_ns != first


def test_a_folder_that_cannot_be_written_does_not_end_the_job(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path / "absent" / "heartbeat.json")
    pulse.start()
    pulse.stop()
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"t": NaN}', b"\xff"])
def test_a_damaged_heartbeat_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "heartbeat.json"
    path.write_bytes(content)
    assert read_heartbeat(path) is None
