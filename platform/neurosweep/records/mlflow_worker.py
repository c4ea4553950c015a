"""The mirror in a process of its own, so that the research loop never waits for MLflow."""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO, TextIO

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.errors import NeurosweepError
from neurosweep.core.files import loads_strict
from neurosweep.core.layout import Home, StudyDir
from neurosweep.core.provenance import package_root
from neurosweep.records.mirror import Mirror, MirrorReport

_MIN_INTERVAL_S = 1.0
_MAX_STARTS = 5
_NICE = 5


class BackgroundMirror:
    """Offer a mirror's interface and let a child process do the work.

    The child reads one request a line and answers each with one line of JSON. It ends when its
    input ends, after a last attempt, so a killed driver leaves nothing behind. Importing MLflow
    (two seconds) and its memory stay out of the driver.

    Parameters
    ----------
    study_dir
        Folder of the study; the child's messages go to ``mirror.log`` in it.
    home
        Home that holds the references and, by default, MLflow's database.
    uri
        Tracking URI, as for `Mirror`.
    clock
        Source of time between requests.
    """

    def __init__(
        self,
        study_dir: StudyDir,
        home: Home,
        uri: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._study, self._home, self._uri = study_dir, home, uri
        self._clock = clock or SystemClock()
        self._child: subprocess.Popen[bytes] | None = None
        self._busy = False
        self._unread = b""
        self._starts = 0
        self._next = float("-inf")
        self._report = MirrorReport(caught_up=False)

    def sync(self, force: bool = False) -> MirrorReport:
        """Ask for an update and return the latest answer at once, without waiting for the new one.

        Parameters
        ----------
        force
            Whether to ask even when the last request was less than a second ago.
        """
        self._collect(0.0)
        now = self._clock.monotonic()
        if not self._busy and (force or now >= self._next) and self._ensure_child():
            self._send(b"force\n" if force else b"sync\n")
            self._next = now + _MIN_INTERVAL_S
        return self._report

    def close(self, timeout_s: float = 60.0) -> MirrorReport:
        """Let the child catch up, wait for it, and end it.

        Parameters
        ----------
        timeout_s
            Longest wait in seconds; a child that is not done by then is ended.
        """
        deadline = time.monotonic() + timeout_s
        while self._busy and time.monotonic() < deadline:
            self._collect(deadline - time.monotonic())
        if self._ensure_child():
            self._send(b"force\n")
            while self._busy and time.monotonic() < deadline:
                self._collect(deadline - time.monotonic())
        if self._busy:
            self._report = MirrorReport(
                False, self._report.pending, f"MLflow was not brought up to date in {timeout_s:g} s"
            )
        self._end_child()
        return self._report

    def _ensure_child(self) -> bool:
        if self._child is not None and self._child.poll() is None:
            return True
        if self._starts >= _MAX_STARTS:
            return False
        self._starts += 1
        self._busy, self._unread = False, b""
        command = [sys.executable, "-m", "neurosweep.records.mlflow_worker"]
        command += [str(self._study.root.absolute()), str(self._home.root.absolute())]
        env = {**os.environ, "PYTHONPATH": str(package_root("neurosweep")), "PYTHONSAFEPATH": "1"}
        if self._uri:
            env["MLFLOW_TRACKING_URI"] = self._uri
        try:
            with (self._study.root / "mirror.log").open("ab") as log:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=env,
                    start_new_session=True,
                )
        except OSError as error:
            self._report = MirrorReport(False, self._report.pending, f"no mirror process ({error})")
            return False
        return True

    def _send(self, request: bytes) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
        except OSError:
            self._lost()
            return
        self._busy = True

    def _collect(self, wait_s: float) -> None:
        if self._child is None or not self._busy:
            return
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        if not select.select([descriptor], [], [], max(0.0, wait_s))[0]:
            return
        piece = os.read(descriptor, 65536)
        if not piece:
            self._lost()
            return
        self._unread += piece
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            data = loads_strict(line)
            self._report = MirrorReport(data["caught_up"], data["pending"], data["error"])
            self._busy = False

    def _lost(self) -> None:
        code = self._child.poll() if self._child is not None else None
        self._end_child()
        text = f"the mirror process ended (exit code {code}); see {self._study.root}/mirror.log"
        self._report = MirrorReport(False, self._report.pending, text)

    def _end_child(self) -> None:
        child, self._child, self._busy = self._child, None, False
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        try:
            child.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def serve(mirror: Mirror, requests: BinaryIO, answers: TextIO) -> None:
    """Answer requests until there are no more, then bring MLflow up to date once more."""
    for request in requests:
        report = _attempt(mirror, force=request.strip() == b"force")
        answer = {"caught_up": report.caught_up, "pending": report.pending, "error": report.error}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if mirror.stale:
            return
    _attempt(mirror, force=True)


def _attempt(mirror: Mirror, force: bool) -> MirrorReport:
    try:
        return mirror.sync(force)
    except NeurosweepError as error:
        return MirrorReport(False, 0, str(error))


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("home", type=Path)
    args = parser.parse_args()
    os.nice(_NICE)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    mirror = Mirror(StudyDir(args.study), Home(args.home))
    try:
        serve(mirror, sys.stdin.buffer, answers)
    except BrokenPipeError:
        _attempt(mirror, force=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
