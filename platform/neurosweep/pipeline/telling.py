"""What people are told of a pipeline: lines while it runs, tables of what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neurosweep.core.layout import PipelineDir
from neurosweep.pipeline.evaluate import describe
from neurosweep.pipeline.state import PipelineState, TaskPhase
from neurosweep.records.trial import POLICY, Kind
from neurosweep.research.lock import live_driver

_MAX_TEXT = 200


class Teller:
    """Turn ledger lines into lines for people.

    Parameters
    ----------
    say
        Writes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Tell of one event, if a person cares."""
        data, name = event["data"], event["event"]
        if name == "task_found":
            self._say(f"{data['task']}: already there ({data['fp'][:8]})")
        elif name == "task_blocked":
            self._say(f"{data['task']}: not run, {data['reason']}")
        elif name == "submit_intended":
            tasks = [task if k == 1 else f"{task} (attempt {k})" for task, k in data["tasks"]]
            shown = tasks if len(tasks) <= 4 else [tasks[0], "...", tasks[-1]]
            self._say(f"submitted: {', '.join(shown)}")
        elif name == "attempt_ended":
            self._say(f"{data['task']}: {_ended(data)}")


def _ended(data: Mapping[str, Any]) -> str:
    kind = Kind(data["kind"])
    if kind is Kind.NONE:
        return f"made in {data['seconds']:.0f} s"
    text = str((data.get("error") or {}).get("text") or POLICY[kind].meaning)
    again = "; tried again, if it may" if POLICY[kind].refill else ""
    return f"failed ({kind.value}): {_short(text)}{again}"


def result_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the scores, with a row for each variant."""
    header = ["stage", "WER", "CER", "subjects", "items"]
    rows = []
    for row in result["rows"]:
        counts = [str(row["subjects"]), str(row["items"])]
        label = row["row"]
        if len(row["tasks"]) > 1:
            label = f"{row['stage']} (mean of {len(row['tasks'])}, each its own)"
        metrics = row["metrics"]
        rows.append([label, *_rates(metrics, "", row["sem"]), *counts])
        variants = [
            name.removeprefix("val_wer_") for name in metrics if name.startswith("val_wer_")
        ]
        shown = variants if not row["element"] else []
        rows += [[f"  {one}", *_rates(metrics, f"_{one}", {}), *counts] for one in shown]
    return header, rows


def _rates(metrics: Mapping[str, float], suffix: str, sem: Mapping[str, float | None]) -> list[str]:
    found = []
    for metric in ("val_wer", "val_cer"):
        value = metrics.get(f"{metric}{suffix}")
        error = sem.get(metric)
        text = "-" if value is None else f"{value:.3f}"
        found.append(text if error is None or value is None else f"{text} +- {error:.3f}")
    return found


def result_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what else is to be said of a result."""
    lines = []
    for one in result["missing"]:
        what = one["kind"] or one["phase"]
        lines.append(f"missing: {one['task']} ({what}): {_short(one['reason'])}")
        lines += [f"  {text}" for text in (one.get("advice"), one.get("log")) if text]
    lines += [f"lacking: {text}" for text in result["lacking"]]
    hours = f"{result['core_hours']:.3g} core-hours"
    if result["gpu_hours"]:
        hours += f", {result['gpu_hours']:.3g} GPU-hours"
    return [*lines, f"pipeline {result['pipeline']}: {result['state']}, {hours}"]


def status_of(pipeline: PipelineDir, state: PipelineState) -> dict[str, Any]:
    """Return where a pipeline stands, as JSON data."""
    if state.closed is not None:
        stands = str(state.closed["state"])
    else:
        stands = "running" if pipeline.lock.exists() and live_driver(pipeline.lock) else "open"
    tasks = []
    for task in state.tasks.values():
        why = describe(pipeline, task)
        last = task.attempts[-1] if task.attempts else None
        tasks.append(
            {
                "task": task.task,
                "phase": task.phase.value,
                "fp": task.fp,
                "attempts": len(task.attempts),
                "job": "" if last is None else last.job,
                "kind": why["kind"],
                "reason": why["reason"] if task.phase.settled else "",
                "core_hours": round(task.core_hours, 6),
                "gpu_hours": round(task.gpu_hours, 6),
            }
        )
    return {
        "v": 1,
        "pipeline": pipeline.pipeline_id,
        "state": stands,
        "num_tasks": len(tasks),
        "there": sum(task.phase.there for task in state.tasks.values()),
        "tasks": tasks,
        "result": str(pipeline.result_json) if pipeline.result_json.exists() else None,
    }


def status_table(status: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the tasks."""
    rows = []
    for task in status["tasks"]:
        job = task["job"] if task["phase"] == TaskPhase.OPEN.value else ""
        note = _short(f"{task['kind']} {task['reason']}".strip()) or job
        rows.append([task["task"], task["phase"], str(task["attempts"]), task["fp"][:8], note])
    return ["task", "state", "attempts", "artifact", ""], rows


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 3]}..."
