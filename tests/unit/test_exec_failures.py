"""What an exception, or the end of a process, means."""

import errno
import re
import signal
from pathlib import Path

import pytest

from neurosweep.core.errors import ConfigError, PredictionsError, WrongCodeError
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.endings import ProcessEnd, ended_view, explain
from neurosweep.exec.failures import Stopped, classify, record_of
from neurosweep.exec.job_api import Diverged
from neurosweep.exec.protocol import TaskPhase
from neurosweep.records.trial import Kind


class OutOfMemoryError(RuntimeError):
    """Named like torch's own."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("shape"), Kind.USER_ERROR),
        (ConfigError("x"), Kind.USER_ERROR),
        (SystemExit(0), Kind.USER_ERROR),
        (MemoryError(), Kind.OOM_HOST),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), Kind.OOM_HOST),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Kind.OOM_HOST),
        (RuntimeError("CUDA out of memory. Tried to allocate"), Kind.OOM_GPU),
        (OutOfMemoryError("HIP"), Kind.OOM_GPU),
        (Diverged("loss is nan"), Kind.DIVERGED),
        (WrongCodeError("elsewhere"), Kind.WRONG_CODE),
        (PredictionsError("line 3"), Kind.BROKEN_PREDICTIONS),
        (OSError(errno.ENOSPC, "No space left on device"), Kind.NODE_FAILURE),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Kind.NODE_FAILURE),
        (OSError(errno.EFBIG, "File too large"), Kind.USER_ERROR),
        (FileNotFoundError(errno.ENOENT, "No such file"), Kind.USER_ERROR),
        (Stopped(Kind.TIME_LIMIT, "late"), Kind.TIME_LIMIT),
        (KeyboardInterrupt(), Kind.CANCELLED_USER),
    ],
)
def test_every_exception_has_its_kind(error: BaseException, kind: Kind) -> None:
    assert classify(error) is kind


def test_a_full_disk_says_what_to_do() -> None:
    record = record_of(OSError(errno.ENOSPC, "No space left on device", "/data/last.ckpt"))
    assert record.text == "the disk is full (/data/last.ckpt); free space, then resume the study"


def test_errors_are_bounded() -> None:
    record = record_of(ValueError("x" * 10**6))
    assert len(record.text) <= 20_000
    assert len(record.traceback) <= 40_000


@pytest.mark.parametrize(
    ("ending", "kind", "text"),
    [
        (ProcessEnd(signal=signal.SIGKILL, oom_killed=True), Kind.OOM_HOST, "ran out of memory"),
        (ProcessEnd(signal=signal.SIGKILL), Kind.LOST, "SIGKILL"),
        (ProcessEnd(signal=signal.SIGTERM), Kind.LOST, "SIGTERM"),
        (ProcessEnd(signal=signal.SIGSEGV), Kind.USER_ERROR, "SIGSEGV"),
        (ProcessEnd(signal=63), Kind.USER_ERROR, "signal 63|SIGRTMAX"),
        (ProcessEnd(exit_code=7), Kind.USER_ERROR, "exit code 7"),
        (ProcessEnd(exit_code=0), Kind.USER_ERROR, "exit code 0"),
        (ProcessEnd(exit_code=4), Kind.NODE_FAILURE, "disk full"),
        (ProcessEnd(), Kind.LOST, "is gone"),
    ],
)
def test_every_silent_end_is_explained(ending: ProcessEnd, kind: Kind, text: str) -> None:
    found, reason = explain(ending)
    assert found is kind
    assert re.search(text, reason)


def test_a_status_speaks_for_itself(tmp_path: Path) -> None:
    files = AttemptDir(tmp_path)
    silent = ended_view(files, "j", ProcessEnd(exit_code=1), None, "h")
    assert (silent.phase, silent.kind_hint) == (TaskPhase.ENDED, Kind.USER_ERROR)
    files.status.write_text("{}", encoding="utf-8")
    spoken = ended_view(files, "j", ProcessEnd(exit_code=1), None, "h")
    assert (spoken.kind_hint, spoken.reason, spoken.exit_code) == (None, "", 1)
    stopped = ended_view(files, "j", ProcessEnd(exit_code=1), Kind.HANG, "h")
    assert stopped.kind_hint is Kind.HANG


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"exit_code": "0", "signal": true, "oom_killed": 1}']
)
def test_a_forged_exit_file_tells_nothing(tmp_path: Path, content: bytes) -> None:
    files = AttemptDir(tmp_path)
    files.exit.write_bytes(content)
    assert ProcessEnd.of_exit_file(files) == ProcessEnd()
