from __future__ import annotations

import socket
import sqlite3
import time
from pathlib import Path

import pytest
from _study_builder import StepClock, StudyBuilder

from neurosweep.core.layout import Home
from neurosweep.records import mlflow_client, mlflow_ui
from neurosweep.records.fold import fold
from neurosweep.records.ledger import read_ledger
from neurosweep.records.mirror import Mirror


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_the_default_store_is_a_sqlite_file_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path)
    assert mlflow_client.tracking_uri(home) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    assert mlflow_client.tracking_uri(home) == "http://127.0.0.1:5001"
    assert mlflow_client.tracking_uri(home, "http://other") == "http://other"


def test_passwords_never_reach_a_message() -> None:
    assert mlflow_client.redact("at https://bob:pw@host/x") == "at https://***@host/x"
    with pytest.raises(mlflow_client.MirrorError) as caught:
        mlflow_client.probe(f"http://bob:hunter2@127.0.0.1:{free_port()}")
    assert "hunter2" not in str(caught.value)


def test_an_unreachable_server_costs_little_and_is_left_alone_for_a_while(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=2, floor=1, rounds=1)
    builder.create()
    builder.run_round(0)
    clock = StepClock()
    mirror = Mirror(builder.dir, builder.home, f"http://127.0.0.1:{free_port()}", clock)
    started = time.monotonic()
    report = mirror.sync()
    assert time.monotonic() - started < 3.0
    assert not report.caught_up
    assert report.pending == 2
    assert "cannot be reached" in report.error
    builder.run_round(1)
    assert mirror.sync() is report
    clock.sleep(2.5)
    assert mirror.sync().pending == 5


def test_a_locked_database_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_client, "_PROBE_S", 0.05)
    database = tmp_path / "mlflow.db"
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(mlflow_client.MirrorError, match="locked"):
            mlflow_client.probe(f"sqlite:///{database}")
    finally:
        holder.close()


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"not a database" * 100)
    with pytest.raises(mlflow_client.MirrorError, match="not a database"):
        mlflow_client.probe(f"sqlite:///{database}")


def test_a_study_without_events_needs_no_mlflow(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert Mirror(home.study("s-20260101-0000"), home, "http://127.0.0.1:9").sync().caught_up


def test_the_ui_listens_on_this_machine_only(tmp_path: Path) -> None:
    command = mlflow_ui.command(Home(tmp_path), 5050, "sqlite:////x.db")
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5050"
    assert command[command.index("--backend-store-uri") + 1] == "sqlite:////x.db"
    assert mlflow_ui.environment()["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_links_open_the_table_and_the_best_ten(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=14, floor=1, rounds=1)
    builder.create()
    builder.run_round(0)
    builder.run_round(1)
    state = fold(read_ledger(builder.dir.ledger))
    assert mlflow_ui.mlflow_links(builder.dir) == {}
    ids = {trial: f"id-{trial}" for trial in state.trials}
    mlflow_ui.write_links(builder.dir, state, "sqlite:///x", "7", ids)
    links = mlflow_ui.mlflow_links(builder.dir, 5055)
    assert (
        links["runs"] == "http://127.0.0.1:5055/#/experiments/7/runs?viewStateShareKey=neurosweep"
    )
    assert links["compare"].count("id-r01t") == 10
    best = min((t for t in state.trials.values() if t.metrics), key=lambda t: t.metrics["val_cer"])
    if best.plan.round:
        assert f"%22id-{best.plan.trial}%22" in links["compare"]
    mlflow_ui.write_links(builder.dir, state, "https://u:p@ml.example", "7", ids)
    assert mlflow_ui.mlflow_links(builder.dir)["runs"].startswith("https://ml.example/#/")
    view = mlflow_ui.experiment_tags(state)["mlflow.sharedViewState.neurosweep"]
    assert "metrics.`val_cer`" in view
    assert "params.`training.learning_rate`" in view
