from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _mlflow_kit import dump
from _sentence_study import build_sentence_study
from _study_builder import StepClock, StudyBuilder, build_study

from neurosweep.core.layout import Home, StudyDir
from neurosweep.records import mlflow_ui
from neurosweep.records.fold import load_state
from neurosweep.records.mirror import Mirror
from neurosweep.records.mlflow_worker import ProcessMirror
from neurosweep.report.build import build

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
MakeBuilder = Callable[..., StudyBuilder]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MLflow database with its tables: making them takes two seconds."""
    builder = StudyBuilder(Home(tmp_path_factory.mktemp("template")), per_round=1, floor=1)
    builder.create()
    assert ProcessMirror(builder.dir, builder.home).close().caught_up
    with sqlite3.connect(builder.home.mlflow_dir / "mlflow.db") as connection:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs", "experiment_tags"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM experiments WHERE experiment_id > 0")
    connection.close()
    return builder.home.mlflow_dir / "mlflow.db"


@pytest.fixture
def make(tmp_path: Path, database: Path) -> MakeBuilder:
    def made(**options: Any) -> StudyBuilder:
        home = Home(tmp_path / "home")
        home.mlflow_dir.mkdir(parents=True)
        shutil.copy(database, home.mlflow_dir / "mlflow.db")
        builder = StudyBuilder(home, **{"per_round": 6, "floor": 2, "rounds": 2, **options})
        builder.create()
        return builder

    return made


def finish(builder: StudyBuilder) -> None:
    for number in range(builder.rounds + 1):
        builder.run_round(number)
    builder.close()


def test_experiment_is_the_study_parent_a_round_child_a_trial(make: MakeBuilder) -> None:
    builder = make(fail_share=0.3)
    finish(builder)
    assert Mirror(builder.dir, builder.home).sync().caught_up
    runs = dump(builder.home)
    trials = {key: run for key, run in runs.items() if key[0] in "rf" and not key.startswith("ro")}
    assert len(trials) == 14
    assert set(runs) - set(trials) == {"study", "round-00", "round-01", "round-02"}
    assert runs["r02t003"]["tags"]["mlflow.parentRunId"] == "round-02"
    assert runs["f001"]["tags"]["mlflow.parentRunId"] == "round-00"
    assert runs["r02t003"]["name"].startswith("r02t003 lr=")
    scored = [run for run in trials.values() if run["status"] == "FINISHED"]
    assert all("val_cer" in {point[0] for point in run["metrics"]} for run in scored)
    assert {run["status"] for run in trials.values()} == {"FINISHED", "FAILED"}
    failed = next(run for run in trials.values() if run["status"] == "FAILED")
    assert failed["tags"]["ns.log_tail"].endswith(
        f"</pre><script>{failed['tags']['ns.kind']}</script>"
    )
    assert "; " in failed["tags"]["ns.meaning"]
    note = failed["tags"]["mlflow.note.content"]
    assert note.startswith(f"**{failed['tags']['ns.kind']}**: ")
    assert note.endswith(f"{failed['tags']['ns.log_tail']}\n```")
    assert "ns.log_tail" not in scored[0]["tags"]
    cost = {name for name, *_ in runs["study"]["metrics"]}
    assert {"cost.core_hours", "cost.gpu_hours", "cost.queue_s"} <= cost
    assert {run["status"] for key, run in runs.items() if key not in trials} == {"FINISHED"}


def test_artifacts_hold_configuration_predictions_beside_references_log_and_figures(
    make: MakeBuilder,
) -> None:
    builder = make()
    finish(builder)
    build(builder.dir)
    Mirror(builder.dir, builder.home).sync()
    runs = dump(builder.home)
    best = builder.best_trial
    files = runs[best]["files"]
    assert {"run.json", "scores.json", "predictions.jsonl", "log_tail.txt"} <= set(files)
    assert json.loads(files["run.json"])["trial"] == best
    row = json.loads(files["predictions.jsonl"].splitlines()[0])
    assert set(row) == {"item", "reference", "hypothesis"}
    assert row["reference"] == "K"
    assert runs["round-01"]["files"]["evolution.png"].startswith(b"\x89PNG")
    assert b"<title>speller" in runs["study"]["files"]["index.html"]


def test_of_a_confirmation_only_aggregates_are_shown(make: MakeBuilder) -> None:
    builder = make(rounds=1)
    finish(builder)
    mirror = Mirror(builder.dir, builder.home)
    mirror.sync()
    builder.confirm()
    assert mirror.sync().caught_up
    runs = dump(builder.home)
    assert runs["round-02"]["name"] == "confirm"
    run = runs["c001"]
    assert run["tags"]["mlflow.parentRunId"] == "round-02"
    assert {"test_cer", "test_cer/ci_low"} <= {point[0] for point in run["metrics"]}
    assert not {"predictions.jsonl", "scores.json"} & set(run["files"])


def test_references_are_for_the_driver_alone(make: MakeBuilder) -> None:
    builder = make()
    finish(builder)
    Mirror(builder.dir, builder.home).sync()
    assert builder.home.mlflow_dir.stat().st_mode & 0o077 == 0


def test_syncing_again_and_in_pieces_gives_what_one_sync_gives(make: MakeBuilder) -> None:
    builder = make()
    mirror = Mirror(builder.dir, builder.home)
    for number in range(3):
        builder.run_round(number, close=False)
        mirror.sync()
        best = {"trial": builder.best_trial, "value": builder.best_value} if number else None
        builder.ledger.append(
            "round_closed", {"round": number, "best": best, "done": 6, "failed": 0}
        )
        assert mirror.sync().caught_up
        mirror = Mirror(builder.dir, builder.home) if number == 1 else mirror
    builder.close()
    assert mirror.sync().caught_up
    in_pieces = dump(builder.home)
    assert mirror.sync().caught_up
    assert Mirror(builder.dir, builder.home).sync().caught_up
    assert dump(builder.home) == in_pieces
    other = Home(builder.home.root.parent / "other")
    shutil.copytree(builder.home.root, other.root, ignore=shutil.ignore_patterns("mlflow"))
    assert ProcessMirror(other.study(builder.study), other).close().caught_up
    assert dump(other) == in_pieces


def test_deleted_database_and_reports_are_rebuilt_identically(tmp_path: Path) -> None:
    study, home = build_study(tmp_path, per_round=6, floor=2)
    page = build(study)
    assert ProcessMirror(study, home).close().caught_up
    before, files = dump(home), report_files(study)
    shutil.rmtree(home.mlflow_dir)
    shutil.rmtree(study.report_dir)
    study.mirror_json.unlink()
    assert build(study) == page
    assert ProcessMirror(study, home).close().caught_up
    assert dump(home) == before
    assert report_files(study) == files


def report_files(study: StudyDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in study.report_dir.iterdir()}


def test_a_run_that_was_left_half_written_is_completed(make: MakeBuilder) -> None:
    builder = make()
    finish(builder)
    mirror = Mirror(builder.dir, builder.home)
    mirror.sync()
    whole = dump(builder.home)
    with sqlite3.connect(builder.home.mlflow_dir / "mlflow.db") as connection:
        of_run = "run_uuid IN (SELECT run_uuid FROM tags WHERE key='ns.key' AND value='r02t001')"
        connection.execute(f"UPDATE runs SET status='RUNNING', end_time=NULL WHERE {of_run}")
        connection.execute(f"DELETE FROM metrics WHERE {of_run} AND key LIKE 'curve/%'")
    connection.close()
    assert dump(builder.home) != whole
    assert Mirror(builder.dir, builder.home).sync().caught_up
    assert dump(builder.home) == whole


def test_a_long_trial_is_seen_while_it_runs_and_ends_like_any_other(make: MakeBuilder) -> None:
    builder = make(rounds=1)
    builder.run_round(0)
    plans = builder.plan(1)
    builder.ledger.append(
        "round_planned", {"round": 1, "trials": [plan.to_dict() for plan in plans]}
    )
    trials = [[plan.trial, 1] for plan in plans]
    builder.ledger.append("submit_intended", {"token": "t", "round": 1, "trials": trials})
    builder.ledger.append("submitted", {"token": "t", "jobs": {p.trial: "j" for p in plans}})
    builder.start(plans[0], 1)
    metrics = builder.dir.trial(plans[0].trial).attempt(1).metrics
    metrics.write_text('{"step": 0, "t": 1.0, "loss": 2.0}\n', encoding="utf-8")
    clock = StepClock(builder.clock.t + 5)
    mirror = Mirror(builder.dir, builder.home, clock=clock)
    mirror.sync()
    assert plans[0].trial not in dump(builder.home)
    clock.sleep(30)
    mirror.sync()
    run = dump(builder.home)[plans[0].trial]
    assert run["status"] == "RUNNING"
    assert ("curve/loss", 2.0, 1000, 0) in run["metrics"]
    builder.end(plans[0], 1, "lost", 60.0)
    mirror.sync()
    again = [[plans[0].trial, 2]]
    builder.ledger.append("submit_intended", {"token": "u", "round": 1, "trials": again})
    builder.ledger.append("submitted", {"token": "u", "jobs": {}})
    builder.start(plans[0], 2)
    builder.end(plans[0], 2, "none", 9.0)
    builder.score(plans[0], 2, {**plans[0].overrides})
    mirror.sync()
    run = dump(builder.home)[plans[0].trial]
    assert run["status"] == "FINISHED"
    assert run["tags"]["ns.attempt"] == "2"
    assert ("curve/loss", 2.0, 1000, 0) not in run["metrics"]


def test_an_unreachable_server_delays_only_the_mirror(make: MakeBuilder) -> None:
    builder = make()
    mirror = ProcessMirror(builder.dir, builder.home, "http://127.0.0.1:9")
    started = time.monotonic()
    report = mirror.sync()
    assert "cannot be reached" in report.error
    assert time.monotonic() - started < 30
    finish(builder)
    assert not mirror.close().caught_up
    assert Mirror(builder.dir, builder.home).sync().caught_up
    assert "r02t005" in dump(builder.home)


def test_a_locked_database_is_caught_up_later(make: MakeBuilder) -> None:
    builder = make()
    finish(builder)
    holder = sqlite3.connect(builder.home.mlflow_dir / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    mirror = Mirror(builder.dir, builder.home)
    try:
        report = mirror.sync()
    finally:
        holder.close()
    assert "locked" in report.error
    assert report.pending == 18
    assert mirror.sync(force=True).caught_up


def test_a_database_deleted_in_use_is_rebuilt_by_a_new_process(make: MakeBuilder) -> None:
    builder = make()
    builder.run_round(0)
    mirror = ProcessMirror(builder.dir, builder.home)
    assert mirror.sync().caught_up
    shutil.rmtree(builder.home.mlflow_dir)
    builder.run_round(1)
    mirror.sync()  # the old process finds its database gone and ends, sooner or later
    assert mirror.sync().caught_up
    mirror.close()
    assert {"f000", "r01t005"} <= set(dump(builder.home))


def test_two_mirrors_of_one_study_make_no_run_twice(make: MakeBuilder) -> None:
    builder = make()
    one, two = Mirror(builder.dir, builder.home), Mirror(builder.dir, builder.home)
    builder.run_round(0)
    assert one.sync().caught_up
    assert two.sync().caught_up
    builder.run_round(1)
    assert one.sync().caught_up
    assert two.sync().caught_up
    assert len(dump(builder.home)) == 11


def test_the_process_ends_with_its_input_and_brings_the_rest(make: MakeBuilder) -> None:
    builder = make()
    mirror = ProcessMirror(builder.dir, builder.home)
    mirror.sync()
    finish(builder)
    child = mirror._child
    assert child is not None
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=60) == 0
    assert child.stdout is not None
    child.stdout.close()
    mirror._child = None
    assert "r02t005" in dump(builder.home)


def test_a_study_of_sentences_shows_its_variants_and_adapters(
    tmp_path: Path, database: Path
) -> None:
    (tmp_path / "mlflow").mkdir()
    shutil.copy(database, tmp_path / "mlflow" / "mlflow.db")
    study, builder = build_sentence_study(tmp_path, per_round=3, floor=1, fail_share=0.0)
    for trial in ("r01t000", "r01t001"):
        folder = study.trial(trial).attempt(1).ckpt / "adapter"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        (folder / "README.md").write_text("made by peft")
    assert Mirror(study, builder.home).sync().caught_up
    runs = dump(builder.home)
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} == {
        name for name in runs["r01t000"]["files"] if "/" in name
    }
    assert not [name for name in runs["r01t002"]["files"] if "/" in name]
    names = {point[0] for point in runs["r01t002"]["metrics"]}
    assert {"val_wer", "val_wer_greedy", "val_cer_greedy", "val_wer_no_meg"} <= names
    row = json.loads(runs["r01t002"]["files"]["predictions.jsonl"].splitlines()[0])
    assert set(row["variants"]) == {"greedy", "no_meg"}
    tags = mlflow_ui.experiment_tags(load_state(study))
    columns = json.loads(tags["mlflow.sharedViewState.neurosweep"])["selectedColumns"]
    assert columns[:5] == [
        f"metrics.`{name}`"
        for name in ("val_wer", "val_cer", "val_wer_greedy", "val_wer_no_meg", "seconds")
    ]
