"""The job runner: the only code that starts training code, in every executor.

In this order: claim the attempt, prove which code is imported, set limits, seeds and threads, give
signs of life, run the job, write its predictions, and write ``status.json`` last. Whatever happens
ends in a status, as data; where even that cannot be written, the exit code tells.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.entry import resolve_entry
from neurosweep.core.errors import NeurosweepError
from neurosweep.core.layout import AttemptDir
from neurosweep.core.provenance import assert_code_from
from neurosweep.exec.claim import job_identity, take_claim
from neurosweep.exec.failures import Stopped, classify, record_of
from neurosweep.exec.heartbeat import Pulse
from neurosweep.exec.job_api import JobContext
from neurosweep.exec.limits import (
    apply_limits,
    own_memory_mb,
    peak_memory_mb,
    seed_all,
    set_threads,
)
from neurosweep.exec.made import made_files
from neurosweep.exec.outputs import MetricsLog, OutputLog, write_predictions
from neurosweep.exec.run_spec import RunSpec, read_run
from neurosweep.exec.status import EXIT_CLAIMED, EXIT_NO_STATUS, save_status
from neurosweep.records.trial import Kind, Outcome

logger = logging.getLogger(__name__)

_STOP_TEXT = {
    Kind.TIME_LIMIT: "the attempt ran longer than its limit of {timeout_s:g} s",
    Kind.OOM_HOST: "the attempt held more than its limit of {memory_mb} MB",
    Kind.STOPPED: "the attempt was asked to stop (signal {signal})",
}


@dataclass
class _StopRequest:
    """Remember who asked for the end, and when."""

    kind: Kind | None = None
    signal: int = 0
    since: float = 0.0


@dataclass
class _Attempt:
    """One attempt while it runs."""

    files: AttemptDir
    isolated: bool
    clock: Clock
    spec: RunSpec | None = None
    stop: _StopRequest = field(default_factory=_StopRequest)
    written: dict[str, str] = field(default_factory=dict)
    finishing: threading.Lock = field(default_factory=threading.Lock)
    output: OutputLog | None = None

    def __post_init__(self) -> None:
        self.started = self.clock.now()
        self.began = self.clock.monotonic()
        self.pulse = Pulse(self.files.heartbeat, [self._watch], clock=self.clock)
        self.curves = MetricsLog(self.files.metrics, self.clock, self.pulse.beat)

    def run(self) -> int:
        """Run the job and write its status; return the exit code."""
        error: BaseException | None = None
        try:
            self.spec = read_run(self.files)
            self._run_job(self.spec)
        except Exception as caught:  # noqa: BLE001 - the payload boundary: errors become data
            error = caught
        except (SystemExit, KeyboardInterrupt) as caught:
            error = caught
        with self.finishing:
            code = self._write_status(error)
        if isinstance(error, KeyboardInterrupt) and not self.isolated:
            raise error
        return code

    def _run_job(self, spec: RunSpec) -> None:
        with contextlib.ExitStack() as stack:
            self.output = stack.enter_context(OutputLog(self.files.log, spec.limits.log_mb))
            stack.enter_context(_job_logging())
            assert_code_from(spec.code_roots)
            os.chdir(self.files.root)
            if self.isolated:
                apply_limits(spec.limits)
                stack.enter_context(_signals(self._on_signal))
                faulthandler.enable(file=2)
            self.pulse.start()
            stack.callback(self.pulse.stop)
            stack.callback(self.curves.close)
            try:
                self._train_and_predict(spec)
            except BaseException as error:
                # Under the log's redirection: the log ends with the reason.
                logger.error("the attempt failed: %s", error, exc_info=error)
                raise

    def _train_and_predict(self, spec: RunSpec) -> None:
        job = resolve_entry(spec.entry)
        seed_all(spec.seed)  # after the import: it may have loaded torch
        set_threads(spec.limits.threads)
        self.pulse.beat("load")
        predictions = job(self._context(spec))
        path = self.files.predictions
        lines = _until_stopped(predictions, self._check_stop)
        _, sha = write_predictions(path, lines, spec.limits.predictions_mb)
        self.written |= {path.name: sha} | made_files(self.files)
        self.pulse.beat("done")

    def _context(self, spec: RunSpec) -> JobContext:
        return JobContext(
            attempt_dir=self.files.root,
            config=spec.config,
            seed=spec.seed,
            threads=spec.limits.threads,
            folds=spec.stores,
            log=self.curves.log,
            beat=self.pulse.beat,
            should_stop=lambda: self.stop.kind is not None,
            part=spec.part,
            limits={"timeout_s": spec.limits.timeout_s, "memory_mb": spec.limits.memory_mb},
            inputs=spec.inputs,
        )

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._request_stop(Kind.TIME_LIMIT if self._overdue(1.0) else Kind.STOPPED, number)

    def _request_stop(self, kind: Kind, number: int = 0) -> None:
        if self.stop.kind is None:
            self.stop = _StopRequest(kind, number, self.clock.monotonic())

    def _overdue(self, slack_s: float = 0.0) -> bool:
        limit = self.spec.limits.timeout_s if self.spec else None
        return limit is not None and self.clock.monotonic() - self.began >= limit - slack_s

    def _check_stop(self) -> None:
        if self.stop.kind is not None:
            raise self._stopped()

    def _stopped(self) -> Stopped:
        assert self.spec is not None
        assert self.stop.kind is not None
        limits = self.spec.limits
        text = _STOP_TEXT[self.stop.kind].format(
            timeout_s=limits.timeout_s or 0.0, memory_mb=limits.memory_mb, signal=self.stop.signal
        )
        return Stopped(self.stop.kind, text)

    def _watch(self) -> None:
        """Enforce the limits from the thread of the pulse."""
        assert self.spec is not None
        limits = self.spec.limits
        if self.output is not None:
            self.output.check()
        if self._overdue():
            self._request_stop(Kind.TIME_LIMIT)
        if not self.isolated:
            return
        if limits.memory_mb is not None and own_memory_mb() > limits.memory_mb:
            self.stop = _StopRequest(Kind.OOM_HOST)
            self._end_now()
        stopping = self.stop.kind is not None
        if stopping and self.clock.monotonic() - self.stop.since > limits.grace_s:
            self._end_now()

    def _end_now(self) -> None:
        """End a job that does not end by itself: status, then exit, from the thread."""
        if not self.finishing.acquire(blocking=False):
            return  # the job has just ended by itself and writes its status
        with contextlib.suppress(OSError, ValueError):
            faulthandler.dump_traceback(file=2, all_threads=True)
        self.files.predictions.unlink(missing_ok=True)
        self.written.clear()
        os._exit(self._write_status(self._stopped()))

    def _write_status(self, error: BaseException | None) -> int:
        outcome = Outcome.DONE if error is None else Outcome.FAILED
        kind = Kind.NONE if error is None else classify(error)
        now = self.clock.now()
        status: dict[str, Any] = {
            "v": 1,
            "trial": self.spec.trial if self.spec else self.files.root.parents[1].name,
            "attempt": int(self.files.root.name) if self.files.root.name.isdigit() else 0,
            "outcome": outcome.value,
            "kind": kind.value,
            "error": None if error is None else record_of(error).to_dict(),
            "started": utc_iso(self.started),
            "ended": utc_iso(now),
            "seconds": round(now - self.started, 3),
            "cpu_seconds": round(sum(os.times()[:4]), 3),
            "epochs": self.pulse.num_epochs,
            "peak_mb": round(peak_memory_mb(), 1),
            "code": self._code(),
            "files": self.written,
        }
        return save_status(self.files, status)

    def _code(self) -> dict[str, Any]:
        if self.spec is None:
            return {}
        roots = dict(self.spec.code_roots)
        return {"commit": self.spec.commit, "diff_sha": self.spec.diff_sha, "roots": roots}


def _until_stopped(predictions: Any, check_stop: Callable[[], None]) -> Any:
    """Yield predictions; at their end, and between them, refuse those of a stopped job."""
    if predictions is None:
        msg = "the job returned None; a job returns or yields its predictions"
        raise NeurosweepError(msg)
    for prediction in predictions:
        check_stop()
        yield prediction
    check_stop()


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Any:
    """Route requests to stop to a handler, in the main thread, for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


@contextlib.contextmanager
def _job_logging() -> Any:
    """Send log records of INFO and above to this process's (redirected) standard error."""
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def run_attempt(
    attempt_dir: Path | str, *, isolated: bool = True, clock: Clock | None = None
) -> int:
    """Run one attempt in this process.

    Parameters
    ----------
    attempt_dir
        Folder of the attempt; ``../../run.json`` says what to run.
    isolated
        Whether this process exists for the attempt alone: only then limits that cannot be
        lifted are set, signals are handled, and a deaf job is ended together with the process.
    clock
        Source of times.

    Returns
    -------
    int
        0 done, 1 failed (both with a status), 3 another process has claimed the attempt, 4 the
        folder cannot be written.
    """
    files = AttemptDir(Path(attempt_dir).absolute())
    job, restart = job_identity(os.environ)
    try:
        if not take_claim(files, job, restart, clock):
            logger.warning("%s is claimed by another process; nothing is run", files.root)
            return EXIT_CLAIMED
    except OSError as error:
        logger.error("%s cannot be claimed: %s", files.root, error)
        return EXIT_NO_STATUS
    return _Attempt(files, isolated, clock or SystemClock()).run()


def main(arguments: list[str] | None = None) -> int:
    """Run the attempt that the command line names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m neurosweep.exec.runner ATTEMPT_DIR\n")
        return 2
    return run_attempt(arguments[0])


if __name__ == "__main__":
    sys.exit(main())
