"""Saves: whole or not there, whatever ends the process, and found again by a later attempt."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosweep.core.files import read_json
from neurosweep.core.layout import AttemptDir, TrialDir
from neurosweep.exec.job_api import JobContext, NoSaves, Yielded
from neurosweep.exec.lease import Lease
from neurosweep.exec.resume import MANIFEST, NEVER, ResumeFolder, SavePoint, made_progress
from neurosweep.exec.saving import Saver
from neurosweep.testing.fake import FakeClock


def writer(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(content)


def opened(files: AttemptDir, run_sha: str = "run") -> ResumeFolder:
    folder = ResumeFolder(files, run_sha)
    folder.find()
    return folder


def content(folder: ResumeFolder, name: str = "state") -> bytes | None:
    path = folder.path(name)
    return None if path is None else path.read_bytes()


@pytest.fixture
def attempts(tmp_path: Path) -> list[AttemptDir]:
    made = [TrialDir(tmp_path).attempt(number) for number in (1, 2, 3)]
    for files in made:
        files.root.mkdir(parents=True)
    return made


def test_nothing_is_there_before_the_first_save(attempts: list[AttemptDir]) -> None:
    folder = opened(attempts[0])
    assert (folder.point, folder.path("state")) == (SavePoint("run"), None)
    assert not attempts[0].resume.exists()


def test_the_last_save_is_found_and_only_its_files_stay(attempts: list[AttemptDir]) -> None:
    folder = opened(attempts[0])
    folder.save("first", writer(b"kept"), SavePoint("run"))
    for text in (b"one", b"two"):
        folder.save("state", writer(text), SavePoint("run", restart=1, seconds=2.5, lines=7))
    again = opened(attempts[0])
    assert (content(again), content(again, "first")) == (b"two", b"kept")
    point = again.point
    assert (point.number, point.restart, point.seconds, point.lines) == (3, 1, 2.5, 7)
    assert len(list(attempts[0].resume.iterdir())) == 3
    again.delete()
    assert not attempts[0].resume.exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "x" * 65])
def test_a_name_that_is_no_plain_word_is_refused(attempts: list[AttemptDir], name: str) -> None:
    with pytest.raises(ValueError, match="use letters, digits"):
        opened(attempts[0]).save(name, writer(b""), SavePoint("run"))


def killed_at(operation: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that dies before its n-th file operation; return whether it did."""
    pid = os.fork()
    if pid == 0:
        left = [operation]

        def count(event: str, _args: Any) -> None:
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "shutil.copyfile"):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def test_killed_before_any_file_operation_the_old_or_the_new_save_is_whole(
    attempts: list[AttemptDir],
) -> None:
    """A save is tried again and again, dying one operation later each time."""
    files = attempts[0]
    opened(files).save("other", writer(b"stays"), SavePoint("run"))
    opened(files).save("state", writer(b"0"), SavePoint("run"))
    seen = []
    for operation in range(1, 40):
        before = opened(files).point.number
        new = str(operation).encode()
        died = killed_at(
            operation, lambda new=new: opened(files).save("state", writer(new), SavePoint("run"))
        )
        folder = opened(files)
        assert content(folder, "other") == b"stays"
        if folder.point.number == before:
            assert died
            assert content(folder) != new
        else:
            assert content(folder) == new
        seen.append((died, folder.point.number > before))
        if not died:
            break
    assert {(True, False), (True, True), (False, True)} == set(seen)


def test_killed_while_copying_a_later_attempt_starts_from_the_whole_save(
    attempts: list[AttemptDir],
) -> None:
    first, second, _ = attempts
    opened(first).save("state", writer(b"x" * 1000), SavePoint("run", lines=2))
    first.metrics.write_bytes(b"{}\n{}\n{}\n")
    for operation in range(1, 60):
        died = killed_at(operation, lambda: opened(second).point)
        if not died:
            break
        # A process that dies leaves half a copy; the next one makes it again.
        assert content(opened(second)) == b"x" * 1000
        assert second.metrics.read_bytes() == b"{}\n{}\n"
        opened(second).delete()
        second.metrics.unlink()
    assert operation > 5


def test_a_new_attempt_goes_on_from_the_latest_that_has_a_save(attempts: list[AttemptDir]) -> None:
    for number, files in enumerate(attempts[:2]):
        opened(files).save("state", writer(b"%d" % number), SavePoint("run", 0, number, lines=1))
        files.metrics.write_bytes(b"{}\n{}\n")
    before = {path.name: path.read_bytes() for path in attempts[1].resume.iterdir()}
    third = opened(attempts[2])
    assert (content(third), third.point.restart) == (b"1", NEVER)
    third.save("state", writer(b"later"), SavePoint("run", restart=0))
    assert {path.name: path.read_bytes() for path in attempts[1].resume.iterdir()} == before
    assert attempts[2].metrics.read_bytes() == b"{}\n"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[AttemptDir], object]] = {
    "a bit": lambda files: _flip(files.resume / "state.1"),
    "cut": lambda files: os.truncate(files.resume / "state.1", 3),
    "gone": lambda files: (files.resume / "state.1").unlink(),
    "manifest cut": lambda files: os.truncate(files.resume / MANIFEST, 30),
    "manifest of another kind": lambda files: (files.resume / MANIFEST).write_text("[]"),
    "a name outside": lambda files: (files.resume / MANIFEST).write_text(
        (files.resume / MANIFEST).read_text().replace("state.1", "../../../passwd")
    ),
    "fewer lines than were saved": lambda files: files.metrics.write_bytes(b"{}\n{"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_save_is_passed_over_and_said(
    what: str, attempts: list[AttemptDir], caplog: pytest.LogCaptureFixture
) -> None:
    first, second, _ = attempts
    opened(first).save("state", writer(b"x" * 64), SavePoint("run", lines=2))
    first.metrics.write_bytes(b"{}\n{}\n")
    DAMAGE[what](first)
    folder = opened(second)
    assert folder.point == SavePoint("run")
    assert not second.resume.exists()
    assert "the job does without" in caplog.text
    folder.save("state", writer(b"new"), SavePoint("run"))
    assert content(opened(second)) == b"new"


def test_a_save_of_another_run_is_not_used(
    attempts: list[AttemptDir], caplog: pytest.LogCaptureFixture
) -> None:
    opened(attempts[0]).save("state", writer(b"x"), SavePoint("run"))
    assert opened(attempts[1], "other").path("state") is None
    assert "belongs to another run.json" in caplog.text


@settings(max_examples=30, deadline=None)
@given(
    saves=st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=50)), max_size=12),
    reopen=st.integers(1, 4),
)
def test_every_name_gives_what_was_saved_last_under_it(
    tmp_path_factory: pytest.TempPathFactory, saves: list[tuple[str, bytes]], reopen: int
) -> None:
    files = AttemptDir(tmp_path_factory.mktemp("attempt"))
    folder = opened(files)
    for number, (name, data) in enumerate(saves, start=1):
        folder.save(name, writer(data), SavePoint("run"))
        if number % reopen == 0:
            folder = opened(files)
    last = dict(saves)
    assert {name: content(opened(files), name) for name in "abc"} == {
        name: last.get(name) for name in "abc"
    }


class Desk:
    """A saver over a clock that stands still, and whether its job was asked to leave."""

    def __init__(self, files: AttemptDir) -> None:
        self.clock = FakeClock()
        self.leaving = False
        self.folder = opened(files)
        self.saver = Saver(
            self.folder, 300.0, lambda: self.leaving, lambda: SavePoint("run"), self.clock
        )


def test_a_job_saves_from_time_to_time_and_before_it_leaves(attempts: list[AttemptDir]) -> None:
    desk = Desk(attempts[0])
    assert not desk.saver.due()
    desk.clock.sleep(299.0)
    assert not desk.saver.due()
    desk.clock.sleep(1.0)
    assert desk.saver.due()
    desk.saver.save("state", writer(b"1"))
    assert not desk.saver.due()
    desk.leaving = True
    assert desk.saver.due()
    with pytest.raises(Yielded):
        desk.saver.save("state", writer(b"2"))
    assert content(opened(attempts[0])) == b"2"


def test_training_code_cannot_swallow_the_request_to_leave() -> None:
    assert not issubclass(Yielded, Exception)


def test_a_job_tells_how_long_it_needs_to_its_next_save(attempts: list[AttemptDir]) -> None:
    desk = Desk(attempts[0])
    desk.clock.sleep(50.0)  # loading does not count
    for pause in (2.0, 7.0, 3.0):
        desk.saver.due()
        desk.clock.sleep(pause)
    desk.saver.due()
    assert desk.saver.needed_s == 7.0
    desk.saver.save("state", lambda _file: desk.clock.sleep(4.0))
    desk.saver.due()
    assert desk.saver.needed_s == 11.0


def test_on_a_full_disk_the_job_goes_on_with_the_save_before(
    attempts: list[AttemptDir], caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(attempts[0])
    desk.saver.save("state", writer(b"1"))

    def full(_file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    desk.saver.save("state", full)
    assert content(opened(attempts[0])) == b"1"
    assert "could not be saved, it goes on" in caplog.text
    desk.leaving = True
    with pytest.raises(Yielded):
        desk.saver.save("state", full)

    def broken(_file: BinaryIO) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output"):
        desk.saver.save("state", broken)


def test_a_job_of_its_own_needs_no_saves(tmp_path: Path) -> None:
    context = JobContext(
        attempt_dir=tmp_path,
        config={},
        seed=0,
        threads=1,
        folds=(),
        log=print,
        beat=print,
        should_stop=bool,
    )
    assert isinstance(context.saves, NoSaves)
    assert (context.save_due(), context.load("state")) == (False, None)
    context.save("state", writer(b"x"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "lease"),
    [
        ({}, Lease("7")),
        ({"NEUROSWEEP_TASK_S": "60"}, Lease("7")),
        ({"NEUROSWEEP_REQUEUE": "0", "NEUROSWEEP_TASK_S": "60"}, Lease("7")),
        ({"NEUROSWEEP_REQUEUE": "1"}, Lease("7", True)),
        ({"NEUROSWEEP_REQUEUE": "1", "NEUROSWEEP_TASK_S": "60"}, Lease("7", True, 60.0)),
        ({"NEUROSWEEP_REQUEUE": "1", "NEUROSWEEP_TASK_S": "soon"}, Lease("7", True)),
        ({"NEUROSWEEP_REQUEUE": "1", "NEUROSWEEP_TASK_S": "-1"}, Lease("7", True)),
        ({"NEUROSWEEP_REQUEUE": "1", "NEUROSWEEP_TASK_S": "nan"}, Lease("7", True)),
        ({"NEUROSWEEP_REQUEUE": "1", "NEUROSWEEP_JOB": "local-7"}, Lease("7")),
    ],
)
def test_the_lease_follows_from_the_environment(environ: dict[str, str], lease: Lease) -> None:
    assert Lease.of(environ, "7") == lease


def fake_commands(folder: Path, state: str, *, squeue: int = 0, scontrol: int = 0) -> Path:
    """Put a scheduler's commands into a folder; what they were asked goes to `calls`."""
    calls = folder / "calls"
    for name, text, code in (("squeue", state, squeue), ("scontrol", "", scontrol)):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\necho {text}\nexit {code}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return calls


@pytest.mark.parametrize(
    ("state", "codes", "comes_back"),
    [
        ("RUNNING", {}, True),
        ("COMPLETING", {}, False),
        ("CANCELLED", {}, False),
        ("", {}, False),
        ("RUNNING", {"squeue": 1}, False),
        ("RUNNING", {"scontrol": 1}, False),
    ],
)
def test_only_a_running_task_asks_to_come_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    codes: dict[str, int],
    comes_back: bool,
) -> None:
    """A task that is being cancelled would be brought back to life."""
    calls = fake_commands(tmp_path, state, **codes)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Lease("12_3", True).come_back() is comes_back
    asked = calls.read_text().splitlines()
    assert asked[0] == "squeue -h -j 12_3 -o %T"
    assert ("scontrol requeue 12_3" in asked) == (state == "RUNNING" and "squeue" not in codes)


def test_without_a_scheduler_a_task_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not Lease("12_3", True).come_back()


def test_the_manifest_is_readable(attempts: list[AttemptDir]) -> None:
    opened(attempts[0]).save("state", writer(b"x"), SavePoint("run", epochs=2, peak_mb=1.5))
    data = read_json(attempts[0].resume / MANIFEST)
    assert (data["v"], data["epochs"], data["files"]["state"]["file"]) == (1, 2, "state.1")
    assert json.dumps(data)


def test_an_attempt_made_progress_once_it_saved_itself(attempts: list[AttemptDir]) -> None:
    assert not made_progress(attempts[0])
    opened(attempts[0]).save("state", writer(b"x"), SavePoint("run", restart=0))
    assert made_progress(attempts[0])
    later = opened(attempts[1])
    assert later.point.number == 1
    assert not made_progress(attempts[1]), "what it was given is not its own"
    later.save("state", writer(b"y"), SavePoint("run", restart=0))
    assert not made_progress(attempts[1]), "it came no further than the one before"
    later.save("state", writer(b"z"), SavePoint("run", restart=0, seconds=2.0))
    assert made_progress(attempts[1])
    (attempts[1].resume / MANIFEST).write_text("{")
    assert not made_progress(attempts[1])
