"""MLflow's user interface: how to start it, and links into it that show a study well."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_text, canonical_json, read_json
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.mlflow_client import redact, tracking_uri
from neurosweep.records.mlflow_names import clean_text
from neurosweep.records.state import StudyState
from neurosweep.records.trial import Purpose

DEFAULT_PORT = 5000
_VIEW = "neurosweep"
_NUM_COMPARED = 10


def command(home: Home, port: int = DEFAULT_PORT, uri: str | None = None) -> list[str]:
    """Return the command that serves MLflow's pages on this machine only.

    Run it with the variables of `environment` added to the process's own.

    Parameters
    ----------
    home
        Home whose database is shown.
    port
        TCP port on 127.0.0.1.
    uri
        Another store than the home's.
    """
    artifacts = home.mlflow_dir.absolute() / "artifacts"
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", tracking_uri(home, uri)),
        *("--artifacts-destination", str(artifacts)),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--workers", "1"),
    ]


def environment() -> dict[str, str]:
    """Return the variables that keep MLflow's server small and off the network."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def mlflow_links(study_dir: StudyDir, port: int = DEFAULT_PORT) -> dict[str, str]:
    """Return links into MLflow: ``runs``, the table of trials, and ``compare``, the best ten.

    The table opens with the objective, the searched parameters and the state as columns, best
    trial first. Both are empty until the study has been mirrored once. For a tracking server
    the links lead there, otherwise to the page that `command` serves.
    """
    try:
        data = read_json(study_dir.mirror_json)
    except DataError:
        return {}
    if not isinstance(data, dict) or "experiment_id" not in data:
        return {}
    uri = str(data.get("uri", ""))
    base = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{port}"
    experiment = str(data["experiment_id"])
    links = {"runs": f"{base}/#/experiments/{quote(experiment)}/runs?viewStateShareKey={_VIEW}"}
    best = [str(run_id) for run_id in data.get("best", [])]
    if len(best) > 1:
        runs = quote(json.dumps(best, separators=(",", ":")))
        links["compare"] = f"{base}/#/compare-runs?runs={runs}&experiments=" + quote(
            json.dumps([experiment], separators=(",", ":"))
        )
    return links


def write_links(
    study_dir: StudyDir,
    state: StudyState,
    uri: str,
    experiment_id: str,
    run_ids: Mapping[str, str],
) -> None:
    """Remember in the study's folder where MLflow shows it."""
    scored = [t for t in state.of(Purpose.SEARCH) if state.value(t) is not None]
    sign = 1.0 if state.minimize else -1.0
    scored.sort(key=lambda trial: (sign * (state.value(trial) or 0.0), trial.plan.trial))
    best = [run_ids[t.plan.trial] for t in scored[:_NUM_COMPARED] if t.plan.trial in run_ids]
    data = {"v": 1, "uri": redact(uri, ""), "experiment_id": experiment_id, "best": best}
    text = json.dumps(data, indent=1) + "\n"
    path = study_dir.mirror_json
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic_write_text(path, text)


def experiment_tags(state: StudyState) -> dict[str, str]:
    """Return the experiment's tags: what it is, and the stored view that `mlflow_links` opens."""
    spec = state.spec
    agent = str(spec.get("agent", {}).get("name", ""))
    note = (
        f"**{clean_text(str(spec.get('name', state.study)))}**: recipe "
        f"`{clean_text(str(spec.get('recipe', '')))}`, agent `{clean_text(agent)}`. "
        f"Objective `{state.metric}` ({'lower' if state.minimize else 'higher'} is better). "
        "This is a copy of the study's ledger; the run named *study* holds the report."
    )
    return {
        "ns.study": state.study,
        "mlflow.note.content": note,
        f"mlflow.sharedViewState.{_VIEW}": canonical_json(_view_state(state)),
    }


def _shown_metrics(state: StudyState) -> list[str]:
    """Return the rates that trials have, those of their variants last."""
    known = {name for trial in state.trials.values() for name in trial.metrics}
    # An item that is one symbol is right or wrong: its word and character error rates are equal.
    rates = ["val_cer", "val_acc"] if "val_acc" in known or not known else ["val_wer", "val_cer"]
    return [*rates, *sorted(name for name in known if name.startswith("val_wer_"))]


def _view_state(state: StudyState) -> dict[str, Any]:
    searched = dict.fromkeys(
        path for trial in state.of(Purpose.SEARCH) for path in trial.plan.overrides
    )
    metrics = dict.fromkeys([state.metric, *_shown_metrics(state), "seconds"])
    return {
        "searchFilter": "tags.`ns.type` = 'trial'",
        "orderByKey": f"metrics.`{state.metric}`",
        "orderByAsc": state.minimize,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": [
            *(f"metrics.`{name}`" for name in metrics),
            *(f"params.`{path}`" for path in searched),
            *(f"tags.`{name}`" for name in ("ns.round", "ns.state", "ns.kind", "ns.idea")),
        ],
    }
