"""Reading MLflow's SQLite file without MLflow, and without its ids."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from neurosweep.core.layout import Home


def dump(home: Home) -> dict[str, Any]:
    """Return every live run by its key, with ids of runs replaced by keys."""
    connection = sqlite3.connect(f"file:{home.mlflow_dir}/mlflow.db?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT run_uuid, name, status, start_time, end_time, artifact_uri FROM runs "
            "WHERE lifecycle_stage = 'active'"
        ).fetchall()
        tags = _pairs(connection, "tags")
        params = _pairs(connection, "params")
        metrics: dict[str, list[Any]] = {}
        query = "SELECT run_uuid, key, value, timestamp, step FROM metrics"
        for run_id, *point in connection.execute(query):
            metrics.setdefault(run_id, []).append(tuple(point))
    finally:
        connection.close()
    keys = {row[0]: tags[row[0]]["ns.key"] for row in rows}
    assert len(set(keys.values())) == len(keys), "a run was made twice"
    found: dict[str, Any] = {}
    for run_id, name, status, start, end, place in rows:
        mine = {k: keys.get(v, v) for k, v in tags[run_id].items()}
        found[keys[run_id]] = {
            "name": name,
            "status": status,
            "times": (start, end),
            "tags": dict(sorted(mine.items())),
            "params": dict(sorted(params.get(run_id, {}).items())),
            "metrics": sorted(metrics.get(run_id, [])),
            "files": files_under(Path(place)),
        }
    return dict(sorted(found.items()))


def files_under(folder: Path) -> dict[str, bytes]:
    """Return name and content of the files of a folder."""
    if not folder.is_dir():
        return {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _pairs(connection: sqlite3.Connection, table: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for run_id, key, value in connection.execute(f"SELECT run_uuid, key, value FROM {table}"):
        found.setdefault(run_id, {})[key] = value
    return found
