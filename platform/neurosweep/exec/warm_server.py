"""The fork server of the local executor: a bounded queue of attempts with a warm start.

It imports the heavy modules once, with one thread, and then forks one child per attempt, each in a
session of its own. It speaks lines of JSON: commands on its standard input, events on its standard
output. When its input ends, because its driver closed it or died, it exits; its children go on.

Commands: ``start`` (job, trial, attempt, attempt_dir, env), ``kill`` (job, signal; a queued job is
dropped), ``slots`` (number). Events: ``ready``, ``started``, ``dropped``, ``ended``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurosweep.core.clock import SystemClock, utc_iso
from neurosweep.core.files import atomic_write_json
from neurosweep.core.layout import AttemptDir
from neurosweep.exec import runner
from neurosweep.exec.claim import JOB_VARIABLE, ProcessMark
from neurosweep.exec.resources import kernel_oom_kills
from neurosweep.exec.status import EXIT_NO_STATUS

_READ_BYTES = 1 << 16
_CODE_VARIABLES = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME")


@dataclass(frozen=True)
class StartCommand:
    """Hold what is needed to start one attempt.

    Attributes
    ----------
    job
        The executor's name of the job.
    trial, attempt
        Which attempt.
    attempt_dir
        Its folder.
    env
        Variables on top of the server's.
    """

    job: str
    trial: str
    attempt: int
    attempt_dir: str
    env: Mapping[str, str]


def registry_file(folder: Path, job: str) -> Path:
    """Return the file in which the server notes the process of a job.

    It lies outside of what a job may write, so that the process named here can be killed on a
    later day without trusting the job.
    """
    return folder / f"{job}.json"


class ForkServer:
    """Run queued attempts in at most a number of children.

    Parameters
    ----------
    commands, events
        File descriptors.
    slots
        Children at a time.
    registry
        Folder of `registry_file`.
    """

    def __init__(self, commands: int, events: int, slots: int, registry: Path) -> None:
        self._commands, self._events = commands, events
        self._slots = slots
        self._registry = registry
        self._queue: deque[StartCommand] = deque()
        self._running: dict[int, StartCommand] = {}
        self._incoming, self._outgoing = b"", b""
        self._oom_kills = kernel_oom_kills()
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (events, self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(commands, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def serve(self) -> None:
        """Work until the input ends."""
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._commands and not self._read_commands():
                    return
                if key.fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, _READ_BYTES)
            self._reap()
            self._fill()
            self.flush()

    def say(self, event: str, **data: Any) -> None:
        """Queue an event for the driver."""
        self._outgoing += json.dumps({"event": event, **data}).encode() + b"\n"

    def _read_commands(self) -> bool:
        data = os.read(self._commands, _READ_BYTES)
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(data)

    def _obey(self, command: dict[str, Any]) -> None:
        op = command.pop("op")
        if op == "start":
            self._queue.append(StartCommand(**command))
        elif op == "slots":
            self._slots = int(command["number"])
        elif op == "kill":
            self._kill(str(command["job"]), int(command["signal"]))

    def _kill(self, job: str, number: int) -> None:
        for start in self._queue:
            if start.job == job:
                self._queue.remove(start)
                self.say("dropped", job=job)
                return
        # A child that is not reaped yet keeps its pid, so this cannot hit another process.
        pid = next((pid for pid, start in self._running.items() if start.job == job), None)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)

    def _fill(self) -> None:
        while self._queue and len(self._running) < self._slots:
            start = self._queue.popleft()
            cold = self._why_cold(start)
            try:
                pid = self._spawn(start, warm=not cold)
            except OSError as error:
                self.say("ended", job=start.job, exit_code=EXIT_NO_STATUS, reason=str(error))
                continue
            self._running[pid] = start
            mark, now = ProcessMark.of(pid), SystemClock().now()
            note = {"v": 1, **asdict(mark), "job": start.job, "trial": start.trial}
            note |= {"attempt": start.attempt, "t": utc_iso(now)}
            with contextlib.suppress(OSError):
                atomic_write_json(registry_file(self._registry, start.job), note)
            self.say("started", job=start.job, **asdict(mark), t=now, cold=cold)

    def _why_cold(self, start: StartCommand) -> str:
        """Return why an attempt cannot be forked from the imported modules, else an empty text."""
        if _num_threads() > 1:
            return "the warm imports started threads"
        for name in _CODE_VARIABLES:
            wanted, own = start.env.get(name, os.environ.get(name)), os.environ.get(name)
            if wanted != own:
                return f"it wants {name}={wanted}, the warm code has {own}"
        return ""

    def _spawn(self, start: StartCommand, *, warm: bool) -> int:
        env = {**start.env, JOB_VARIABLE: start.job}
        if not warm:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "neurosweep.exec.runner", start.attempt_dir],
                {**os.environ, **env},
                setsid=True,
                setsigdef=[signal.SIGCHLD],
            )
        pid = os.fork()
        if pid == 0:
            self._be_child(start, env)
        return pid

    def _be_child(self, start: StartCommand, env: Mapping[str, str]) -> None:
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for descriptor in (self._commands, self._events, self._wake_read, self._wake_write):
                os.close(descriptor)
            os.environ.update(env)
            code = runner.run_attempt(start.attempt_dir)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001 - a child must never return into the server's loop
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._running:
            ready = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ready is None:
                return
            pid = ready.si_pid
            if pid in self._running:
                # What the attempt left behind ends with it, while its group still has its name.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            start = self._running.pop(pid, None)
            if start is not None:
                self._report_end(start, os.waitstatus_to_exitcode(status), usage.ru_maxrss)

    def _report_end(self, start: StartCommand, code: int, peak_kb: int) -> None:
        kills = kernel_oom_kills()
        ending = {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "oom_killed": code == -signal.SIGKILL and kills > self._oom_kills,
            "peak_mb": round(peak_kb / 1024, 1),
        }
        self._oom_kills = kills
        now = utc_iso(SystemClock().now())
        with contextlib.suppress(OSError):
            path = AttemptDir(Path(start.attempt_dir)).exit
            atomic_write_json(path, {"v": 1, "job": start.job, **ending, "t": now})
        self.say("ended", job=start.job, **ending)

    def flush(self) -> None:
        """Write what the driver takes now; the rest goes when it reads again."""
        try:
            while self._outgoing:
                sent = os.write(self._events, self._outgoing)
                self._outgoing = self._outgoing[sent:]
        except BlockingIOError:
            if self._events not in self._selector.get_map():
                self._selector.register(self._events, selectors.EVENT_WRITE)
            return
        except BrokenPipeError:
            self._outgoing = b""
        if self._events in self._selector.get_map():
            self._selector.unregister(self._events)


def _num_threads() -> int:
    """Return the number of threads of this process: more than one makes a fork unsafe."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 1


def import_warm(modules: list[str]) -> dict[str, str]:
    """Import modules, and return the reason for each that could not be.

    A module that fails here fails again, with its full error, in the attempts that need it.
    """
    failed: dict[str, str] = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - the payload boundary: imports are job code
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


def main() -> int:
    """Serve the driver at the other end of standard input and output."""
    options = json.loads(sys.argv[1])
    commands, events = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)  # whatever an import prints must not look like an event
    failed = import_warm(["numpy.random", *options["warm"]])
    gc.collect()
    gc.freeze()
    server = ForkServer(commands, events, int(options["slots"]), Path(options["registry"]))
    server.say("ready", failed=failed)
    server.flush()
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
