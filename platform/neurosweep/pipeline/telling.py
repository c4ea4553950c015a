"""What people are told of a pipeline: lines while it runs, tables of what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.files import read_json
from neurosweep.core.layout import PipelineDir
from neurosweep.pipeline.evaluate import COMPLETE, describe
from neurosweep.pipeline.running import age_text, doing_of, doing_text
from neurosweep.pipeline.state import PipelineState
from neurosweep.records.cost import hours_text
from neurosweep.records.trial import POLICY, Kind
from neurosweep.research.lock import live_driver

_MAX_TEXT = 200
_EVERY_S = 60.0
RESUMABLE = "resumable"


class Teller:
    """Turn ledger lines into lines for people, and say once a minute what runs.

    Parameters
    ----------
    say
        Writes a line.
    pipeline
        Its folder.
    clock
        Source of time.
    """

    def __init__(
        self, say: Callable[[str], None], pipeline: PipelineDir, clock: Clock | None = None
    ) -> None:
        self._say, self._pipeline = say, pipeline
        self._clock = clock or SystemClock()
        self._said_at = self._clock.monotonic()
        self._intended: dict[str, Sequence[Any]] = {}

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Tell of one event, if a person cares."""
        data, name = event["data"], event["event"]
        if name == "task_found":
            self._say(f"{data['task']}: already there ({data['fp'][:8]})")
        elif name == "task_blocked":
            self._say(f"{data['task']}: not run, {data['reason']}")
        elif name == "submit_intended":
            self._intended[data["token"]] = data["tasks"]
        elif name == "submitted" and (pairs := self._intended.pop(data["token"], None)):
            # Its executor has taken it; the intent before it says little.
            tasks = [task if k == 1 else f"{task} (attempt {k})" for task, k in pairs]
            shown = tasks if len(tasks) <= 4 else [tasks[0], "...", tasks[-1]]
            self._say(f"submitted: {', '.join(shown)}")
        elif name == "cancel_asked":
            self._say(f"cancelled ({_short(data['reason'])}): what runs is ended")
        elif name == "attempt_ended":
            self._say(f"{data['task']}: {_ended(data)}")

    def on_tick(self, state: PipelineState) -> None:
        """Say what runs and what waits, once a minute."""
        now = self._clock.monotonic()
        if now - self._said_at < _EVERY_S:
            return
        self._said_at, wall = now, self._clock.now()
        found = [doing_of(self._pipeline, state, task, wall) for task in state.open_tasks()]
        if text := doing_text([one for one in found if one is not None]):
            self._say(text)


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
        if row.get("needs") and not row["element"]:
            label = f"{row['stage']} (given {', '.join(row['needs'])})"
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
    why = f" ({_short(result['reason'])})" if result.get("reason") else ""
    return [*lines, f"pipeline {result['pipeline']}: {result['state']}{why}, {cost_text(result)}"]


def cost_text(cost: Mapping[str, Any]) -> str:
    """Return the hours of a result or a status."""
    hours = f"{hours_text(cost['core_hours'])} core-hours"
    return hours + (f", {hours_text(cost['gpu_hours'])} GPU-hours" if cost["gpu_hours"] else "")


def status_of(
    pipeline: PipelineDir, state: PipelineState, now: float | None = None
) -> dict[str, Any]:
    """Return where a pipeline stands, as JSON data.

    Parameters
    ----------
    pipeline
        Its folder.
    state
        What its ledger says.
    now
        Seconds since 1970; default: the time that it is.
    """
    now = SystemClock().now() if now is None else now
    closed = state.closed
    if closed is not None:
        stands = str(closed["state"])
    else:
        runs = pipeline.lock.exists() and live_driver(pipeline.lock)
        stands = "running" if runs else RESUMABLE
    tasks, result = [], pipeline.result_json
    for task in state.tasks.values():
        why = describe(pipeline, task)
        last = task.attempts[-1] if task.attempts else None
        doing = doing_of(pipeline, state, task, now)
        tasks.append(
            {
                "task": task.task,
                "phase": task.phase.value,
                "stands": task.phase.value if doing is None else doing.stands,
                "seconds": None if doing is None else round(doing.seconds, 1),
                "said": "" if doing is None else doing.said,
                "fp": task.fp,
                "attempts": len(task.attempts),
                "job": "" if last is None else last.job,
                "kind": why["kind"],
                "reason": why["reason"] if task.phase.settled else "",
                "core_hours": round(task.core_hours(now), 6),
                "gpu_hours": round(task.gpu_hours(now), 6),
            }
        )
    return {
        "v": 1,
        "pipeline": pipeline.pipeline_id,
        "state": stands,
        "reason": "" if closed is None else str(closed.get("reason", "")),
        "folder": str(pipeline.root),
        "num_tasks": len(tasks),
        "there": sum(task.phase.there for task in state.tasks.values()),
        "tasks": tasks,
        "core_hours": round(sum(task["core_hours"] for task in tasks), 6),
        "gpu_hours": round(sum(task["gpu_hours"] for task in tasks), 6),
        "result": str(result) if result.exists() else None,
        "rows": read_json(result)["rows"] if closed is not None and result.exists() else [],
    }


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """Return what stands above the table of the tasks."""
    why = f" ({_short(status['reason'])})" if status["reason"] else ""
    there = f"{status['there']} of {status['num_tasks']} tasks are there"
    return [
        f"pipeline {status['pipeline']}: {status['state']}{why}, {there}, {cost_text(status)}",
        f"folder: {status['folder']}",
    ]


def next_lines(status: Mapping[str, Any], flag: str) -> list[str]:
    """Return where the result lies, or the commands that go on.

    Parameters
    ----------
    status
        As `status_of` returns it.
    flag
        What names the home in a command.
    """
    which = f"{status['pipeline']}{flag}"
    lines = []
    if status["rows"]:
        lines.append(f"result: {status['result']}")
    if status["state"] not in ("running", COMPLETE):
        lines.append(f"neurosweep pipeline resume {which}  # go on; what failed is tried again")
    if status["state"] in ("running", RESUMABLE):
        lines.append(f"neurosweep pipeline cancel {which}  # end what runs, and close it")
    return lines


def status_table(status: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the tasks."""
    rows = []
    for task in status["tasks"]:
        note = _short(f"{task['kind']} {task['reason']}".strip())
        if task["seconds"] is not None:
            job = f"job {task['job']}" if task["job"] else ""
            words = (f"for {age_text(task['seconds'])}", task["said"], job)
            note = ", ".join(word for word in words if word)
        rows.append([task["task"], task["stands"], str(task["attempts"]), task["fp"][:8], note])
    return ["task", "state", "attempts", "artifact", ""], rows


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 3]}..."
