from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _browser import chromium, errors, hosts
from _study_builder import build_study

from neurosweep.core.layout import StudyDir
from neurosweep.records.mlflow_ui import command, environment, mlflow_links
from neurosweep.records.mlflow_worker import ProcessMirror
from neurosweep.report.data import ReportData

pytestmark = pytest.mark.slow

# MLflow's own page asks who is logged in even where nobody can log in.
MLFLOWS_OWN = "mlflow/users/current"


FIRST_TEN = """
  const rows = new Map();
  for (const cell of document.querySelectorAll('.ag-cell[col-id*="metrics"][col-id*="val_cer"]'))
    rows.set(Number(cell.parentElement.getAttribute('row-index')), cell.innerText.trim());
  const texts = [...Array(10).keys()].map(row => rows.get(row));
  return texts.every(text => text && !isNaN(text)) ? texts : null;"""


@dataclass
class Served:
    """A mirrored study and the address of MLflow's pages."""

    study: StudyDir
    port: int

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.loads(answer.read()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    study, home = build_study(tmp_path_factory.mktemp("home"), per_round=20, floor=3)
    assert ProcessMirror(study, home).close().caught_up
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    log = tmp_path_factory.mktemp("log") / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(home, port),
            env={**os.environ, **environment()},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for(port, process, log)
        yield Served(study, port)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail("MLflow's server did not start:\n" + log.read_text(encoding="utf-8")[-2000:])


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile"), (1900, 1100)) as opened:
        yield opened


def shown(window: Any, script: str, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = window.execute_script(script)
        if value:
            return value
        time.sleep(0.3)
    pytest.fail(f"the page never showed it: {script}\n{window.current_url}")


def test_the_search_api_returns_every_run_with_its_score(served: Served) -> None:
    data = ReportData(served.study)
    names = served.post("experiments/search", {"max_results": 10})["experiments"]
    experiment = next(e for e in names if e["name"] == data.state.study)
    body = {
        "experiment_ids": [experiment["experiment_id"]],
        "filter": "tags.`ns.type` = 'trial'",
        "max_results": 1000,
    }
    runs = served.post("runs/search", body)["runs"]
    tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
    scores = {
        tag["ns.trial"]: {m["key"]: m["value"] for m in run["data"].get("metrics", [])}
        for tag, run in zip(tags, runs, strict=True)
    }
    assert set(scores) == set(data.state.trials)
    for trial_id, trial in data.state.trials.items():
        assert scores[trial_id].get("val_cer") == trial.metrics.get("val_cer")


def test_the_runs_table_shows_val_cer_best_first(served: Served, window: Any) -> None:
    data = ReportData(served.study)
    window.get(mlflow_links(served.study, served.port)["runs"])
    cells = shown(window, FIRST_TEN)
    values = [float(text) for text in cells]
    best = [data.value(trial) for trial in data.scored]
    floor = list(data.floor)
    assert values == pytest.approx(sorted([*best, *floor])[:10], abs=1e-5)
    text = window.execute_script("return document.body.innerText")
    assert "training.learning_rate" in text or "model.channels" in text
    assert f"{data.scored[0].plan.trial} lr=" in text
    assert [e for e in errors(window) if MLFLOWS_OWN not in e] == []
    assert hosts(window) <= {"127.0.0.1"}


def test_the_best_ten_are_compared(served: Served, window: Any) -> None:
    window.get(mlflow_links(served.study, served.port)["compare"])
    shown(window, "return document.body.innerText.includes('Comparing 10 Runs from 1 Experiment')")
    best = ReportData(served.study).scored[0]
    assert best.plan.trial in window.execute_script("return document.body.innerText")
    assert [e for e in errors(window) if MLFLOWS_OWN not in e] == []
