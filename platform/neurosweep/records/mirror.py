"""The MLflow mirror: what the ledger says, brought to MLflow; never the other way."""

from __future__ import annotations

import contextlib
import fcntl
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from neurosweep.core.clock import Clock, SystemClock, parse_iso
from neurosweep.core.errors import MissingPackageError
from neurosweep.core.files import atomic_write_text, sha256_bytes
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.fold import apply, fold
from neurosweep.records.ledger import read_ledger
from neurosweep.records.mlflow_client import (
    MirrorError,
    Store,
    opened_before_deletion,
    probe,
    tracking_uri,
)
from neurosweep.records.mlflow_files import (
    curve_points,
    failure_tags,
    file_artifact,
    file_stamp,
    report_files,
    round_figure_files,
    trial_artifacts,
)
from neurosweep.records.mlflow_points import Point
from neurosweep.records.mlflow_ui import experiment_tags, write_links
from neurosweep.records.mlflow_view import (
    STUDY_KEY,
    RunView,
    round_key,
    round_view,
    study_view,
    trial_view,
)
from neurosweep.records.state import Phase, RoundState, StudyState, TrialState

_BACKOFF_S = (2.0, 5.0, 15.0, 60.0)
_LIVE_AFTER_S = 20.0


@dataclass(frozen=True)
class MirrorReport:
    """Say how far MLflow has been brought.

    Attributes
    ----------
    caught_up
        Whether MLflow shows everything that the ledger says.
    pending
        Number of runs that are not yet shown as the ledger has them.
    error
        Why MLflow could not be written, or empty.
    """

    caught_up: bool
    pending: int = 0
    error: str = ""


@dataclass
class _Shown:
    """Remember what MLflow shows of one run."""

    run_id: str
    place: str
    final: bool
    attempt: int = 0
    files_sha: str = ""
    stamps: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    num_points: int = 0


class Mirror:
    """Bring one study's ledger and run folders to MLflow, again and again.

    The experiment is the study, a parent run is a round, a child run is a trial; one more run
    stands for the study itself and carries its report. Everything is computed from the ledger
    and the run folders, so MLflow can be deleted and made again. Runs are found again by their
    tag ``ns.key``; a run is written completely before its status is set, so a run with a final
    status is never touched again.

    Parameters
    ----------
    study_dir
        Folder of the study.
    home
        Home that holds the references and, by default, MLflow's database.
    uri
        Tracking URI; default: MLFLOW_TRACKING_URI, else a SQLite file of the home.
    clock
        Source of time for waiting after failures.
    """

    def __init__(
        self,
        study_dir: StudyDir,
        home: Home,
        uri: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._study = study_dir
        self._home = home
        self._uri = tracking_uri(home, uri)
        self._clock = clock or SystemClock()
        self._id = secrets.token_hex(8)
        self._store: Store | None = None
        self._shown: dict[str, _Shown] = {}
        self._state = StudyState()
        self._size = -1
        self._failures = 0
        self._next_try = float("-inf")
        self._report = MirrorReport(caught_up=False)

    def sync(self, force: bool = False) -> MirrorReport:
        """Bring MLflow up to date; never raise because of MLflow.

        After a failure nothing is tried for 2, 5, 15 and then 60 seconds, unless forced.

        Parameters
        ----------
        force
            Whether to try at once even after a failure.

        Raises
        ------
        LedgerError
            When the ledger is damaged.
        """
        if not force and self._clock.monotonic() < self._next_try:
            return self._report
        self._read_ledger()
        if not self._state.study:
            return MirrorReport(caught_up=True)
        try:
            with self._one_writer():
                self._bring()
        except (MirrorError, MissingPackageError) as error:
            self._store = None
            self._next_try = self._clock.monotonic() + _BACKOFF_S[min(self._failures, 3)]
            self._failures += 1
            self._report = MirrorReport(False, self._num_pending(), str(error))
            return self._report
        self._failures, self._next_try = 0, float("-inf")
        pending = self._num_pending()
        self._report = MirrorReport(caught_up=pending == 0, pending=pending)
        return self._report

    @property
    def stale(self) -> bool:
        """Whether this process holds a database open that was deleted; only a new one can go on."""
        return opened_before_deletion(self._uri)

    def close(self, timeout_s: float = 60.0) -> MirrorReport:
        """Try once more to catch up and return where MLflow stands."""
        del timeout_s
        return self.sync(force=True)

    def _read_ledger(self) -> None:
        size = self._study.ledger.stat().st_size if self._study.ledger.exists() else 0
        if size == self._size or size == 0:
            return
        events = read_ledger(self._study.ledger)
        if self._state.num_events and len(events) >= self._state.num_events:
            for event in events[self._state.num_events :]:
                apply(self._state, event)
        else:
            self._state = fold(events)
        self._size = size

    @contextlib.contextmanager
    def _one_writer(self) -> Iterator[None]:
        try:
            self._home.mlflow_dir.mkdir(parents=True, exist_ok=True)
            lock = (self._home.mlflow_dir / "mirror.lock").open("a", encoding="utf-8")
        except OSError as error:
            msg = f"MLflow's folder cannot be written ({error})"
            raise MirrorError(msg) from error
        with lock:
            self._wait_for(lock)
            if not self._was_last_writer():
                self._store = None
            yield

    def _wait_for(self, lock: IO[str]) -> None:
        deadline = self._clock.monotonic() + 3.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if self._clock.monotonic() >= deadline:
                    msg = "another mirror is writing to MLflow; it will be tried again"
                    raise MirrorError(msg) from error
                self._clock.sleep(0.05)
            else:
                return

    def _was_last_writer(self) -> bool:
        """Note this mirror as the study's last writer; return whether it already was."""
        note = self._home.mlflow_dir / f"writer-{self._study.study_id}"
        try:
            if note.exists() and note.read_text(encoding="utf-8") == self._id:
                return True
            atomic_write_text(note, self._id)
        except OSError as error:
            msg = f"MLflow's folder cannot be written ({error})"
            raise MirrorError(msg) from error
        return False

    def _bring(self) -> None:
        store = self._connect()
        self._bring_run(store, study_view(self._state))
        for round_state in sorted(self._state.rounds.values(), key=lambda r: r.number):
            if round_state.planned_t:
                self._bring_round(store, round_state)
        self._bring_files(store, STUDY_KEY, report_files(self._study))
        write_links(self._study, self._state, self._uri, store.experiment_id, self._run_ids())

    def _connect(self) -> Store:
        if self._store is not None:
            probe(self._uri)
            return self._store
        store = Store(self._uri, self._home, self._study.study_id)
        self._shown = {
            key: _Shown(
                run.info.run_id,
                run.info.artifact_uri,
                final=run.info.status != "RUNNING" or run.info.lifecycle_stage == "deleted",
                attempt=int(run.data.tags.get("ns.attempt", 0)),
                files_sha=run.data.tags.get("ns.files_sha", ""),
            )
            for key, run in store.runs().items()
        }
        store.tag_experiment(experiment_tags(self._state))
        self._store = store
        return store

    def _bring_round(self, store: Store, round_state: RoundState) -> None:
        key = round_key(round_state.number)
        if key not in self._shown:
            store.tag_experiment(experiment_tags(self._state))
            self._create(store, round_view(self._state, round_state), "", ())
        for trial_id in round_state.trials:
            known = self._shown.get(trial_id)
            if known is None or not known.final:
                self._bring_trial(store, trial_id, key)
        if round_state.closed:
            if not self._shown[key].final:
                store.tag_experiment(experiment_tags(self._state))
            self._bring_run(store, round_view(self._state, round_state))
            self._bring_files(store, key, round_figure_files(self._study, round_state.number))

    def _bring_trial(self, store: Store, trial_id: str, parent: str) -> None:
        trial = self._state.trials[trial_id]
        final = trial.phase.final and bool(trial.attempts)
        if not final and not self._is_live(trial):
            return
        view = trial_view(self._state, trial, parent)
        if trial.phase is Phase.FAILED:
            view = replace(view, tags={**view.tags, **failure_tags(self._study, trial)})
        shown = self._shown.get(trial_id)
        if shown is not None and shown.attempt != view.attempt:
            store.supersede(shown.run_id)
            shown = None
        attempt = self._study.trial(trial_id).attempt(view.attempt)
        points = [*view.metrics, *curve_points(attempt.metrics, view.start_ms, final)]
        if shown is None:
            shown = self._create(store, view, self._shown[parent].run_id, points)
        elif final:
            store.log(shown.run_id, points, {}, view.tags)
        else:
            store.log(shown.run_id, points[shown.num_points :], {}, {})
            shown.num_points = len(points)
        if final:
            files = trial_artifacts(self._study, self._home, self._state, trial)
            store.write_artifacts(shown.run_id, shown.place, files)
            store.finish(shown.run_id, view.status, view.end_ms)
            shown.final = True

    def _is_live(self, trial: TrialState) -> bool:
        attempt = trial.open_attempt
        if attempt is None or not attempt.started_t:
            return False
        return self._clock.now() - parse_iso(attempt.started_t) > _LIVE_AFTER_S

    def _bring_run(self, store: Store, view: RunView) -> None:
        shown = self._shown.get(view.key)
        if shown is None:
            shown = self._create(store, view, "", view.metrics)
        if shown.final:
            return
        final = view.status != "RUNNING"
        if final or len(view.metrics) > shown.num_points:
            new = view.metrics[shown.num_points :]
            store.log(shown.run_id, new, {}, view.tags if final else {})
            shown.num_points = len(view.metrics)
        if final:
            store.finish(shown.run_id, view.status, view.end_ms)
            shown.final = True

    def _create(
        self, store: Store, view: RunView, parent_id: str, points: Sequence[Point]
    ) -> _Shown:
        run_id, place = store.create(view, parent_id, points)
        shown = _Shown(run_id, place, False, view.attempt, num_points=len(points))
        self._shown[view.key] = shown
        return shown

    def _bring_files(self, store: Store, key: str, paths: Mapping[str, Path]) -> None:
        shown = self._shown[key]
        stamps = {name: stamp for name, p in paths.items() if (stamp := file_stamp(p))}
        if not stamps or stamps == shown.stamps:
            return
        contents = {name: file_artifact(paths[name]) for name in stamps}
        files = {name: content for name, content in contents.items() if content is not None}
        sha = sha256_bytes("".join(sha256_bytes(c) for _, c in sorted(files.items())).encode())
        if shown.files_sha != sha:
            store.write_artifacts(shown.run_id, shown.place, files)
            store.log(shown.run_id, (), {}, {"ns.files_sha": sha})
        shown.files_sha, shown.stamps = sha, stamps

    def _run_ids(self) -> dict[str, str]:
        return {key: shown.run_id for key, shown in self._shown.items()}

    def _num_pending(self) -> int:
        wanted: dict[str, Any] = {
            trial_id: trial.phase.final for trial_id, trial in self._state.trials.items()
        }
        for round_state in self._state.rounds.values():
            if round_state.planned_t:
                wanted[round_key(round_state.number)] = round_state.closed
        wanted[STUDY_KEY] = self._state.closed is not None
        return sum(
            final and not (key in self._shown and self._shown[key].final)
            for key, final in wanted.items()
        )
