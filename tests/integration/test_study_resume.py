"""Whole studies whose jobs lose their process: the next attempt goes on where the last one was."""

import json
import os
import signal
import threading
import time
from typing import Any

import pytest
from _loop_kit import copy_study, new_study, state_of

from neurosweep.core.files import read_json
from neurosweep.core.layout import AttemptDir
from neurosweep.records.export import export_study
from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.placing import Pace
from neurosweep.research.planning import RunFolders
from neurosweep.research.setup import build_driver

KILLED = ("r01t000", "r01t001")


@pytest.fixture(autouse=True)
def saved_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RunFolders._limits
    monkeypatch.setattr(RunFolders, "_limits", lambda self: limits(self) | {"save_every_s": 0.001})


def kill_once_it_has_lines(files: AttemptDir, count: int, killed: list[int]) -> None:
    """Kill the process of an attempt in the middle of its work."""
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        if files.metrics.exists() and files.metrics.read_bytes().count(b"\n") >= count:
            os.kill(read_json(files.claim)["pid"], signal.SIGKILL)
            killed.append(count)
            return
        time.sleep(0.005)


def curves(files: AttemptDir) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in files.metrics.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "t"} for line in lines]


def test_a_lost_process_costs_an_attempt_and_no_work(tmp_path: Any) -> None:
    study = new_study(
        tmp_path,
        recipe="steps",
        set={"training.epochs": 40, "fault.delay_s": 0.02},
        budget={"rounds": 1, "trials_per_round": 3},
        reserve={"floor": 0, "confirm": 0},
    )
    calm = copy_study(study, tmp_path / "calm")
    killed: list[int] = []
    threads = [
        threading.Thread(
            target=kill_once_it_has_lines, args=(study.trial(trial).attempt(1), 15, killed)
        )
        for trial in KILLED
    ]
    for thread in threads:
        thread.start()
    result = build_driver(study, on="local:3", pace=Pace(poll_s=0.05)).run()
    for thread in threads:
        thread.join()
    assert killed == [15, 15]
    assert (result.done, result.failed) == (3, 0)
    build_driver(calm, on="local:3", pace=Pace(poll_s=0.05)).run()
    scores = [
        {name: trial["metrics"] for name, trial in export_study(one)["trials"].items()}
        for one in (study, calm)
    ]
    assert scores[0] == scores[1]
    for trial in state_of(study).of(Purpose.SEARCH):
        name = trial.plan.trial
        kinds = [attempt.kind for attempt in trial.attempts]
        assert kinds == ([Kind.LOST, Kind.NONE] if name in KILLED else [Kind.NONE])
        last = study.trial(name).attempt(len(kinds))
        assert curves(last) == curves(calm.trial(name).attempt(1))
        if name in KILLED:
            assert "goes on from attempt 1" in last.log.read_text(encoding="utf-8")
    assert not list(study.root.glob("trials/*/attempts/*/resume"))
