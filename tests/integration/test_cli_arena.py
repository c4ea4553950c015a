"""An arena from the command line: arms side by side, killed, resumed, and wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from neurosweep.cli import exits
from neurosweep.core.provenance import code_env

ARENA = """
name = "compare"
recipe = "instant"
entry = "neurosweep.testing"

[budget]
rounds = 2
trials_per_round = 4
trial_minutes = 1.0

[reserve]
floor = 1

[data]
items = 4
subjects = 1

[set]
fault.delay_s = 0.3

[[arms]]
label = "random"
agent = { name = "random_search" }

[[arms]]
label = "default"
agent = { name = "default" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "arena.toml").write_text(ARENA, encoding="utf-8")
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, **code_env(None, 1), "NEUROSWEEP_HOME": str(folder / "home")}
    return subprocess.Popen(
        [sys.executable, "-m", "neurosweep.cli", "arena", *words],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(folder: Path, *words: str) -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_killed_arena_goes_on_where_it_was(folder: Path) -> None:
    process = start(folder, "start", "arena.toml", "--no-mlflow", "--workers", "2")
    ledgers: list[Path] = []
    deadline = time.monotonic() + 60.0
    while len(ledgers) < 2 or any("trial_scored" not in path.read_text() for path in ledgers):
        assert process.poll() is None
        assert time.monotonic() < deadline
        ledgers = sorted(folder.glob("home/studies/compare-*/ledger.jsonl"))
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    code, out, _ = call(folder, "status", "compare", "--json")
    data: dict[str, Any] = json.loads(out)
    assert code == exits.OK
    assert {arm["state"] for arm in data["arms"]} == {"resumable"}
    assert data["violations"] == {"random": [], "default": []}, "looking judges nothing"
    code, out, err = call(folder, "resume", "compare", "--json", "--no-mlflow", "--workers", "2")
    data = json.loads(out)
    assert (code, data["errors"]) == (exits.OK, {})
    assert [arm["label"] for arm in data["arms"]] == ["random", "default"]
    for arm in data["arms"]:
        assert (arm["state"], arm["trials"]["done"]) == ("complete", 8)
        assert Path(arm["report"]).is_file()
    assert "random: round 2 closed, 4 done, 0 failed, best " in err
    shown = call(folder, "status", data["arena"])[1]
    assert "8+0 of 8" in shown
    assert " core-hours" in shown
    assert "neurosweep ui" in shown
    assert call(folder, "status")[1].split() == [data["arena"]]
    code, out, _ = call(folder, "resume", "compare", "--no-mlflow", "--fail-if", "best<chance")
    assert code == exits.NOT_REACHED
    assert "random: not reached: --fail-if best<chance holds" in out


def test_an_arena_with_an_unknown_agent_leaves_nothing(folder: Path) -> None:
    text = ARENA.replace('name = "default"', 'name = "defualt"')
    (folder / "arena.toml").write_text(text, encoding="utf-8")
    code, _, err = call(folder, "start", "arena.toml")
    assert code == exits.USER_ERROR
    assert "did you mean 'default'" in err
    assert not list((folder / "home").glob("studies/*"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("start", "nothing.toml"), "nothing.toml"),
        (("start", "arena.toml", "--on", "slurm"), "needs a profile"),
        (("status", "other"), "no arena 'other'"),
    ],
)
def test_wrong_input_is_said_in_one_line(folder: Path, words: tuple[str, ...], text: str) -> None:
    (folder / "home").mkdir()
    code, _, err = call(folder, *words)
    assert code == exits.USER_ERROR
    assert text in err
    assert "Traceback" not in err
    assert not list((folder / "home").glob("studies/*"))
