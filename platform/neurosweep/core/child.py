"""Run a child process to its end: what it tells is passed on, what it prints kept short.

The child never stays behind: it ends with the call, whatever ends the call, and with this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

Say = Callable[[str], None]
"""Told of progress, a line at a time."""

_TAIL_BYTES = 8000
_LINE_BYTES = 4000
_LOOK_S = 0.2
_DRAIN_S = 1.0
_GRACE_S = 5.0


@dataclass(frozen=True)
class Ended:
    """Say how a child ended.

    Attributes
    ----------
    returncode
        Its exit code; negative for a signal.
    tail
        The end of what it printed.
    """

    returncode: int
    tail: str


def run_child(
    command: Sequence[str], env: Mapping[str, str], *, timeout_s: float, say: Say | None = None
) -> Ended:
    """Run a command whose process calls `be_a_child` with its last two arguments.

    Parameters
    ----------
    command
        Program and arguments; two numbers of file descriptors are appended.
    env
        Its environment.
    timeout_s
        Limit in seconds.
    say
        Told every line that the child logs; None leaves progress untold.

    Raises
    ------
    TimeoutError
        When the limit has passed; the child is ended then.
    """
    with _pipe() as told, _pipe() as alive:
        process = subprocess.Popen(
            [*command, str(told.write if say else -1), str(alive.read)],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(told.write, alive.read),
            start_new_session=True,
        )
        told.close_write()
        with process:
            try:
                tail = _follow(process, told.read, say, time.monotonic() + timeout_s)
            finally:
                _end(process)
    return Ended(process.returncode, tail.decode("utf-8", "replace"))


@dataclass
class _Pipe:
    read: int
    write: int

    def close_write(self) -> None:
        os.close(self.write)
        self.write = -1


@contextlib.contextmanager
def _pipe() -> Iterator[_Pipe]:
    pipe = _Pipe(*os.pipe())
    try:
        yield pipe
    finally:
        os.close(pipe.read)
        if pipe.write >= 0:
            os.close(pipe.write)


def _follow(process: subprocess.Popen[bytes], told: int, say: Say | None, deadline: float) -> bytes:
    """Read both pipes until the child has ended, and return the end of what it printed."""
    assert process.stdout is not None
    printed, lines = _Tail(), _Lines(say)
    ended_at: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, printed.take)
        selector.register(told, selectors.EVENT_READ, lines.take)
        while True:
            now = time.monotonic()
            if ended_at is None and process.poll() is not None:
                ended_at = now
            wait = 0.0 if ended_at is not None else max(0.0, min(_LOOK_S, deadline - now))
            ready = selector.select(wait)
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                key.data(data)
                if not data:
                    selector.unregister(key.fileobj)
            # A process that the child left behind may hold the pipes open, and write for ever.
            if ended_at is not None and (not ready or now - ended_at > _DRAIN_S):
                return printed.data
            if ended_at is None and now >= deadline:
                raise TimeoutError
            if ended_at is None and not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - now))


class _Tail:
    """Keep the end of what is printed."""

    def __init__(self) -> None:
        self.data = b""

    def take(self, data: bytes) -> None:
        self.data = (self.data + data)[-_TAIL_BYTES:]


class _Lines:
    """Pass on whole lines, printable and of bounded length."""

    def __init__(self, say: Say | None) -> None:
        self._say = say
        self._rest = b""

    def take(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LINE_BYTES]
        for line in lines:
            text = line[:_LINE_BYTES].decode("utf-8", "replace")
            if self._say is not None:
                self._say("".join(c if c.isprintable() else " " for c in text))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and all it started, unless it has ended."""
    if process.poll() is not None:
        return
    try:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def be_a_child(told: int, alive: int, loggers: Sequence[str]) -> None:
    """Tell the parent of `run_child` what loggers say, and end when it asks or is gone.

    Parameters
    ----------
    told
        Where lines are written; -1 for nowhere.
    alive
        Pipe that the parent holds open while it lives.
    loggers
        Names of the loggers whose lines from INFO up are told.
    """
    signal.signal(signal.SIGTERM, _leave)
    os.set_inheritable(alive, False)
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    if told < 0:
        return
    os.set_inheritable(told, False)
    for name in loggers:
        logging.getLogger(name).addHandler(_Teller(told))
        logging.getLogger(name).setLevel(logging.INFO)


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _end_with_parent(alive: int) -> None:
    while os.read(alive, 1):
        pass
    _signal_group(os.getpgid(0), signal.SIGTERM)
    time.sleep(_GRACE_S)
    _signal_group(os.getpgid(0), signal.SIGKILL)


class _Teller(logging.Handler):
    """Write a record as one line to the parent."""

    def __init__(self, told: int) -> None:
        super().__init__(logging.INFO)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        line = " ".join(f"{level}{record.getMessage()}".split())
        data = line.encode("utf-8", "replace")[: _LINE_BYTES - 1]
        with contextlib.suppress(OSError):  # the parent is gone: the watch will end this process
            os.write(self._told, data + b"\n")
