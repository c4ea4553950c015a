"""The job runner: the only code that starts training code, in every executor.

In this order: claim the attempt, prove which code is imported, set limits, seeds and threads, give
signs of life, run the job, write its predictions, and write ``status.json`` last. Whatever happens
ends in a status, as data; where even that cannot be written, the exit code tells. Only a job that
saves itself and leaves, to go on later, ends without one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.entry import resolve_entry
from neurosweep.core.errors import NeurosweepError
from neurosweep.core.files import sha256_file
from neurosweep.core.layout import AttemptDir
from neurosweep.core.provenance import assert_code_from
from neurosweep.exec.awake import AwakeClock
from neurosweep.exec.claim import Fence, job_identity, take_claim
from neurosweep.exec.failures import classify, record_of
from neurosweep.exec.heartbeat import Pulse
from neurosweep.exec.job_api import JobContext, Yielded
from neurosweep.exec.lease import Lease
from neurosweep.exec.limits import (
    apply_limits,
    granted_threads,
    peak_memory_mb,
    seed_all,
    set_threads,
)
from neurosweep.exec.made import made_files
from neurosweep.exec.outputs import MetricsLog, OutputLog, job_logging, write_predictions
from neurosweep.exec.resume import ResumeFolder, SavePoint
from neurosweep.exec.run_spec import RunSpec, read_run, run_json
from neurosweep.exec.saving import Saver
from neurosweep.exec.status import EXIT_CLAIMED, EXIT_NO_STATUS, EXIT_YIELDED, save_status
from neurosweep.exec.watch import IDLE_STARTS, Verdict, Watch, signals_to
from neurosweep.records.trial import Kind, Outcome

logger = logging.getLogger(__name__)

# Whether these run again is not for the runner to say: pushed aside, they would go on.
_MAY_GO_ON = (Kind.STOPPED, Kind.NODE_FAILURE)


@dataclass
class _Attempt:
    """One attempt while it runs."""

    files: AttemptDir
    fence: Fence
    isolated: bool
    clock: Clock
    written: dict[str, str] = field(default_factory=dict)
    finishing: threading.Lock = field(default_factory=threading.Lock)
    spec: RunSpec | None = None
    watch: Watch | None = None
    output: OutputLog | None = None
    resume: ResumeFolder | None = None

    def __post_init__(self) -> None:
        self.started = self.clock.now()
        self.lease = Lease.of(os.environ if self.isolated else {}, self.fence.job)
        self.awake = AwakeClock(self.clock)
        self.pulse = Pulse(self.files.heartbeat, [self._look], clock=self.awake)
        self.curves = MetricsLog(self.files.metrics, self.clock, self.pulse.beat)

    def run(self) -> int:
        """Run the job and write its status; return the exit code."""
        error: BaseException | None = None
        try:
            self.spec = read_run(self.files)
            self._run_job(self.spec)
        except Yielded:
            if self.watch is None or self.watch.stop is None:
                with self.finishing:
                    return self._leave()
            error = self.watch.reason()
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
            stack.enter_context(job_logging())
            assert_code_from(spec.code_roots)
            os.chdir(self.files.root)
            self.watch = watch = Watch(spec.limits, self.lease, self.awake)
            if self.isolated:
                apply_limits(spec.limits)
                stack.enter_context(signals_to(watch.on_signal))
                faulthandler.enable(file=2)
            self.resume = ResumeFolder(self.files, sha256_file(run_json(self.files)))
            self.pulse.start()
            stack.callback(self.pulse.stop)
            stack.callback(self.curves.close)
            try:
                self._train_and_predict(spec, watch, self._take_up(spec, watch, self.resume))
            except Yielded:
                logger.info("saved; the attempt leaves its place")
                raise
            except BaseException as error:
                # Under the log's redirection: the log ends with the reason.
                logger.error("the attempt failed: %s", error, exc_info=error)
                raise

    def _take_up(self, spec: RunSpec, watch: Watch, resume: ResumeFolder) -> Saver:
        """Find what an earlier start saved, and clear away what it left half done."""
        for left in (self.files.ckpt, self.files.out):
            shutil.rmtree(left, ignore_errors=True)
        self.files.predictions.unlink(missing_ok=True)
        resume.find()
        point = resume.point
        watch.worked_s = point.seconds
        self.pulse.num_epochs = point.epochs
        self.curves.take_up(point.lines)
        if point.number:
            logger.info("goes on after %.0f s of work, from save %d", point.seconds, point.number)
        saver = Saver(
            resume,
            spec.limits.save_every_s,
            lambda: watch.wants_save,
            lambda: self._done(point.run_sha, watch),
            self.awake,
        )
        watch.needed_s = lambda: saver.needed_s
        return saver

    def _done(self, run_sha: str, watch: Watch) -> SavePoint:
        return SavePoint(
            run_sha=run_sha,
            restart=self.fence.restart,
            seconds=round(watch.seconds, 3),
            peak_mb=self._peak_mb(),
            epochs=self.pulse.num_epochs,
            lines=self.curves.num_lines,
        )

    def _train_and_predict(self, spec: RunSpec, watch: Watch, saver: Saver) -> None:
        job = resolve_entry(spec.entry)
        threads = granted_threads(spec.limits.threads, os.environ)
        seed_all(spec.seed)  # after the import: it may have loaded torch
        set_threads(threads)
        self.pulse.beat("load")
        context = JobContext(
            attempt_dir=self.files.root,
            config=spec.config,
            seed=spec.seed,
            threads=threads,
            folds=spec.stores,
            log=self.curves.log,
            beat=self.pulse.beat,
            should_stop=lambda: watch.stop is not None,
            part=spec.part,
            limits={"timeout_s": spec.limits.timeout_s, "memory_mb": spec.limits.memory_mb},
            inputs=spec.inputs,
            saves=saver,
        )
        path = self.files.predictions
        lines = _until_stopped(job(context), watch.raise_if_stopped)
        _, sha = write_predictions(path, lines, spec.limits.predictions_mb)
        self.written |= {path.name: sha} | made_files(self.files)
        self.pulse.beat("done")

    def _look(self) -> None:
        """Enforce claim and limits from the thread of the pulse."""
        assert self.watch is not None
        self.awake.look()
        if self.output is not None:
            self.output.check()
        if not self.isolated:
            self.watch.check_time()
            return
        if self.fence.lost():
            os._exit(EXIT_CLAIMED)
        verdict = self.watch.verdict()
        if verdict is not Verdict.GO_ON and self.finishing.acquire(blocking=False):
            # Not so a job that has just ended by itself and writes its status.
            os._exit(self._end_now(verdict))

    def _end_now(self, verdict: Verdict) -> int:
        """End a job that does not end by itself, from the thread; return the exit code."""
        assert self.watch is not None
        if verdict is Verdict.LEAVE:
            logger.info("the attempt leaves its place without another save")
            return self._leave()
        with contextlib.suppress(OSError, ValueError):
            faulthandler.dump_traceback(file=2, all_threads=True)
        self.files.predictions.unlink(missing_ok=True)
        self.written.clear()
        return self._write_status(self.watch.reason())

    def _leave(self) -> int:
        """Give the place on the cluster up, to go on later; no status, as nothing has ended."""
        assert self.watch is not None
        assert self.resume is not None
        starts = self.fence.restart - self.resume.point.restart
        too_short = self.watch.too_short(starts)
        if too_short is not None:
            return self._write_status(too_short)
        if starts < IDLE_STARTS:
            self.lease.come_back()
        return EXIT_YIELDED

    def _write_status(self, error: BaseException | None) -> int:
        if self.isolated and self.fence.lost(at_once=True):
            return EXIT_CLAIMED
        outcome = Outcome.DONE if error is None else Outcome.FAILED
        kind = Kind.NONE if error is None else classify(error)
        now = self.clock.now()
        seconds = self.watch.seconds if self.watch else now - self.started
        status: dict[str, Any] = {
            "v": 1,
            "trial": self.spec.trial if self.spec else self.files.root.parents[1].name,
            "attempt": int(self.files.root.name) if self.files.root.name.isdigit() else 0,
            "outcome": outcome.value,
            "kind": kind.value,
            "error": None if error is None else record_of(error).to_dict(),
            "started": utc_iso(self.started),
            "ended": utc_iso(now),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(sum(os.times()[:4]), 3),
            "restarts": self.fence.restart,
            "epochs": self.pulse.num_epochs,
            "peak_mb": self._peak_mb(),
            "code": self._code(),
            "files": self.written,
        }
        code = save_status(self.files, status)
        if self.resume is not None and code != EXIT_NO_STATUS and kind not in _MAY_GO_ON:
            self.resume.delete()
        return code

    def _peak_mb(self) -> float:
        earlier = self.resume.point.peak_mb if self.resume else 0.0
        return round(max(peak_memory_mb(), earlier), 1)

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
        folder cannot be written, 5 the job left its place on the cluster to go on later.
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
    return _Attempt(files, Fence(files, job, restart), isolated, clock or SystemClock()).run()


def main(arguments: list[str] | None = None) -> int:
    """Run the attempt that the command line names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m neurosweep.exec.runner ATTEMPT_DIR\n")
        return 2
    return run_attempt(arguments[0])


if __name__ == "__main__":
    sys.exit(main())
