"""The result of a pipeline in MLflow: an experiment, and a run for each row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosweep.core.clock import parse_iso
from neurosweep.core.config import flatten
from neurosweep.core.files import canonical_json
from neurosweep.core.layout import Home, PipelineDir
from neurosweep.pipeline.state import PipelineState
from neurosweep.records.ledger import read_ledger

_MAX_PARAM = 500


def mirror_result(pipeline: PipelineDir, result: Mapping[str, Any], uri: str | None = None) -> None:
    """Write the rows of a result; writing them again changes nothing.

    Parameters
    ----------
    pipeline
        Its folder.
    result
        What ``result.json`` holds.
    uri
        Where MLflow is; by default as the environment or the home says.

    Raises
    ------
    MirrorError
        When MLflow cannot be reached.
    MissingPackageError
        When it is not installed.
    """
    from neurosweep.pipeline.state import fold
    from neurosweep.records.mlflow_client import Store, tracking_uri

    home = Home(pipeline.root.parent.parent)
    events = read_ledger(pipeline.ledger)
    state = fold(events)
    store = Store(tracking_uri(home, uri), home, pipeline.pipeline_id)
    store.tag_experiment({"ns.type": "pipeline", "ns.recipe": str(state.created["spec"]["recipe"])})
    start = round(parse_iso(events[0]["t"]) * 1000)
    end = round(parse_iso(events[-1]["t"]) * 1000)
    known = store.runs()
    for row in result["rows"]:
        view = _view(pipeline, state, row, start)
        points = [(name, float(value), end, 0) for name, value in sorted(row["metrics"].items())]
        if view.key in known:
            run_id = str(known[view.key].info.run_id)
            store.log(run_id, points, {}, view.tags)
        else:
            run_id, _ = store.create(view, "", points)
        store.finish(run_id, "FINISHED", end)


def _view(pipeline: PipelineDir, state: PipelineState, row: Mapping[str, Any], start: int) -> Any:
    from neurosweep.records.mlflow_view import RunView

    config = state.created["stages"][row["stage"]]["config"]
    # What a run was made of decides its key: scored again from the same, it is the same run.
    made_of = "+".join(fp[:12] for fp in row["fps"])
    tags = {
        "ns.type": "stage",
        "ns.pipeline": pipeline.pipeline_id,
        "ns.stage": str(row["stage"]),
        "ns.element": str(row["element"]),
        "ns.fingerprint": made_of,
        "ns.commit": str(state.created["commit"]),
        "ns.recipe": str(state.created["spec"]["recipe"]),
    }
    return RunView(
        key=f"{row['row']}/{made_of}"[:_MAX_PARAM],
        name=str(row["row"]),
        parent="",
        status="FINISHED",
        start_ms=start,
        end_ms=None,
        tags=tags,
        params={path: _text(value) for path, value in flatten(config).items()},
    )


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text[:_MAX_PARAM]
