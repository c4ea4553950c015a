"""Whole studies from the command line, in processes of their own, on jobs that take no time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurosweep.cli import exits
from neurosweep.core.provenance import code_env
from neurosweep.records.ledger import read_ledger

STUDY = """
name = "small"
recipe = "instant"
entry = "neurosweep.testing"
seed = 3

[agent]
name = "random_search"

[budget]
rounds = 2
trials_per_round = 3
trial_minutes = 1.0

[reserve]
floor = 2

[data]
items = 4
subjects = 1
"""
RUNS = ("--on", "inline", "--no-mlflow")
LIMIT_S = 120.0


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.out)
        return data


def _hear_interrupts() -> None:
    """Undo what a shell does to its background jobs: SIGINT is ignored there, and inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Shell:
    """Run commands in a folder, as a person does."""

    folder: Path

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        here = {**os.environ, **code_env(None, 1), **(env or {})}
        here["NEUROSWEEP_HOME"] = str(self.folder / "home")
        return subprocess.Popen(
            [sys.executable, "-m", "neurosweep.cli", *words],
            cwd=self.folder,
            env=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_interrupts,
        )

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> Answer:
        process = self.start(*words, env=env)
        out, err = process.communicate(timeout=LIMIT_S)
        return Answer(process.returncode, out, err)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def studies(self) -> list[Path]:
        return sorted((self.folder / "home/studies").glob("*"))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_study_from_start_to_report(shell: Shell) -> None:
    shell.write("study.toml", STUDY)
    done = shell.run("study", "start", "study.toml", *RUNS)
    assert (done.code, done.err) == (exits.OK, "")
    (folder,) = shell.studies()
    assert f"{folder.name}: complete, 6 of 6 search trials ended" in done.out
    assert "default, mean of 2 seeds" in done.out
    assert (folder / "report/index.html").is_file()
    assert str(Path("home/studies") / folder.name / "report/index.html") in done.out

    by_file = shell.run("study", "status", "study.toml", "--json")
    assert by_file.code == exits.OK
    summary = by_file.json
    assert (summary["study"], summary["state"], summary["resume"]) == (
        folder.name,
        "complete",
        None,
    )
    everything = shell.run("study", "status", "--json").json
    assert [entry["study"] for entry in everything["studies"]] == [folder.name]

    best = summary["best"]["trial"]
    again = shell.run("rerun", f"{folder.name}/{best}", "--on", "inline", "--json")
    assert again.code == exits.OK
    assert (again.json["identical"], again.json["recorded"]) == (True, summary["best"]["value"])
    assert len(read_ledger(folder / "ledger.jsonl")) == len(set(read_lines(folder)))

    (folder / "report/index.html").unlink()
    rebuilt = shell.run("study", "report", folder.name, "--no-mlflow", "--export", "all.json")
    assert rebuilt.code == exits.OK
    assert (folder / "report/index.html").is_file()
    export = json.loads((shell.folder / "all.json").read_text(encoding="utf-8"))
    assert len(export["trials"]) == 8


def read_lines(folder: Path) -> list[bytes]:
    return (folder / "ledger.jsonl").read_bytes().splitlines()


def test_options_of_the_command_line_win_and_json_is_alone_on_stdout(shell: Shell) -> None:
    shell.write("study.toml", STUDY)
    words = ("--rounds", "1", "--trials", "4", "--json")
    done = shell.run("study", "start", "study.toml", *RUNS, *words)
    assert done.code == exits.OK
    summary = done.json
    assert summary["trials"]["planned"] == 4
    assert (summary["violations"], summary["exit_code"]) == ([], 0)
    assert "preparing the data" in done.err


@pytest.mark.parametrize(
    ("condition", "code"),
    [("failed>0", exits.NOT_REACHED), ("failed>99", exits.OK), ("best>0", exits.NOT_REACHED)],
)
def test_a_job_fails_when_it_should(shell: Shell, condition: str, code: int) -> None:
    shell.write("study.toml", STUDY + '\n[set]\nfault.mode = "crash"\nfault.share = 0.5\n')
    words = (*RUNS, "--rounds", "1", "--trials", "8", "--fail-if", condition)
    done = shell.run("study", "start", "study.toml", *words)
    assert done.code == code, done.out + done.err
    assert (f"--fail-if {condition} holds" in done.out) is (code != exits.OK)
    assert "failures: " in done.out
    assert "log.txt" in done.out


def test_a_recipe_that_only_fails_pauses_and_exits_with_3(shell: Shell) -> None:
    shell.write("study.toml", STUDY.replace('"instant"', '"crash"'))
    done = shell.run("study", "start", "study.toml", *RUNS)
    assert done.code == exits.NOT_REACHED
    assert "paused (all 2 trials of the unchanged recipe failed" in done.out
    assert "neurosweep study resume" in done.out


def test_run_and_sweep_are_studies_too(shell: Shell) -> None:
    entry = ("--entry", "neurosweep.testing", *RUNS)
    single = shell.run("run", "instant", "--set", "training.epochs=2", "--seeds", "2", *entry)
    assert single.code == exits.OK
    assert "default, mean of 2 seeds" in single.out
    grid = ("--set", "training.learning_rate=1e-3,1e-2", "--set", "training.epochs=1,2")
    swept = shell.run("sweep", "instant", *grid, *entry, "--json")
    assert swept.code == exits.OK
    assert swept.json["trials"]["done"] == 4
    assert swept.json["agent"] == "grid"
    assert set(swept.json["best"]["overrides"]) == {"training.learning_rate", "training.epochs"}
    trials = sorted(path.name for path in shell.studies()[1].glob("trials/*"))
    assert trials == ["r01t000", "r01t001", "r01t002", "r01t003"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_says_how_to_go_on_and_loses_nothing(
    shell: Shell, number: signal.Signals
) -> None:
    slow = "\n[set]\nfault.delay_s = 0.4\n"
    shell.write("study.toml", STUDY + slow)
    words = ("--on", "local", "--workers", "2", "--no-mlflow")
    process = shell.start("study", "start", "study.toml", *words)
    wait_for(lambda: any((p / "trials/r01t000/attempts").is_dir() for p in shell.studies()))
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == exits.INTERRUPTED, out + err
    (folder,) = shell.studies()
    assert f"neurosweep study resume {folder.name}" in out
    resumed = shell.run("study", "resume", folder.name, "--no-mlflow", "--json")
    assert resumed.code == exits.OK, resumed.err
    events = read_ledger(folder / "ledger.jsonl")
    scored = [e["data"]["trial"] for e in events if e["event"] == "trial_scored"]
    assert len(scored) == len(set(scored)) == 8


def test_a_second_driver_is_refused_and_a_driver_obeys(shell: Shell) -> None:
    shell.write("study.toml", STUDY + "\n[set]\nfault.delay_s = 1.0\n")
    process = shell.start("study", "start", "study.toml", "--workers", "1", "--no-mlflow")
    wait_for(lambda: any((p / "trials/f000/attempts").is_dir() for p in shell.studies()))
    second = shell.run("study", "resume", "study.toml", "--no-mlflow")
    assert second.code == exits.USER_ERROR
    assert "already has a driver" in second.err
    assert shell.run("study", "status", "study.toml", "--json").json["state"] == "running"
    asked = shell.run("study", "cancel", "study.toml", "--reason", "enough", "--json")
    assert (asked.code, asked.json["driver"]) == (exits.OK, True)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == exits.NOT_REACHED, out + err
    assert "incomplete (enough)" in out
    again = shell.run("study", "cancel", "study.toml")
    assert again.code == exits.USER_ERROR
    assert "has ended (enough)" in again.err
    resumed = shell.run("study", "resume", "study.toml", "--no-mlflow")
    assert resumed.code == exits.NOT_REACHED


def test_a_running_study_is_steered_trial_by_trial(shell: Shell) -> None:
    slow = "\n[set]\nfault.delay_s = 0.5\n"
    told = "[notify]\ncommand = 'echo \"$NEUROSWEEP_EVENT\" >> told.txt'\n"
    shell.write("study.toml", STUDY + slow + told)
    process = shell.start("study", "start", "study.toml", "--workers", "1", "--no-mlflow")
    wait_for(lambda: any((p / "trials/r01t000/attempts").is_dir() for p in shell.studies()))
    stopped = shell.run("trial", "stop", "r01t002", "--reason", "dull", "--json")
    assert (stopped.code, stopped.json["obeyed"]) == (exits.OK, True), stopped.err
    cloned = shell.run("trial", "clone", "r01t000", "--set", "model.rank=4", "--json")
    assert (cloned.code, cloned.json["obeyed"]) == (exits.OK, True), cloned.err
    assert "in a place of the next round" in cloned.err
    faster = shell.run("study", "throttle", "study.toml", "3")
    assert "it runs 3 trials at a time" in faster.out
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == exits.OK, out + err
    assert "6 of 6 search trials ended" in out
    shown = shell.run("trial", "show", "r01t002", "--json").json
    assert (shown["state"], shown["kind"]) == ("failed", "stopped")
    assert shown["ended_why"] == "dull"
    clone = shell.run("trial", "show", "r02t000", "--json").json
    assert (clone["source"], clone["overrides"]["model.rank"]) == ("clone", 4)
    late = shell.run("trial", "clone", "r01t000")
    assert (late.code, "has ended" in late.err) == (exits.USER_ERROR, True)
    events = (shell.studies()[0] / "told.txt").read_text(encoding="utf-8").split()
    assert sorted(events) == ["round_closed"] * 3 + ["study_closed"]


def test_a_study_without_driver_is_cancelled_here(shell: Shell) -> None:
    shell.write("study.toml", STUDY.replace('"instant"', '"crash"'))
    assert shell.run("study", "start", "study.toml", *RUNS).code == exits.NOT_REACHED
    paused = shell.run("study", "pause", "study.toml")
    assert (paused.code, "has no driver" in paused.err) == (exits.USER_ERROR, True)
    cancelled = shell.run("study", "cancel", "study.toml", "--json")
    assert (cancelled.code, cancelled.json["driver"]) == (exits.OK, False)
    assert shell.run("study", "status", "study.toml", "--json").json["state"] == "incomplete"


def test_the_test_part_is_opened_once_unless_there_is_a_reason(shell: Shell) -> None:
    shell.write("study.toml", STUDY.replace("floor = 2", "floor = 0\nconfirm = 2"))
    early = shell.run("study", "start", "study.toml", *RUNS, "--rounds", "1", "--json").json
    words = ("study", "confirm", "study.toml", "--on", "inline", "--no-mlflow")
    first = shell.run(*words, "--json")
    assert first.code == exits.OK, first.err
    answer = first.json
    assert (answer["champion"], answer["seeds"]) == (early["best"]["trial"], 2)
    assert (answer["opening"], answer["exit_code"]) == (1, 0)
    assert answer["metrics"]["test_cer"]["low"] < answer["metrics"]["test_cer"]["high"]
    again = shell.run(*words)
    assert again.code == exits.USER_ERROR
    assert "was opened before" in again.err
    shown = shell.run(*words, "--reason", "a second look").out
    assert "has been opened 2 times" in shown
    assert "test_cer" in shown
    status = shell.run("study", "status", "study.toml", "--json").json
    assert (status["round"], status["state"]) == (1, "complete")


def test_the_demo_starts_goes_on_and_starts_anew(shell: Shell) -> None:
    jobs = ("--entry", "neurosweep.testing", "--recipe", "instant")
    small = (*jobs, "--rounds", "1", "--trials", "4", *RUNS)
    first = shell.run("demo", *small)
    assert first.code == exits.OK, first.err
    assert "starting a new demo" in first.out
    parts = ("val_cer", "chance", "report:", "neurosweep ui", "sweep sentences_llm", "doctor")
    for part in (*parts, "drawing 24 sentences"):
        assert part in first.out, part
    (folder,) = shell.studies()
    ledger = folder / "ledger.jsonl"
    kept = ledger.read_bytes().splitlines(keepends=True)[:-1]
    ledger.write_bytes(b"".join(kept))
    second = shell.run("demo", *small)
    assert second.code == exits.OK, second.err
    assert f"going on with the unfinished demo {folder.name}" in second.out
    assert shell.studies() == [folder]
    eeg = shell.run("demo", "--eeg", *small)
    assert "starting a new demo" in eeg.out
    assert "sweep speller" in eeg.out
    assert len(shell.studies()) == 2


def test_mlflow_is_brought_up_to_date_later(shell: Shell) -> None:
    shell.write("study.toml", STUDY)
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    alone = ("--on", "inline", "--rounds", "1")
    started = shell.run("study", "start", "study.toml", *alone, env=away)
    assert started.code == exits.OK, started.err
    assert "MLflow is not up to date" in started.out
    unreachable = shell.run("study", "report", "study.toml", "--json", env=away)
    assert unreachable.code == exits.NOT_REACHED
    assert unreachable.json["mlflow"]["caught_up"] is False
    back = shell.run("study", "report", "study.toml", "--json")
    assert back.code == exits.OK, back.err
    assert back.json["mlflow"]["caught_up"] is True
    links = shell.run("ui", "--print", "--json")
    assert links.code == exits.OK
    (found,) = links.json["links"].values()
    assert found["runs"].startswith("http://127.0.0.1:5000/#/experiments/")
    assert links.json["command"][1:4] == ["-m", "mlflow", "server"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("rounds = 2", "round = 2"), ["study.toml", "budget.round", "did you mean 'rounds'?"]),
        (("rounds = 2", "rounds = -2"), ["study.toml", "budget.rounds", "-2"]),
        (('name = "small"', 'name = "'), ["study.toml", "TOML"]),
        (('"random_search"', '"random_serch"'), ["did you mean 'random_search'?"]),
        (('"instant"', '"instnt"'), ["recipe 'instnt'", "did you mean 'instant'?"]),
        (("[data]", '[execution]\non = "slrm:x"\n[data]'), ["did you mean 'slurm'?"]),
        (("items = 4", "itms = 4"), ["data.itms", "did you mean 'items'?"]),
        (('"neurosweep.testing"', '"nowhere"'), ["nowhere"]),
    ],
)
def test_wrong_files_end_in_one_error_and_leave_nothing(
    shell: Shell, change: tuple[str, str], parts: list[str]
) -> None:
    shell.write("study.toml", STUDY.replace(*change))
    done = shell.run("study", "start", "study.toml", "--no-mlflow")
    assert done.code == exits.USER_ERROR, done.err
    assert "Traceback" not in done.err
    assert [part for part in parts if part not in done.err] == []
    assert shell.studies() == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--on", "slrm:x"), ["--on slrm:x", "did you mean 'slurm'?", "local, inline"]),
        (("--on", "slurm:nowhere"), ["no cluster profile 'nowhere'", "known:"]),
        (("--on", "slurm:bad.toml"), ["bad.toml", "partitoin", "did you mean 'partition'?"]),
        (("--fail-if", "faild>0"), ["did you mean 'failed'?"]),
        (("--home", "study.toml"), ["home", "study.toml", "--home DIR"]),
    ],
)
def test_wrong_options_end_in_one_error_and_leave_nothing(
    shell: Shell, words: tuple[str, ...], parts: list[str]
) -> None:
    shell.write("study.toml", STUDY)
    shell.write("bad.toml", 'partitoin = "x"')
    done = shell.run("study", "start", "study.toml", "--no-mlflow", *words)
    assert done.code == exits.USER_ERROR, done.err
    assert "Traceback" not in done.err
    assert [part for part in parts if part not in done.err] == []
    assert shell.studies() == []


def test_a_missing_file_and_a_damaged_ledger_are_named(shell: Shell) -> None:
    missing = shell.run("study", "start", "nowhere.toml")
    assert missing.code == exits.USER_ERROR
    assert "nowhere.toml: cannot be read (No such file or directory)" in missing.err
    shell.write("study.toml", STUDY)
    shell.run("study", "start", "study.toml", *RUNS, "--rounds", "1")
    (folder,) = shell.studies()
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"seed":3', b'"seed":4', 1))
    for words in (("status",), ("resume", "--no-mlflow"), ("report", "--no-mlflow")):
        damaged = shell.run("study", words[0], folder.name, *words[1:])
        assert damaged.code == exits.USER_ERROR, damaged.err
        assert "line 2" in damaged.err
        assert "Traceback" not in damaged.err
    listed = shell.run("study", "status", "--json").json["studies"]
    assert [entry["state"] for entry in listed] == ["damaged"]
