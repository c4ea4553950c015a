"""The connection to MLflow: one place that imports it, bounded in time, silent."""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from neurosweep.core.errors import MissingPackageError, NeurosweepError
from neurosweep.core.layout import Home
from neurosweep.records.mlflow_points import Point
from neurosweep.records.mlflow_view import RunView

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
_PROBE_S = 3.0
_PAGE = 1000
_BATCH = 100
_opened: dict[str, int] = {}
"""Inode of every SQLite file that MLflow holds open in this process, by URI."""
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")


class MirrorError(NeurosweepError):
    """Report that MLflow cannot be written now; the ledger is not touched by that."""


def tracking_uri(home: Home, given: str | None = None) -> str:
    """Return where MLflow is: as given, as MLFLOW_TRACKING_URI says, or the home's SQLite file."""
    named = given or os.environ.get("MLFLOW_TRACKING_URI")
    return named or f"sqlite:///{home.mlflow_dir.absolute() / 'mlflow.db'}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite URI, or None for any other URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def redact(text: str, mark: str = "***@") -> str:
    """Return text with a mark for user names and passwords of the URIs in it."""
    return _SECRET.sub(mark, text)


def opened_before_deletion(uri: str) -> bool:
    """Return whether this process opened a SQLite file that has since been deleted or replaced.

    MLflow caches its connections, so it would go on writing to the file that is gone.
    """
    database = sqlite_path(uri)
    inode = _opened.get(uri)
    if database is None or inode is None:
        return False
    return not database.exists() or database.stat().st_ino != inode


def probe(uri: str) -> None:
    """Check within three seconds that MLflow's store answers.

    Raises
    ------
    MirrorError
        When the database is locked, damaged, or deleted while in use, or nothing listens at the
        server's address.
    """
    if opened_before_deletion(uri):
        msg = f"MLflow's database {redact(uri)} was deleted while in use; a new process rebuilds it"
        raise MirrorError(msg)
    database = sqlite_path(uri)
    try:
        if database is not None:
            _probe_sqlite(database)
        elif uri.startswith(("http://", "https://")):
            parts = urlsplit(uri)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=_PROBE_S).close()
    except (OSError, sqlite3.Error) as error:
        msg = f"MLflow at {redact(uri)} cannot be reached ({error})"
        raise MirrorError(msg) from error


def _probe_sqlite(database: Path) -> None:
    if not database.exists():
        return
    connection = sqlite3.connect(database, timeout=_PROBE_S, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises when its store fails into a `MirrorError`.

    Raises
    ------
    MirrorError
        Naming the store and the cause on one line.
    """
    try:
        import sqlalchemy.exc
        from alembic.util.exc import CommandError
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
    except ImportError as error:
        raise _missing(error) from error
    try:
        yield
    except (
        MlflowException,
        sqlalchemy.exc.SQLAlchemyError,
        CommandError,
        RequestException,
        OSError,
    ) as error:
        first = (str(error).strip().splitlines() or [""])[0][:300]
        msg = f"MLflow at {redact(uri)} failed ({type(error).__name__}: {redact(first)})"
        raise MirrorError(msg) from error


def _missing(error: ImportError) -> MissingPackageError:
    return MissingPackageError(
        f"MLflow cannot be imported ({error}); install it with: pip install mlflow"
    )


class Store:
    """Write one study's experiment.

    Parameters
    ----------
    uri
        Where MLflow is.
    home
        Artifacts of a SQLite store lie under its MLflow folder.
    experiment
        Name of the experiment: the study's id.

    Raises
    ------
    MirrorError
        When the store cannot be reached or refuses.
    MissingPackageError
        When MLflow is not installed.
    """

    def __init__(self, uri: str, home: Home, experiment: str) -> None:
        self.uri = uri
        self._home = home
        os.environ.update({k: v for k, v in _SETTINGS.items() if k not in os.environ})
        probe(uri)
        if sqlite_path(uri) is not None:
            home.mlflow_dir.mkdir(parents=True, exist_ok=True)
            home.mlflow_dir.chmod(0o700)
        with mlflow_errors(uri), quiet():
            from mlflow.tracking import MlflowClient

            self._client: MlflowClient = MlflowClient(tracking_uri=uri)
            self.experiment_id = self._experiment(experiment)
            database = sqlite_path(uri)
            if database is not None:
                _opened[uri] = database.stat().st_ino

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, self._artifact_root(name)))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _artifact_root(self, name: str) -> str | None:
        if sqlite_path(self.uri) is None:
            return None
        return str(self._home.mlflow_dir.absolute() / "artifacts" / name)

    def runs(self) -> dict[str, Any]:
        """Return the mirrored runs by key, deleted ones too, so that none is made again."""
        found: dict[str, Any] = {}
        token: str | None = None
        with mlflow_errors(self.uri):
            while True:
                page = self._client.search_runs(
                    [self.experiment_id], run_view_type=3, max_results=_PAGE, page_token=token
                )
                for run in page:
                    key = run.data.tags.get("ns.key")
                    if key and run.data.tags.get("ns.state") != "superseded":
                        found.setdefault(key, run)
                token = page.token
                if not token:
                    return found

    def create(self, view: RunView, parent_id: str, points: Sequence[Point]) -> tuple[str, str]:
        """Create a run with parameters and points; return its id and its artifacts' place."""
        tags = {**view.tags, "ns.key": view.key}
        if parent_id:
            tags["mlflow.parentRunId"] = parent_id
        with mlflow_errors(self.uri):
            run = self._client.create_run(
                self.experiment_id, start_time=view.start_ms, tags=tags, run_name=view.name
            )
            self.log(run.info.run_id, points, view.params, {})
        return str(run.info.run_id), str(run.info.artifact_uri)

    def log(
        self,
        run_id: str,
        points: Sequence[Point],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Write points, parameters and tags; writing the same again changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(name, value, at, step) for name, value, at, step in points]
        parameters = [Param(name, value) for name, value in params.items()]
        labels = [RunTag(name, value) for name, value in tags.items()]
        with mlflow_errors(self.uri):
            for start in range(0, max(len(parameters), len(labels)), _BATCH):
                cut = slice(start, start + _BATCH)
                first = metrics[:500] if start == 0 else []
                self._client.log_batch(run_id, first, parameters[cut], labels[cut])
                metrics = metrics[500:] if start == 0 else metrics
            for start in range(0, len(metrics), 900):
                self._client.log_batch(run_id, metrics[start : start + 900])

    def finish(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Set the final status of a run."""
        with mlflow_errors(self.uri):
            self._client.set_terminated(run_id, status, end_ms)

    def supersede(self, run_id: str) -> None:
        """Delete the run of an attempt that the infrastructure broke."""
        with mlflow_errors(self.uri):
            self._client.set_tag(run_id, "ns.state", "superseded")
            self._client.delete_run(run_id)

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment."""
        with mlflow_errors(self.uri):
            for name, value in tags.items():
                self._client.set_experiment_tag(self.experiment_id, name, value)

    def write_artifacts(self, run_id: str, place: str, files: Mapping[str, bytes]) -> None:
        """Write artifacts: straight into a local folder, else through the server."""
        if not files:
            return
        folder = local_folder(place)
        with mlflow_errors(self.uri):
            if folder is not None:
                _write_all(folder, files)
                return
            with tempfile.TemporaryDirectory() as temporary:
                _write_all(Path(temporary), files)
                self._client.log_artifacts(run_id, temporary)


def local_folder(place: str) -> Path | None:
    """Return the folder of an artifact URI of this machine, or None."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(place) if not parts.scheme else None


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's and Alembic's progress messages off the screen."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
