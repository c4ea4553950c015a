"""The process that is the fake cluster: it listens, forks tasks, and dies with its owner."""

from __future__ import annotations

import contextlib
import gc
import heapq
import importlib
import itertools
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosweep.testing.slurm.asked import Reply
from neurosweep.testing.slurm.commands import Call, answer
from neurosweep.testing.slurm.process import CLAIM
from neurosweep.testing.slurm.scheduler import Scheduler
from neurosweep.testing.slurm.script import Answer, CommandFault, FaultScript
from neurosweep.testing.slurm.setup import Setup

_WARM = (
    "numpy",
    "submitit.core.submission",
    "neurosweep.exec.runner",
    "neurosweep.exec.executors.slurm",
    "neurosweep.testing.entry",
    "neurosweep.testing.jobs",
)


@dataclass
class _Caller:
    """One connection: a command, or a task that tells something."""

    line: socket.socket
    data: bytes = b""
    answered: bool = field(default=False)


class Daemon:
    """Run the cluster.

    Parameters
    ----------
    setup
        What it is started with.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._log = os.open(setup.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._calls: Counter[str] = Counter()
        self._said: dict[tuple[str, ...], Reply] = {}
        self._selector = selectors.DefaultSelector()
        self._scheduler = self._new_scheduler(setup.script)
        self._over = False

    def run(self) -> None:
        """Serve until the owner is gone."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._setup.site.socket)
        listener.listen(128)
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))
        self._selector.register(woken, selectors.EVENT_READ, lambda: os.read(woken, 4096))
        self._selector.register(0, selectors.EVENT_READ, self._hear_owner)
        gc.freeze()
        os.write(1, b"ready\n")
        try:
            while not self._over:
                self._turn()
        finally:
            self._scheduler.lives.kill_all()
            Path(self._setup.site.socket).unlink(missing_ok=True)

    def _turn(self) -> None:
        self._scheduler.schedule()
        wait = self._timers[0][0] - time.monotonic() if self._timers else None
        for key, _ in self._selector.select(None if wait is None else max(wait, 0.0)):
            key.data()
        self._reap()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._numbers), action))

    def _new_scheduler(self, script: FaultScript) -> Scheduler:
        setup = self._setup
        return Scheduler(setup.site, script, setup.start_id, self._later, self._note)

    def _hear_owner(self) -> None:
        if not os.read(0, 4096):
            self._over = True

    def _reap(self) -> None:
        for pid in self._scheduler.lives.pids:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._scheduler.lives.reaped(pid, status)

    def _accept(self, listener: socket.socket) -> None:
        caller = _Caller(listener.accept()[0])
        self._selector.register(caller.line, selectors.EVENT_READ, lambda: self._read(caller))

    def _read(self, caller: _Caller) -> None:
        data = caller.line.recv(1 << 20)
        if data:
            caller.data += data
            return
        self._selector.unregister(caller.line)
        if not caller.data:
            caller.line.close()
            return
        words = caller.data.decode("utf-8", "surrogateescape").split("\0")
        command, cwd, pid, count, *rest = words
        arguments = tuple(rest[: int(count)])
        if command.startswith("@"):
            self._hear(command, int(pid), arguments)
            caller.line.close()
            return
        environ = dict(word.split("=", 1) for word in rest[int(count) :] if "=" in word)
        self._serve(caller, Call(command, arguments, Path(cwd), environ, int(pid)))

    def _hear(self, command: str, pid: int, words: tuple[str, ...]) -> None:
        """Take note of what a task, or the owner, tells."""
        if command == "@file":
            self._file_appeared(pid, words[0], int(words[1]), Path(words[2]))
        elif command == "@late":
            source, target, seconds = words
            self._later(float(seconds), lambda: _move(source, target))
        elif command == "@obey":
            script = FaultScript.from_dict(json.loads(words[0]))
            self._scheduler.lives.kill_all()
            self._timers.clear()
            self._calls.clear()
            self._said.clear()
            self._scheduler = self._new_scheduler(script)
            os.truncate(self._log, 0)

    def _file_appeared(self, pid: int, job_id: str, restart: int, path: Path) -> None:
        if path.name == CLAIM:
            self._scheduler.lives.claimed(pid, str(path.parent))
        for task in self._scheduler.find(job_id):
            if task.pid == pid and task.restarts == restart:
                self._scheduler.strikes.strike(task, path.name)

    def _serve(self, caller: _Caller, call: Call) -> None:
        self._calls[call.command] += 1
        number = self._calls[call.command]
        faults = self._scheduler.script.commands
        fault = next((f for f in faults if f.hits(call.command, number)), None)
        reply = self._reply(call, fault)
        does = fault.does.value if fault else ""
        row = {"what": "call", "command": call.command, "arguments": call.arguments}
        self._note(row | {"number": number, "code": reply.code, "fault": does})
        hangs = fault is not None and fault.does in (Answer.HANG, Answer.HANG_AFTER)
        if fault is not None and hangs:
            self._later(fault.for_s, lambda: _send(caller, reply))
        else:
            _send(caller, reply)

    def _reply(self, call: Call, fault: CommandFault | None) -> Reply:
        """Do what a command asks, and let its answer be what the fault makes of it."""
        key = (call.command, *call.arguments)
        if fault is None:
            self._said[key] = answer(self._scheduler, call)
            return self._said[key]
        failed = Reply(error=f"{fault.text}\n", code=1)
        if fault.does in (Answer.FAIL, Answer.HANG):
            return failed
        if fault.does is Answer.STALE:
            return self._said.get(key, Reply())
        if fault.does is Answer.KILL_CALLER:
            _kill(call.caller)
            return failed
        reply = answer(self._scheduler, call)
        if fault.does is Answer.KILL_CALLER_AFTER:
            _kill(call.caller)
        if fault.does is Answer.FAIL_AFTER:
            return failed
        if fault.does is Answer.CUT:
            return Reply(reply.out[: len(reply.out) // 2])
        return Reply() if fault.does is Answer.EMPTY else reply

    def _note(self, row: Mapping[str, Any]) -> None:
        os.write(self._log, json.dumps({"t": time.time(), **row}).encode() + b"\n")


def _send(caller: _Caller, reply: Reply) -> None:
    out, error = reply.out.encode(), reply.error.encode()
    with contextlib.suppress(OSError):
        caller.line.setblocking(True)
        caller.line.sendall(f"{reply.code} {len(out)}\n".encode() + out + error)
    caller.line.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _move(source: str, target: str) -> None:
    with contextlib.suppress(OSError):
        Path(source).replace(target)


def main(path: Path) -> None:
    """Run the cluster that a file describes."""
    setup = Setup.from_dict(json.loads(path.read_bytes()))
    for name in _WARM:
        importlib.import_module(name)
    Daemon(setup).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
