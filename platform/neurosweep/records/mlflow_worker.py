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

from neurosweep.core.errors import NeurosweepError
from neurosweep.core.files import loads_strict
from neurosweep.core.layout import Home, StudyDir
from neurosweep.core.provenance import package_root
from neurosweep.records.mirror import Mirror, MirrorReport

_MAX_STARTS = 5
_NICE = 5


class ProcessMirror:
    """Offer a mirror's interface and let a child process do the work.

    The child reads one request a line and answers each with one line of JSON. It ends when its
    input ends, after a last attempt, so a killed driver leaves nothing behind. Importing MLflow
    (two seconds), its memory and its use of the interpreter's lock stay out of the driver; a
    thread that calls `sync` only waits on a pipe.

    Parameters
    ----------
    study_dir
        Folder of the study; the child's messages go to ``mirror.log`` in it.
    home
        Home that holds the references and, by default, MLflow's database.
    uri
        Tracking URI, as for `Mirror`.
    timeout_s
        Longest wait for one answer, in seconds; a child that is later is ended.
    """

    def __init__(
        self, study_dir: StudyDir, home: Home, uri: str | None = None, timeout_s: float = 600.0
    ) -> None:
        self._study, self._home, self._uri = study_dir, home, uri
        self._timeout_s = timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._report = MirrorReport(caught_up=False)

    def sync(self, force: bool = False) -> MirrorReport:
        """Bring MLflow up to date and wait for it.

        Parameters
        ----------
        force
            Whether to try at once even after a failure.
        """
        request = b"force\n" if force else b"sync\n"
        # A child that ended after its last answer is noticed only now: ask a new one.
        if self._ensure_child() and not self._ask(request) and self._ensure_child():
            self._ask(request)
        return self._report

    def close(self) -> MirrorReport:
        """Try once more to catch up, end the child, and return where MLflow stands."""
        report = self.sync(force=True)
        self._end_child()
        return report

    def _ensure_child(self) -> bool:
        if self._child is not None and self._child.poll() is None:
            return True
        if self._starts >= _MAX_STARTS:
            return False
        self._starts += 1
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

    def _ask(self, request: bytes) -> bool:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
            answer = self._read_line(self._child.stdout.fileno())
        except OSError:
            answer = b""
        if not answer:
            code = self._child.poll()
            self._end_child()
            text = f"the mirror process gave no answer (exit code {code}); see mirror.log"
            self._report = MirrorReport(False, self._report.pending, text)
            return False
        data = loads_strict(answer)
        self._report = MirrorReport(data["caught_up"], data["pending"], data["error"])
        return True

    def _read_line(self, descriptor: int) -> bytes:
        """Return one line, or nothing when the child ended or is late."""
        deadline = time.monotonic() + self._timeout_s
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return b""
            piece = os.read(descriptor, 65536)
            if not piece:
                return b""
            line += piece
        return line

    def _end_child(self) -> None:
        child, self._child = self._child, None
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
