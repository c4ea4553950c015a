"""Studies on the fake SLURM, shared by the tests that use it."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from _loop_kit import no_waiting_for_disks, state_of

from neurosweep.core.files import read_json
from neurosweep.core.layout import StudyDir
from neurosweep.exec import slurm_adopt, slurm_judge, slurm_state, slurm_submit, slurm_watch
from neurosweep.records.state import TrialState
from neurosweep.research import placer
from neurosweep.research.journal import Hooks
from neurosweep.research.placing import Pace
from neurosweep.research.progress import DriveResult
from neurosweep.research.setup import build_driver

# Tasks are on other machines, as far as the driver can tell: their silence has to be waited for.
PACE = Pace(
    poll_s=0.05,
    settle_s=0.5,
    heartbeat_s=0.2,
    patience_s=2.0,
    overtime_s=5.0,
    cancel_s=5.0,
)


@contextmanager
def little_patience() -> Iterator[None]:
    """Let waits that are minutes on a cluster be moments here."""
    with (
        mock.patch.object(placer, "_MAX_WAIT_S", 0.2),
        mock.patch.object(slurm_judge, "GONE_AFTER_S", 0.6),
        mock.patch.object(slurm_watch, "RECALL_S", 0.3),
        mock.patch.object(slurm_adopt, "SETTLED_S", 0.3),
        mock.patch.object(slurm_submit, "SUBMIT_TIMEOUT_S", 0.6),
        mock.patch.object(slurm_state.run_slurm, "__defaults__", (0.6,)),
    ):
        yield


def write_profile(folder: Path, **keys: Any) -> str:
    """Write a profile that asks often, and return how a driver is told to use it."""
    path = folder / "profile.toml"
    values = {"poll_s": 0.05, **keys}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"slurm:{path}"


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def drive_slurm(
    study: StudyDir, on: str, *, pace: Pace = PACE, boundary: Callable[[str], None] | None = None
) -> DriveResult:
    """Run a driver of a study here."""
    hooks = Hooks() if boundary is None else Hooks(boundary=boundary)
    with no_waiting_for_disks():
        return build_driver(study, on=on, pace=pace, hooks=hooks).run()


def drive_slurm_apart(
    study: StudyDir, on: str, *, pace: Pace = PACE, boundary: Callable[[str], None] | None = None
) -> int:
    """Run a driver in a process of its own; return its exit code, negative for a signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            drive_slurm(study, on, pace=pace, boundary=boundary)
            code = 0
        except BaseException:  # noqa: BLE001 - the end of a process
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Assassin:
    """Kill the own process after the n-th operation of a name."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._left = number

    def __call__(self, name: str) -> None:
        self._left -= name == self._name
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def good_ends(study: StudyDir) -> Counter[str]:
    """Return how many attempts of each trial left a status that says done."""
    count: Counter[str] = Counter()
    for status in study.root.glob("trials/*/attempts/*/status.json"):
        if read_json(status)["outcome"] == "done":
            count[status.parents[2].name] += 1
    return count


def trials(study: StudyDir) -> list[TrialState]:
    """Return the trials of a study in order."""
    return [trial for _, trial in sorted(state_of(study).trials.items())]


def slower(pace: Pace = PACE, **changes: Any) -> Pace:
    """Return the pace of these tests with changes."""
    return replace(pace, **changes)
