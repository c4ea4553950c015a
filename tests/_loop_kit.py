"""Small studies on the fake cluster, shared by the tests of the loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from neurosweep.core.config import validate
from neurosweep.core.entry import resolve_entry
from neurosweep.core.layout import Home, StudyDir
from neurosweep.core.schema import Schema
from neurosweep.records.agent_api import Agent, Proposal, TrialRecord
from neurosweep.records.fold import load_state
from neurosweep.records.spec import StudySpec
from neurosweep.records.state import StudyState
from neurosweep.research.create import create_study
from neurosweep.research.journal import Hooks
from neurosweep.research.loop import Driver
from neurosweep.research.placing import Pace
from neurosweep.research.progress import DriveResult
from neurosweep.testing.fake import FakeClock, FakeCluster, FakeExecutor

STUDY_ID = "small-20260101-0000"
START = 1_800_000_000.0
PACE = Pace(settle_s=5.0, patience_s=60.0, heartbeat_s=1.0, overtime_s=5.0, cancel_s=30.0)


def small_spec(**changes: Any) -> StudySpec:
    """Return a study of 2 rounds x 3 trials after a floor of 1."""
    data: dict[str, Any] = {
        "name": "small",
        "recipe": "instant",
        "entry": "neurosweep.testing",
        "seed": 3,
        "agent": {"name": "random_search"},
        "budget": {"rounds": 2, "trials_per_round": 3, "trial_minutes": 1.0},
        "reserve": {"floor": 1, "confirm": 2},
        "data": {"items": 3, "subjects": 1},
        "execution": {"stall_minutes": 0.5},
    }
    for section, values in changes.items():
        nested = isinstance(values, Mapping) and isinstance(data.get(section), Mapping)
        data[section] = {**data[section], **values} if nested else values
    return validate(StudySpec, data, "small_spec")


def call_here(entry: str, payload: Mapping[str, Any], **_: Any) -> dict[str, Any]:
    """Call an entry as `call_entry` does, without the cost of another process."""
    answer: dict[str, Any] = resolve_entry(entry)(payload)
    return answer


def new_study(root: Path, **changes: Any) -> StudyDir:
    """Create a small study under a new home."""
    spec = small_spec(**changes)
    with (
        mock.patch("neurosweep.research.create.call_entry", call_here),
        mock.patch("neurosweep.research.describe.call_entry", call_here),
    ):
        return create_study(spec, Home(root / "home"), study_id=STUDY_ID, clock=FakeClock(START))


def copy_study(study: StudyDir, root: Path) -> StudyDir:
    """Copy a study with its whole home."""
    home = root / "home"
    shutil.copytree(study.root.parent.parent, home)
    return Home(home).study(study.study_id)


class Death(BaseException):
    """What no handler of a driver catches."""


class Reaper:
    """Count operations, and let the driver die after one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.seen: list[str] = []

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) - 1 == self.at:
            raise Death(name)


class ListAgent:
    """Answer with what it was given, one answer a call; then draw at random."""

    name = "listed"

    def __init__(self, answers: Sequence[Any] = (), *, repeats: bool = False) -> None:
        self.answers = list(answers)
        self.repeats = repeats
        self.histories: list[list[TrialRecord]] = []
        self.reasons: list[list[str]] = []

    def refused(self, reasons: Sequence[str]) -> None:
        self.reasons.append(list(reasons))

    def propose(
        self,
        history: Sequence[TrialRecord],
        n: int,
        schema: Schema,
        rng: np.random.Generator,
    ) -> Any:
        self.histories.append(list(history))
        if not self.answers:
            return draw(n, schema, rng)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer(n, schema, rng) if callable(answer) else answer


def draw(n: int, schema: Schema, rng: np.random.Generator) -> list[Proposal]:
    """Return random proposals."""
    proposals = []
    for _ in range(n):
        config: dict[str, Any] = {}
        for path, field in schema.items():
            if field.choices is not None:
                config[path] = field.choices[int(rng.integers(len(field.choices)))]
            else:
                assert field.low is not None
                assert field.high is not None
                power = rng.uniform(np.log10(field.low), np.log10(field.high))
                config[path] = float(min(max(10.0**power, field.low), field.high))
        proposals.append(Proposal(config, "drawn"))
    return proposals


def drive(
    study: StudyDir,
    cluster: FakeCluster | None = None,
    *,
    agent: Agent | None = None,
    fallback: Agent | None = None,
    hooks: Hooks | None = None,
    pace: Pace = PACE,
    mirror: Any = None,
    before: Callable[[Driver], None] | None = None,
) -> DriveResult:
    """Run a driver of its own on a cluster."""
    cluster = cluster or FakeCluster(FakeClock(START))
    driver = Driver(
        study,
        FakeExecutor(cluster),
        agent or ListAgent(),
        fallback=fallback,
        clock=cluster.clock,
        hooks=hooks,
        pace=pace,
        mirror=mirror,
    )
    if before is not None:
        before(driver)
    with no_waiting_for_disks():
        return driver.run()


def no_waiting_for_disks() -> Any:
    """Let writes return before they are on disk: no test pulls the plug."""
    return mock.patch("os.fsync")


def state_of(study: StudyDir) -> StudyState:
    """Return the state that the ledger on disk gives."""
    return load_state(study)


def quick(pace: Pace = PACE, **changes: Any) -> Pace:
    """Return the pace of the tests with changes."""
    return replace(pace, **changes)
