"""Studies on a real SLURM that is hurt while they run."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from neurosweep.core.layout import StudyDir
from neurosweep.records.fold import load_state
from neurosweep.records.state import StudyState, TrialState
from neurosweep.research.placing import Pace
from neurosweep.research.progress import DriveResult
from neurosweep.research.setup import build_driver

PACE = Pace(poll_s=0.1, heartbeat_s=0.3, settle_s=3.0)
LIMIT_S = 100.0
DEVCLUSTER = Path(__file__).parents[1] / "slurm/devcluster"


def write_profile(folder: Path, **keys: Any) -> str:
    """Write a profile for the development cluster; return what follows ``--on``."""
    values = {"partition": "main", "mem_gb": 0.5, "poll_s": 0.5, **keys}
    shown = {True: "true", False: "false"}
    lines = [f"{name} = {shown.get(v) or repr(v)}" for name, v in values.items()]
    path = folder / "cluster.toml"
    path.write_text("\n".join(lines).replace("'", '"') + "\n", encoding="utf-8")
    return f"slurm:{path}"


class Cluster:
    """Hurt a development cluster, and mend it."""

    def __init__(self, conf: Path) -> None:
        if not (conf.parent / "settings").exists():
            pytest.skip(f"{conf} belongs to no development cluster: nothing of it is hurt")
        self._folder = conf.parent

    def __call__(self, verb: str, daemon: str) -> None:
        self._run(verb, daemon)

    def mend(self) -> None:
        """Start everything that is down."""
        self._run("up")

    def _run(self, *words: str) -> None:
        command = [str(DEVCLUSTER), *words, str(self._folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr


def slurm(*words: str) -> str:
    """Run a command of SLURM and return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


class Drive:
    """A driver in a thread of this process."""

    def __init__(self, study: StudyDir, on: str) -> None:
        self.study = study
        self.result: DriveResult | None = None
        self._error: BaseException | None = None
        self._driver = build_driver(study, on=on, pace=PACE)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._driver.run()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the test
            self._error = error

    @property
    def state(self) -> StudyState:
        """What the ledger says now."""
        return load_state(self.study)

    def until(self, holds: Callable[[StudyState], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """Wait until something holds of the study, and return it."""
        end = time.monotonic() + limit_s
        while not (found := holds(self.state)):
            if self._error is not None:
                raise self._error
            assert self._thread.is_alive(), f"the driver ended before {what}"
            assert time.monotonic() < end, f"no {what} after {limit_s:g} s"
            time.sleep(0.3)
        return found

    def finish(self, limit_s: float = LIMIT_S) -> DriveResult:
        """Wait for the end of the study."""
        self._thread.join(limit_s)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), f"not over after {limit_s:g} s: {summary(self.state)}"
        assert self.result is not None
        return self.result


def summary(state: StudyState) -> str:
    """Return how far each trial is, for a message."""
    return ", ".join(f"{name} {t.phase.value} {t.kind.value}" for name, t in state.trials.items())


@contextmanager
def driving(study: StudyDir, on: str) -> Iterator[Drive]:
    """Drive a study; what is left of it in the queue is cancelled at the end."""
    drive = Drive(study, on)
    try:
        yield drive
    finally:
        jobs = [a.job for t in drive.state.trials.values() for a in t.attempts if a.job]
        subprocess.run(["scancel", *jobs], capture_output=True, timeout=60, check=False)


def running(state: StudyState, count: int = 1) -> list[TrialState]:
    """Return the trials whose open attempt has started, once there are enough of them."""
    trials = [t for t in state.trials.values() if t.open_attempt and t.open_attempt.started_t]
    return trials if len(trials) >= count else []


def curves(study: StudyDir) -> dict[str, Sequence[dict[str, Any]]]:
    """Return the curves of each trial's last attempt without their times."""
    found = {}
    for trial in sorted((study.root / "trials").iterdir()):
        last = max((trial / "attempts").iterdir(), key=lambda path: int(path.name))
        lines = (last / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        points = [json.loads(line) for line in lines]
        found[trial.name] = [{k: v for k, v in p.items() if k != "t"} for p in points]
    return found
