"""The lock of a study: one driver, named; a dead one's place is taken."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest

from neurosweep.core.errors import LockedError
from neurosweep.exec.claim import ProcessMark
from neurosweep.research.lock import LEASE_S, StudyLock, live_driver, read_holder
from neurosweep.testing.fake import FakeClock


@pytest.fixture(autouse=True)
def no_settling(monkeypatch):
    """Do not wait for another machine that might write its name in the same moment."""
    monkeypatch.setattr("neurosweep.research.lock._SETTLE_S", 0.0)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "study-20260101-0000"
    folder.mkdir()
    return folder / "lock"


def leave_behind(path, **changes):
    mark = asdict(ProcessMark.of(os.getpid())) | changes
    path.write_text(json.dumps({"v": 1, **mark, "since": "2026-01-01T00:00:00.000Z"}))


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_lock_is_refused_and_names_the_first(path):
    with StudyLock(path):
        with pytest.raises(LockedError, match=rf"process {os.getpid()} on {socket.gethostname()}"):
            StudyLock(path).acquire()
        assert live_driver(path) is not None
    assert live_driver(path) is None
    with StudyLock(path):
        pass


def test_a_lock_that_a_dead_process_left_is_taken(path):
    leave_behind(path, pid=dead_pid())
    assert live_driver(path) is None
    with StudyLock(path):
        assert read_holder(path).mark.pid == os.getpid()


def test_a_pid_used_again_is_not_the_holder(path):
    leave_behind(path, start_ticks=1)
    with StudyLock(path):
        pass


def test_a_holder_of_an_earlier_boot_is_dead(path):
    leave_behind(path, boot="another")
    with StudyLock(path):
        pass


def test_a_living_holder_without_the_kernels_lock_is_believed(path):
    leave_behind(path)
    with pytest.raises(LockedError):
        StudyLock(path).acquire()


def test_a_holder_on_another_machine_is_believed_while_it_gives_signs_of_life(path):
    leave_behind(path, host="node17")
    clock = FakeClock()
    with pytest.raises(LockedError, match="on node17"):
        StudyLock(path, clock).acquire()
    assert live_driver(path, clock) is not None
    clock.sleep(LEASE_S + 1)
    assert live_driver(path, clock) is None
    with StudyLock(path, clock):
        pass


def test_a_driver_that_was_frozen_for_long_finds_its_lock_taken(path, monkeypatch):
    frozen = StudyLock(path)
    frozen.acquire()
    frozen.check()
    leave_behind(path, host="node17")
    frozen.check()  # it has just looked
    monkeypatch.setattr("neurosweep.research.lock.time.time", lambda: 4e9)
    with pytest.raises(LockedError, match="on node17"):
        frozen.check()
    frozen.release()
    assert read_holder(path).mark.host == "node17", "the new holder keeps it"


def test_of_two_machines_that_take_a_lapsed_lock_the_last_name_holds(path, monkeypatch):
    leave_behind(path, host="node17")
    clock = FakeClock()
    clock.sleep(LEASE_S + 1)

    def another_writes(_seconds):
        leave_behind(path, host="node18")

    monkeypatch.setattr("neurosweep.research.lock.time.sleep", another_writes)
    with pytest.raises(LockedError, match="on node18"):
        StudyLock(path, clock).acquire()
    assert read_holder(path).mark.host == "node18"


@pytest.mark.parametrize("content", [b"", b"{", b'{"v": 1}', b"[]", b"\xff"])
def test_a_damaged_lock_holds_nobody(path, content):
    path.write_bytes(content)
    assert read_holder(path) is None
    with StudyLock(path):
        pass


def test_a_killed_holder_frees_the_lock_at_once(path):
    code = (
        "import sys, os, pathlib\n"
        "from neurosweep.research.lock import StudyLock\n"
        "StudyLock(pathlib.Path(sys.argv[1])).acquire()\n"
        "print('held', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    roots = os.pathsep.join(p for p in sys.path if p)
    env = {**os.environ, "PYTHONPATH": roots}
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=env, capture_output=True, check=False
    )
    assert run.stdout == b"held\n"
    with StudyLock(path):
        pass
