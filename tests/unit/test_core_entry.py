"""Calls into another package: what fails there for the machine's sake is said in one line."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosweep.core.entry import call_entry
from neurosweep.core.errors import MissingPackageError, NeurosweepError

PACKAGE = """
import errno

def full(payload):
    raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

def missing(payload):
    import no_such_package.part
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "far_away.py").write_text(PACKAGE, encoding="utf-8")
    return tmp_path


def test_a_package_that_does_not_exist(package: Path) -> None:
    with pytest.raises(NeurosweepError, match=r"no module 'far_of' in this environment$"):
        call_entry("far_of.entry:describe", {}, code_root=package)


@pytest.mark.parametrize(
    ("function", "kind", "text"),
    [
        ("full", NeurosweepError, r"the disk is full \(/data/x\); make room and try again$"),
        ("missing", MissingPackageError, "pip install no_such_package$"),
    ],
)
def test_what_the_machine_lacks(
    package: Path, function: str, kind: type[NeurosweepError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        call_entry(f"far_away:{function}", {}, code_root=package)


TALKING = """
import json
import logging
import os
import sys
import time

logger = logging.getLogger(__name__)

def talk(payload):
    logger.debug("not told")
    for number in range(3):
        logger.info("step %d of 3", number + 1)
    logger.warning("two\\nlines \\x1b[31m")
    logging.getLogger("other").info("not told")
    return {"threads": payload["threads"], "omp": os.environ["OMP_NUM_THREADS"]}

def flood(payload):
    for _ in range(64):
        os.write(2, b"e" * 65535 + b"\\n")
        os.write(1, b"o" * 65535 + b"\\n")
        logger.info("x" * 10_000)
    return {}

def wait(payload):
    open(payload["pid"], "w").write(str(os.getpid()))
    logger.info("waiting")
    try:
        time.sleep(60)
    finally:
        open(payload["pid"] + ".clean", "w").close()

def leave_child(payload):
    if os.fork() == 0:
        os.setsid()
        time.sleep(20)
        os._exit(0)
    logger.info("left")
    return {"done": True}
"""


@pytest.fixture
def talking(tmp_path: Path) -> Path:
    (tmp_path / "talking.py").write_text(TALKING, encoding="utf-8")
    return tmp_path


def test_what_is_logged_is_told_while_the_function_runs(talking: Path) -> None:
    told: list[str] = []
    answer = call_entry("talking:talk", {}, code_root=talking, threads=3, say=told.append)
    assert told == ["step 1 of 3", "step 2 of 3", "step 3 of 3", "warning: two lines  [31m"]
    assert answer == {"threads": 3, "omp": "3"}
    assert call_entry("talking:talk", {"threads": 7}, code_root=talking)["threads"] == 7


def test_much_output_neither_blocks_nor_is_kept(talking: Path) -> None:
    told: list[str] = []
    assert call_entry("talking:flood", {}, code_root=talking, timeout_s=60, say=told.append) == {}
    assert len(told) == 64
    assert max(map(len, told)) < 5000
    assert call_entry("talking:flood", {}, code_root=talking, timeout_s=60) == {}


def test_a_call_that_takes_too_long_is_ended_and_may_clean_up(talking: Path) -> None:
    pid = talking / "pid"
    with pytest.raises(NeurosweepError, match=r"talking:wait did not finish within 3 s"):
        call_entry("talking:wait", {"pid": str(pid)}, code_root=talking, timeout_s=3)
    assert _is_gone(int(pid.read_text()))
    assert pid.with_name("pid.clean").exists()


def test_an_interrupted_call_ends_its_process(talking: Path) -> None:
    pid = talking / "pid"

    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_entry("talking:wait", {"pid": str(pid)}, code_root=talking, say=interrupt)
    assert _is_gone(int(pid.read_text()))


def test_a_process_left_behind_does_not_hold_the_call(talking: Path) -> None:
    started = time.monotonic()
    told: list[str] = []
    answer = call_entry("talking:leave_child", {}, code_root=talking, say=told.append)
    assert answer == {"done": True}
    assert told == ["left"]
    assert time.monotonic() - started < 10


def test_the_process_ends_when_its_caller_is_killed(talking: Path) -> None:
    pid = talking / "pid"
    source = (
        "import sys; from pathlib import Path; from neurosweep.core.entry import call_entry; "
        f"call_entry('talking:wait', {{'pid': {str(pid)!r}}}, code_root=Path({str(talking)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", source]) as caller:
        _wait_until(lambda: pid.exists() and pid.read_text() != "")
        caller.kill()
    _wait_until(lambda: _is_gone(int(pid.read_text())))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
