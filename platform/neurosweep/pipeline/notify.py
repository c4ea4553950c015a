"""Tell a person: run the user's command at the end of a pipeline and on trouble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosweep.core.layout import PipelineDir, StudyDir
from neurosweep.pipeline.journal import read_state
from neurosweep.pipeline.state import TaskPhase
from neurosweep.records.trial import POLICY, Kind
from neurosweep.research.notify import Notifier, Run


class PipelineNotifier(Notifier):
    """Tell each end of a pipeline, and each task that failed for good, once a run.

    Parameters
    ----------
    command
        Command of the user's shell; None tells nobody.
    pipeline
        Folder of the pipeline.
    run
        Starts the command with its environment; default: beside this process.
    """

    def __init__(
        self, command: str | None, pipeline: PipelineDir, *, run: Run | None = None
    ) -> None:
        self._pipeline = pipeline
        super().__init__(command, StudyDir(pipeline.root), str(pipeline.result_json), run=run)

    def on_event(self, line: Mapping[str, Any]) -> None:
        """Tell what a new line of the ledger means to a person; most lines mean nothing."""
        if self._command is None:
            return
        event, data = line["event"], line["data"]
        if event == "pipeline_closed":
            state = read_state(self._pipeline)
            there = sum(task.phase.there for task in state.tasks.values())
            why = f" ({data['reason']})" if data.get("reason") else ""
            text = f"{data['state']}{why}: {there} of {len(state.tasks)} tasks are there"
            self._tell("pipeline_closed", f"pipeline_closed {state.num_runs}", text)
        elif event == "attempt_ended" and data["kind"] not in (Kind.NONE, Kind.CANCELLED_USER):
            self._task_failed(str(data["task"]))

    def _task_failed(self, name: str) -> None:
        state = read_state(self._pipeline)
        task = state.tasks[name]
        if task.phase is TaskPhase.FAILED:
            last = task.attempts[-1]
            text = f"{name} failed: {last.kind.value} ({POLICY[last.kind].meaning})"
            said = str(last.error.get("text", "")).strip()
            text += f": {said}" if said else ""
            self._tell("trouble", f"trouble task {name} {state.num_runs}", text)
