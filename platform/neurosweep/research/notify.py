"""Tell a person: run the user's command when a round or the study ends, and on trouble.

The command runs beside the driver, which never waits for it and loses nothing when it fails.
What was told is kept in a file of the study, so that a driver that is started again tells
nothing twice.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from neurosweep.core.clock import Clock, SystemClock, parse_iso, utc_iso
from neurosweep.core.errors import DataError, LockedError
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.core.layout import StudyDir
from neurosweep.records.endings import ended_why, meaning
from neurosweep.records.fold import load_state
from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.state import AttemptState, Phase, StudyState, TrialState
from neurosweep.records.trial import Kind, Outcome
from neurosweep.research.best import running_best
from neurosweep.research.progress import closed_as, counts_of

logger = logging.getLogger(__name__)

LIMIT_S = 60.0
IN_A_ROW = 3
SHARE = 0.2
UNREACHABLE_S = 300.0
AGAIN_S = 3600.0
BURST_S = 600.0
_MAX_TEXT = 400
_ASKED_FOR = (Kind.STOPPED, Kind.CANCELLED_USER)
_RUN = Path(__file__).with_name("notify_run.py")
Run = Callable[[str, Mapping[str, str]], None]


class Notifier:
    """Tell each event at most once.

    Parameters
    ----------
    command
        Command of the user's shell; None tells nobody.
    study
        Folder of the study.
    report_url
        Where the report can be read; default: its file, once there is one.
    clock
        Source of time.
    run
        Starts the command with its environment; default: `run_beside`.
    """

    def __init__(
        self,
        command: str | None,
        study: StudyDir,
        report_url: str = "",
        *,
        clock: Clock | None = None,
        run: Run | None = None,
    ) -> None:
        self._command = command
        self._study = study
        self._report = report_url
        self._clock = clock or SystemClock()
        told = threading.Lock()
        self._run = run or (lambda text, env: run_beside(text, env, study, told))
        self._path = study.root / "notified.json"
        self._told = _read(self._path) if command else {}
        self._num_events = -1
        self._unreachable_since: float | None = None

    def on_event(self, line: Mapping[str, Any]) -> None:
        """Tell what a new line of the ledger means to a person; most lines mean nothing."""
        event, data = line["event"], line["data"]
        if self._command is None:
            return
        if event == "round_closed":
            self.round_closed(load_state(self._study), int(data["round"]))
        elif event == "study_closed":
            self.study_closed(load_state(self._study))
        elif event == "control" and data.get("action") == "pause" and "request" not in data:
            self.trouble("pause", f"paused: {data.get('reason', '')}")
        elif event == "control" and data.get("by") == "budget":
            self.trouble("budget", str(data.get("reason", "")))

    def round_closed(self, state: StudyState, number: int) -> None:
        """Tell that a round is over; round 0 is the floor."""
        trials = [state.trials[name] for name in state.rounds[number].trials]
        done = sum(trial.phase is Phase.SCORED for trial in trials)
        last = int(state.spec["budget"]["rounds"])
        name = f"round {number} of {last}" if number else "the floor"
        text = f"{name} is over: {done} scored, {len(trials) - done} failed{_best(state)}"
        self._tell("round_closed", f"round_closed {number}", text)

    def study_closed(self, state: StudyState) -> None:
        """Tell that the study is over."""
        how, reason = closed_as(state)
        counts = counts_of(state)
        why = "" if reason == how.value else f" ({reason})"
        text = f"{how.value}{why}: {counts['done']} scored and {counts['failed']} failed "
        text += f"of {counts['planned']} search trials{_best(state)}"
        self._tell("study_closed", "study_closed", text)

    def trouble(self, kind: str, text: str) -> None:
        """Tell of trouble, of one kind at most once an hour."""
        key = f"trouble {kind}"
        before = self._told.get(key)
        if before is not None and self._clock.now() - before < AGAIN_S:
            return
        self._told.pop(key, None)
        self._tell("trouble", key, text)

    def executor(self, error: str) -> None:
        """Take note of what is wrong with the executor; empty while all is well."""
        now = self._clock.monotonic()
        if not error:
            self._unreachable_since = None
        elif self._unreachable_since is None:
            self._unreachable_since = now
        elif now - self._unreachable_since >= UNREACHABLE_S:
            minutes = (now - self._unreachable_since) / 60.0
            text = f"the executor has been in trouble for {minutes:.0f} min: {error}"
            self.trouble("executor", text)

    @contextlib.contextmanager
    def told_of_errors(self) -> Iterator[None]:
        """Tell of an error that ends the driver, but for a study that another one works on."""
        try:
            yield
        except LockedError:
            raise
        except Exception as error:
            self.trouble("driver", f"its driver has ended: {error}")
            raise

    def tick(self, state: StudyState) -> None:
        """Look for failures that pile up in an open round; cheap while nothing happened.

        Trouble are 3 attempts in a row that failed, and two or more trials, and 20 % of their
        round, that failed for good. Trials that were stopped on request do not count. Of both in
        one burst of failures the first is told.
        """
        if self._command is None or state.num_events == self._num_events:
            return
        self._num_events = state.num_events
        for found in state.rounds.values():
            if not found.closed and found.trials:
                self._look(state, found.number)

    def _look(self, state: StudyState, number: int) -> None:
        trials = [state.trials[name] for name in state.rounds[number].trials]
        ended = [(t, a) for t in trials for a in t.attempts if a.outcome is not None]
        last = sorted(ended, key=lambda pair: pair[1].ended_t)[-IN_A_ROW:]
        row, share = f"trouble row {number}", f"trouble share {number}"
        in_a_row = len(last) == IN_A_ROW and all(_failed(attempt) for _, attempt in last)
        if in_a_row and not self._told_lately(share):
            trial, attempt = last[-1]
            text = f"{IN_A_ROW} attempts in a row failed in round {number}, the last of them "
            text += f"{trial.plan.trial}: {_said(state, trial, attempt)}"
            self._tell("trouble", row, text)
        lost = [t for t in trials if t.phase is Phase.FAILED and t.kind not in _ASKED_FOR]
        size = len(trials) if not number else int(state.spec["budget"]["trials_per_round"])
        if len(lost) >= max(2.0, SHARE * size) and not self._told_lately(row):
            text = f"{len(lost)} of the {size} trials of round {number} failed, the last of them "
            text += f"{lost[-1].plan.trial}: {_said(state, lost[-1], lost[-1].attempts[-1])}"
            self._tell("trouble", share, text)

    def _told_lately(self, key: str) -> bool:
        return self._clock.now() - self._told.get(key, -math.inf) < BURST_S

    def _page(self) -> str:
        page = self._study.report_dir / "index.html"
        return self._report or (str(page) if page.is_file() else "")

    def _tell(self, event: str, key: str, text: str) -> None:
        if self._command is None or key in self._told:
            return
        self._told[key] = self._clock.now()
        told = {name: utc_iso(t) for name, t in self._told.items()}
        # On a full disk, which is told of too, it may be told twice.
        with contextlib.suppress(OSError):
            atomic_write_json(self._path, {"v": 1, "told": told})
        try:
            self._run(
                self._command,
                {
                    "NEUROSWEEP_EVENT": event,
                    "NEUROSWEEP_STUDY": self._study.study_id,
                    "NEUROSWEEP_TEXT": clean_text(f"{self._study.study_id}: {text}", _MAX_TEXT),
                    "NEUROSWEEP_REPORT": self._page(),
                },
            )
        except OSError as error:
            logger.warning("nobody could be told that %s (%s)", text, error)


def run_beside(
    command: str,
    env: Mapping[str, str],
    study: StudyDir,
    told: threading.Lock | None = None,
) -> None:
    """Run a command in the user's shell, in a process of its own with a time limit.

    It goes on when this process ends. What it prints goes to ``notify.log`` of the study; that it
    failed is a warning.

    Parameters
    ----------
    command
        The command.
    env
        Variables that it is given besides this process's own.
    study
        Folder of the study.
    told
        Taken by the first failure that is said; no other one is said then.

    Raises
    ------
    OSError
        When the process cannot be started.
    """
    with _log(study) as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_RUN), f"{LIMIT_S:g}", user_shell(), command],
            env={**os.environ, **env},
            cwd=study.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    args = (process, study, told or threading.Lock())
    threading.Thread(target=_wait, args=args, name="notify", daemon=True).start()


def _log(study: StudyDir) -> IO[bytes]:
    try:
        return (study.root / "notify.log").open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def user_shell() -> str:
    """Return the shell that SHELL names, else ``/bin/sh``."""
    shell = os.environ.get("SHELL", "")
    usable = shell.startswith("/") and os.access(shell, os.X_OK)
    is_shell = Path(shell).name not in ("nologin", "false", "true")
    return shell if usable and is_shell else "/bin/sh"


def _wait(process: subprocess.Popen[bytes], study: StudyDir, told: threading.Lock) -> None:
    code = process.wait()
    if code and told.acquire(blocking=False):
        log = study.root / "notify.log"
        why = f"took longer than {LIMIT_S:g} s" if code == 124 else f"ended with {code}"
        logger.warning("the notification command %s; see %s", why, log)


def _read(path: Path) -> dict[str, float]:
    try:
        told = read_json(path, 1024 * 1024)["told"]
        return {str(key): parse_iso(t) for key, t in told.items()}
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _failed(attempt: AttemptState) -> bool:
    return attempt.outcome is Outcome.FAILED and attempt.kind not in _ASKED_FOR


def _said(state: StudyState, trial: TrialState, attempt: AttemptState) -> str:
    text = f"{attempt.kind.value} ({meaning(attempt)})"
    why = ended_why(state, trial.plan.trial, attempt.number)
    said = (why or str(attempt.error.get("text", ""))).strip()
    return f"{text}: {said[:150]}" if said else text


def _best(state: StudyState) -> str:
    best = running_best(state)
    return "" if best is None else f"; best {state.metric} {best.value:.4f} in {best.trial}"
