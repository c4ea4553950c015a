"""Start tasks by forking: what a batch script would run in a new interpreter, without one."""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shlex
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.testing.slurm.batch import signal_number

CLAIM = "claim.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_MAX_DESCRIPTORS = 4096


@dataclass(frozen=True)
class Plan:
    """Hold what a batch script comes down to, when it is simple enough to be forked.

    Attributes
    ----------
    exports
        Variables that it sets.
    ignored
        Signals that it ignores, by number.
    module, arguments
        What ``python -m`` is asked to run.
    """

    exports: Mapping[str, str]
    ignored: tuple[int, ...]
    module: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Start:
    """Hold what a task is started with.

    Attributes
    ----------
    job_id, restart
        Which life of which task.
    script
        Lines of the batch script.
    cwd, environ, output
        Folder, environment and the file it prints to.
    node
        Name that the task believes its machine has.
    socket
        Where the cluster listens.
    gates
        Names of files at whose appearance the cluster is told, before the task goes on.
    late
        Names of files to the seconds that they become visible late.
    spool
        Folder for scripts that a shell must run.
    """

    job_id: str
    restart: int
    script: tuple[str, ...]
    cwd: Path
    environ: Mapping[str, str]
    output: Path
    node: str
    socket: str
    gates: frozenset[str]
    late: Mapping[str, float]
    spool: Path


def read_plan(script: Sequence[str]) -> Plan | None:
    """Return what a script runs, or None when only a shell can tell."""
    exports: dict[str, str] = {}
    ignored: list[int] = []
    lines = [line for line in script if line.strip() and not line.lstrip().startswith("#")]
    for line in lines[:-1]:
        words = _words(line)
        if words[:1] == ["export"] and len(words) > 1 and all(map(_NAME.match, words[1:])):
            exports |= dict(word.split("=", 1) for word in words[1:])
        elif words[:2] == ["trap", ""] and len(words) > 2:
            ignored += (signal_number(word) for word in words[2:])
        else:
            return None
    words = _words(lines[-1]) if lines else []
    if words[:1] == ["exec"]:
        words = words[1:]
    if "-m" not in words or not Path(words[0]).name.startswith("python"):
        return None
    at = words.index("-m")
    if any(word not in ("-u", "-B", "-s", "-E") for word in words[1:at]):
        return None
    return Plan(exports, tuple(ignored), words[at + 1], tuple(words[at + 2 :]))


def _words(line: str) -> list[str]:
    """Return the words of a line that means the same without a shell; else none."""
    bare = re.sub(r"'[^']*'", "", line)
    if re.search(r"[$`;&|<>*?(){}\[\]~\\]", bare):
        return []
    try:
        return shlex.split(line)
    except ValueError:
        return []


def fork_task(start: Start) -> int:
    """Start a task in a process group of its own and return its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        # Here and there: whoever comes first, the group exists before anybody signals it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        code = _be_the_task(start)
    except BaseException:  # noqa: BLE001 - the end of a process: nothing may get past this line
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _be_the_task(start: Start) -> int:
    os.setpgid(0, 0)
    _forget_the_cluster()
    start.output.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    output = os.open(start.output, flags, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, _MAX_DESCRIPTORS)
    os.chdir(start.cwd)
    os.environ.clear()
    os.environ.update(start.environ)
    plan = read_plan(start.script)
    if plan is None:
        path = start.spool / f"{start.job_id}.{start.restart}.sh"
        path.write_text("\n".join(start.script) + "\n", encoding="utf-8")
        os.execv("/bin/bash", ["bash", str(path)])
    os.environ.update(plan.exports)
    for number in plan.ignored:
        signal.signal(number, signal.SIG_IGN)
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [plan.module, *plan.arguments]
    socket.gethostname = lambda: start.node
    _Gate(start).install()
    return _run_module(plan.module)


def _forget_the_cluster() -> None:
    """Put the process into the state of a fresh interpreter, as far as tasks can tell."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _run_module(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        sys.stderr.write(f"{leaving.code}\n")
        return 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    return 0


class _Gate:
    """Tell the cluster when a file appears, and hold back those that are to come late."""

    def __init__(self, start: Start) -> None:
        self._start = start

    def install(self) -> None:
        """Step between the task and the calls that let a file appear."""
        os.replace = self._between(os.replace, may_delay=True)
        os.link = self._between(os.link, may_delay=False)

    def _between(self, real: Callable[..., Any], *, may_delay: bool) -> Callable[..., Any]:
        def call(source: Any, target: Any, **named: Any) -> None:
            name = Path(target).name
            if may_delay and name in self._start.late:
                seconds = self._start.late[name]
                self._tell("@late", str(source), str(target), str(seconds))
            else:
                real(source, target, **named)
            if name in self._start.gates:
                self._tell("@file", self._start.job_id, str(self._start.restart), str(target))

        return call

    def _tell(self, *words: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.connect(self._start.socket)
            request = [words[0], "/", str(os.getpid()), str(len(words) - 1), *words[1:]]
            line.sendall("\0".join(request).encode("utf-8", "surrogateescape"))
            line.shutdown(socket.SHUT_WR)
            while line.recv(4096):
                pass
