"""Pipelines through the command line: run, status, resume, MLflow, exit codes, killed drivers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from _pipeline_kit import create, toy, write

from neurosweep.cli import exits
from neurosweep.cli.app import main
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home, PipelineDir
from neurosweep.core.provenance import code_env
from neurosweep.pipeline.journal import read_state
from neurosweep.pipeline.mirror import mirror_result
from neurosweep.research.lock import live_driver

LIMIT_S = 120.0
TINY: dict[str, Any] = {
    "name": "tiny",
    "recipe": "sentences_llm",
    "minutes": 5.0,
    "set": {
        "data": {
            "subjects": 2,
            "layout": "opm64",
            "recordings": 1,
            "train_sentences": 24,
            "val_sentences": 5,
            "test_sentences": 2,
            "max_chars": 16,
        },
        "model": {"conv_width": 24, "width": 16, "num_layers": 1, "ffn_width": 16},
        "training": {"epochs": 3},
        "projector": {"epochs": 2},
        "decoding": {"beam": 2},
    },
    "stages": {
        "encoder": {"job": "encoder"},
        "features": {"job": "features", "needs": ["encoder"]},
        "lora": {"job": "lora", "needs": ["features"], "foreach": "subjects"},
        "soup": {"job": "soup", "needs": ["lora"], "at_least": 1},
        "decode": {"job": "decode", "needs": ["features", "soup"]},
        "evaluate": {"job": "evaluate", "needs": ["encoder", "lora", "decode"]},
    },
}


def call(*words: str) -> tuple[int, dict[str, Any]]:
    """Run a command in a process of its own; return exit code and JSON."""
    command = [sys.executable, "-m", "neurosweep.cli", *words, "--json"]
    env = {**os.environ, **code_env(None, 1)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "home")


def test_a_pipeline_is_run_shown_and_run_again(tmp_path: Path, home: str) -> None:
    file = str(write(tmp_path / "toy.toml", toy()))
    code, result = call("pipeline", "run", file, "--home", home, "--on", "inline", "--no-mlflow")
    assert (code, result["state"]) == (exits.OK, "complete")
    code, status = call("pipeline", "status", result["pipeline"], "--home", home)
    assert (code, status["state"], status["there"]) == (exits.OK, "complete", 6)
    assert {task["phase"] for task in status["tasks"]} == {"made"}
    _, listed = call("pipeline", "status", "--home", home)
    assert [one["pipeline"] for one in listed["pipelines"]] == [result["pipeline"]]
    code, again = call("pipeline", "resume", result["pipeline"], "--home", home, "--no-mlflow")
    assert (code, again["rows"]) == (exits.OK, result["rows"])
    assert {task["phase"] for task in again["tasks"].values()} == {"found"}


def test_an_end_that_is_missing_is_an_exit_code(tmp_path: Path, home: str) -> None:
    data = toy(set={"fault": {"hostile": "s02"}}, stages={"soup": {"at_least": 3}})
    file = str(write(tmp_path / "toy.toml", data))
    code, result = call("pipeline", "run", file, "--home", home, "--on", "inline", "--no-mlflow")
    assert (code, result["state"]) == (exits.NOT_REACHED, "incomplete")
    _, status = call("pipeline", "status", result["pipeline"], "--home", home)
    why = {task["task"]: (task["kind"], task["reason"]) for task in status["tasks"]}
    assert why["lora.s02"] == ("user_error", "this element cannot be used")
    assert why["soup"] == ("", "needs 3 of lora, 2 are there (lora.s02 failed)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "nothing"), "pipeline 'nothing' is unknown"),
        (("run", "sentncs"), "did you mean 'sentences'"),
        (("run", "{file}", "--on", "slurm:nowhere"), "no cluster profile 'nowhere'"),
        (("run", "{file}", "--on", "lokal"), "there is no executor 'lokal'"),
        (("resume", "toy-1"), "there is no pipeline 'toy-1' here; there are: none"),
        (("status", "toy-1"), "there is no pipeline 'toy-1' here"),
        (("go",), "unknown"),
    ],
)
def test_wrong_words_are_one_clear_error(
    tmp_path: Path,
    home: str,
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(home).mkdir()
    file = str(write(tmp_path / "toy.toml", toy()))
    code = main(["pipeline", *(word.format(file=file) for word in words), "--home", home])
    assert code == exits.USER_ERROR
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_the_result_is_an_experiment_with_a_run_for_every_row(tmp_path: Path) -> None:
    from _pipeline_kit import run
    from mlflow.tracking import MlflowClient

    pipeline = create(tmp_path)
    result = run(pipeline)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mirror_result(pipeline, result, uri)
    mirror_result(pipeline, result, uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(pipeline.pipeline_id)
    assert experiment is not None
    assert experiment.tags["ns.type"] == "pipeline"
    runs = client.search_runs([experiment.experiment_id])
    found = {run.info.run_name: run for run in runs}
    assert sorted(found) == sorted(row["row"] for row in result["rows"])
    for row in result["rows"]:
        one = found[row["row"]]
        assert one.data.metrics == pytest.approx(row["metrics"])
        assert one.data.tags["ns.pipeline"] == pipeline.pipeline_id
        assert one.data.params["model.rank"] == "8"
        assert one.info.status == "FINISHED"


def start(file: Path, home: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "neurosweep.cli", "pipeline", "run", str(file)]
    command += ["--home", home, "--workers", "2", "--no-mlflow"]
    env = {**os.environ, **code_env(None, 1)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet)


def only_pipeline(home: str) -> PipelineDir | None:
    found = list(Home(Path(home)).pipelines_dir.glob("toy-*"))
    return PipelineDir(found[0]) if found else None


@pytest.mark.slow
def test_kills_of_a_real_driver_lose_nothing_and_repeat_nothing(tmp_path: Path, home: str) -> None:
    stages = {"lora": {"foreach": [f"e{number:02d}" for number in range(12)], "job": "make"}}
    data = toy(stages=stages | {"evaluate": {"needs": ["encoder", "decode"]}})
    del data["stages"]["evaluate"]["at_least"]
    file = write(tmp_path / "toy.toml", data)
    rng = random.Random(7)
    for lines in (3, 8, 11, 16, 20):
        process = start(file, home)
        deadline = time.monotonic() + 60.0
        while process.poll() is None:
            pipeline = only_pipeline(home)
            written = pipeline.ledger.read_bytes().count(b"\n") if pipeline else 0
            if written >= lines:
                break
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.wait()
        pipeline = only_pipeline(home)
        assert pipeline is not None
        assert live_driver(pipeline.lock) is None
    assert start(file, home).wait(timeout=60.0) == 0
    assert pipeline is not None
    state = read_state(pipeline)
    assert state.closed is not None
    assert state.closed["state"] == "complete"
    done: Counter[str] = Counter()
    for status in pipeline.root.glob("tasks/*/attempts/*/status.json"):
        done[status.parents[2].name] += read_json(status)["outcome"] == "done"
    assert done == dict.fromkeys(state.tasks, 1)


@pytest.mark.slow
def test_simulated_meg_to_the_soup_of_adapters(tmp_path: Path, home: str) -> None:
    file = str(write(tmp_path / "tiny.toml", TINY))
    words = ("--home", home, "--workers", "1", "--no-mlflow")
    code, result = call("pipeline", "run", file, *words)
    assert (code, result["state"], result["missing"]) == (exits.OK, "complete", [])
    rows = {row["row"]: row for row in result["rows"]}
    assert list(rows) == ["encoder", "lora", "lora.S01", "lora.S02", "decode"]
    assert rows["lora.S01"]["per_subject"].keys() == {"S01"}
    for name in ("lora", "decode"):
        metrics = rows[name]["metrics"]
        assert {"val_wer", "val_cer", "val_wer_greedy", "val_cer_no_meg"} <= set(metrics)
        assert metrics["val_cer_greedy"] == pytest.approx(rows["encoder"]["metrics"]["val_cer"])
    texts = {
        json.loads(line)["reference"]
        for path in Path(home).glob("secret/*/val_refs.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    assert len(texts) == 5
    given = [*Path(home).glob("artifacts/**/*.json"), *Path(home).glob("pipelines/**/run.json")]
    content = "\n".join(path.read_text(encoding="utf-8") for path in given)
    assert [text for text in texts if f'"{text}"' in content] == []
    changed = json.loads(json.dumps(TINY))
    changed["set"]["llm"] = {"lora_rank": 4}
    changed["stages"] = {name: changed["stages"][name] for name in ("encoder", "features")}
    changed["stages"]["evaluate"] = {"job": "evaluate", "needs": ["encoder"]}
    file = str(write(tmp_path / "more.toml", changed))
    code, other = call("pipeline", "run", file, *words)
    assert code == exits.OK
    phases = {name: task["phase"] for name, task in other["tasks"].items()}
    assert phases == {"encoder": "found", "features": "found"}
    assert other["rows"][0]["metrics"] == result["rows"][0]["metrics"]


@pytest.mark.slow
def test_an_interrupted_pipeline_names_the_command_that_goes_on(tmp_path: Path, home: str) -> None:
    file = write(tmp_path / "toy.toml", toy(set={"fault": {"delay_s": 2.0}}))
    command = [sys.executable, "-m", "neurosweep.cli", "pipeline", "run", str(file)]
    command += ["--home", home, "--workers", "3", "--no-mlflow"]
    env = {**os.environ, **code_env(None, 1)}
    driver = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert driver.stdout is not None
    assert driver.stderr is not None
    for line in driver.stdout:
        if b"submitted: lora.s01" in line:
            break
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=LIMIT_S) == exits.INTERRUPTED
    said = driver.stderr.read().decode()
    driver.stdout.close()
    driver.stderr.close()
    pipeline = only_pipeline(home)
    assert pipeline is not None
    go_on = f"neurosweep pipeline resume {pipeline.pipeline_id} --home {home}"
    assert go_on in said
    other = write(tmp_path / "other.toml", toy(max_attempts=2))
    words = [*command[:5], str(other), "--home", home, "--no-mlflow", "--on", "inline"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert "tasks may still run; go on with it by" in done.stdout
    assert go_on in done.stdout
    code, result = call("pipeline", "resume", pipeline.pipeline_id, "--home", home, "--no-mlflow")
    assert (code, result["missing"]) == (exits.OK, [])
