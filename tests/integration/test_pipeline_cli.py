"""Pipelines through the command line: run, status, resume, MLflow, exit codes, killed drivers."""

from __future__ import annotations

import contextlib
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
from _pipeline_kit import create, run, toy, write

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


def hear_interrupts() -> None:
    """Undo what a shell does to its background jobs: SIGINT is ignored there, and inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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


def test_an_unknown_pipeline_is_not_announced(
    tmp_path: Path, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path)
    assert main(["pipeline", "resume", "toy-xx", "--home", home]) == exits.USER_ERROR
    told = capsys.readouterr()
    assert told.out == ""
    assert "there is no pipeline 'toy-xx' here" in told.err
    name = next(iter(Home(Path(home)).pipelines_dir.glob("toy-*"))).name
    assert main(["pipeline", "cancel", f"{name}0", "--home", home]) == exits.USER_ERROR
    assert f"did you mean '{name}'?" in capsys.readouterr().err


def test_a_name_stands_for_the_one_pipeline_of_it(
    tmp_path: Path, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = create(tmp_path)
    assert main(["pipeline", "cancel", "toy", "--home", home]) == exits.OK
    assert read_state(first).closed is not None
    create(tmp_path, toy(seed=1))
    capsys.readouterr()
    assert main(["pipeline", "status", "toy", "--home", home]) == exits.USER_ERROR
    told = capsys.readouterr().err
    assert "there are 2 pipelines 'toy'; name one: " in told
    assert first.pipeline_id in told
    assert main(["pipeline", "status", first.pipeline_id, "--home", home]) == exits.OK


def test_places_are_looked_at_before_data_are_prepared(
    tmp_path: Path, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {"lora": {"on": "slurm:nowhere"}, "soup": {"gpus": 1}}
    file = str(write(tmp_path / "toy.toml", toy(stages=stages)))
    assert main(["pipeline", "run", file, "--home", home]) == exits.USER_ERROR
    told = capsys.readouterr()
    assert "preparing" not in told.out
    assert "stages.lora.on: no cluster profile 'nowhere'" in told.err
    assert "stages.soup.gpus: is 1" in told.err
    assert not list(Path(home).glob("pipelines/*"))


def test_the_result_is_told_before_mlflow_is_written(
    tmp_path: Path,
    home: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neurosweep.pipeline.mirror.mirror_result", interrupted)
    file = str(write(tmp_path / "toy.toml", toy()))
    words = ["pipeline", "run", file, "--home", home, "--on", "inline"]
    assert main(words) == exits.INTERRUPTED
    told = capsys.readouterr()
    pipeline = only_pipeline(home)
    assert pipeline is not None
    assert f"result: {pipeline.result_json}" in told.out
    assert "decode (given soup, encoder)" in told.out
    assert "MLflow is not up to date: bring it there with: neurosweep pipeline resume" in told.err


def test_status_has_the_scores_the_cost_and_what_goes_on(
    tmp_path: Path, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = create(tmp_path)
    which = f"{pipeline.pipeline_id} --home {home}"
    assert main(["pipeline", "status", pipeline.pipeline_id, "--home", home]) == exits.OK
    told = capsys.readouterr().out
    assert f"pipeline {pipeline.pipeline_id}: resumable, 0 of 6 tasks are there, 0.00 core" in told
    assert f"neurosweep pipeline resume {which}  # go on" in told
    assert f"neurosweep pipeline cancel {which}  # end" in told
    run(pipeline)
    assert main(["pipeline", "status", pipeline.pipeline_id, "--home", home]) == exits.OK
    told = capsys.readouterr().out
    assert f"{pipeline.pipeline_id}: complete, 6 of 6 tasks are there, 0.00" in told
    assert "WER" in told
    assert f"result: {pipeline.result_json}" in told
    assert "pipeline resume" not in told


def alive_in(folder: Path) -> list[str]:
    """Return the processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def start_slow(tmp_path: Path, home: str) -> subprocess.Popen[bytes]:
    """Start a driver, and wait until it runs tasks that take a minute."""
    file = write(tmp_path / "toy.toml", toy(set={"fault": {"delay_s": 50.0}}))
    driver = start(file, home, "--notify", f"echo $NEUROSWEEP_TEXT >> {tmp_path / 'told'}")
    deadline = time.monotonic() + LIMIT_S
    while True:
        pipeline = only_pipeline(home)
        tasks = read_state(pipeline).tasks.values() if pipeline else ()
        if any(t.task.startswith("lora") and t.attempts and t.attempts[-1].pid for t in tasks):
            return driver
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("driven", [True, False], ids=["by its driver", "without a driver"])
def test_a_pipeline_is_cancelled(tmp_path: Path, home: str, driven: bool) -> None:
    driver = start_slow(tmp_path, home)
    pipeline = only_pipeline(home)
    assert pipeline is not None
    if not driven:
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=LIMIT_S) == exits.INTERRUPTED
    words = ("pipeline", "cancel", pipeline.pipeline_id, "--home", home, "--reason", "wrong corpus")
    code, data = call(*words)
    assert code == exits.OK
    if driven:
        assert (data["driver"], data["obeyed"]) == (True, True)
        assert driver.wait(timeout=LIMIT_S) == exits.NOT_REACHED
    _, status = call("pipeline", "status", pipeline.pipeline_id, "--home", home)
    assert (status["state"], status["reason"], status["there"]) == ("cancelled", "wrong corpus", 1)
    assert status["core_hours"] > 0.0
    assert {one["kind"] for one in status["tasks"]} == {"", "cancelled_user"}
    assert alive_in(pipeline.root) == []
    if driven:
        deadline = time.monotonic() + LIMIT_S
        while not (tmp_path / "told").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert main(list(words)) == exits.USER_ERROR


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_the_result_is_an_experiment_with_a_run_for_every_row(tmp_path: Path) -> None:
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


def start(file: Path, home: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "neurosweep.cli", "pipeline", "run", str(file)]
    command += ["--home", home, "--workers", "2", "--no-mlflow", *more]
    env = {**os.environ, **code_env(None, 1)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, env=env, stdout=quiet, stderr=quiet, preexec_fn=hear_interrupts
    )


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
    driver = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hear_interrupts,
    )
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
