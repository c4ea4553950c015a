"""The result of a pipeline: what its stages predicted, scored by the driver alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neurosweep.core.errors import PredictionsError
from neurosweep.core.files import atomic_write_json
from neurosweep.core.layout import PipelineDir
from neurosweep.pipeline.artifacts import Shelf
from neurosweep.pipeline.graph import elements_of, need_of
from neurosweep.pipeline.journal import Journal
from neurosweep.pipeline.plan import Plan
from neurosweep.pipeline.spec import EVALUATE, SUBJECTS
from neurosweep.pipeline.state import TaskPhase, TaskState
from neurosweep.records.trial import POLICY

if TYPE_CHECKING:
    from neurosweep.evaluation.prediction_lines import Prediction
    from neurosweep.evaluation.references import Reference
    from neurosweep.evaluation.score import Scores

COMPLETE, INCOMPLETE, CANCELLED = "complete", "incomplete", "cancelled"


def write_result(journal: Journal, plan: Plan) -> dict[str, Any]:
    """Score what was predicted, write ``result.json``, and return it.

    Everything in it follows from the ledger, the artifacts and the references: it may be deleted
    and written again.
    """
    state = journal.state
    scored = _Evaluation(journal, plan).run()
    lacking = _lacking(plan, state.tasks) + scored.problems
    stands = INCOMPLETE if lacking else COMPLETE
    if state.cancelled is not None and not all(task.phase.there for task in state.tasks.values()):
        stands = CANCELLED
    result = {
        "v": 1,
        "pipeline": journal.dir.pipeline_id,
        "name": plan.spec.name,
        "state": stands,
        "reason": (state.cancelled or "") if stands == CANCELLED else "",
        "lacking": lacking,
        "missing": [
            describe(journal.dir, task) for task in state.tasks.values() if not task.phase.there
        ],
        "rows": scored.rows,
        "tasks": {name: _summary(task) for name, task in state.tasks.items()},
        "core_hours": round(sum(task.core_hours() for task in state.tasks.values()), 6),
        "gpu_hours": round(sum(task.gpu_hours() for task in state.tasks.values()), 6),
        "data_fp": state.created["data_fp"],
    }
    atomic_write_json(journal.dir.result_json, result)
    journal.done("result_json")
    return result


def describe(pipeline: PipelineDir, task: TaskState) -> dict[str, Any]:
    """Return why the artifact of a task is not there, what to do, and where its log lies."""
    found: dict[str, Any] = {
        "task": task.task,
        "phase": task.phase.value,
        "kind": "",
        "reason": task.reason,
    }
    if task.phase is TaskPhase.FAILED:
        last = task.attempts[-1]
        text = str(last.error.get("text") or POLICY[last.kind].meaning)
        found |= {"kind": last.kind.value, "reason": text, "attempt": last.number}
        log = pipeline.task(task.task).attempt(last.number).log
        found |= {"advice": POLICY[last.kind].advice, "log": str(log) if log.is_file() else ""}
    return found


def _summary(task: TaskState) -> dict[str, Any]:
    last = task.attempts[-1] if task.attempts else None
    return {
        "phase": task.phase.value,
        "fp": task.fp,
        "attempts": len(task.attempts),
        "seconds": 0.0 if last is None or task.phase is not TaskPhase.MADE else last.seconds,
    }


def _lacking(plan: Plan, tasks: Mapping[str, TaskState]) -> list[str]:
    """Return what is not there of the stages that nothing else needs."""
    stages = plan.spec.stages
    needed = {need for stage in stages.values() for need in stage.needs}
    ends = {name for name, one in stages.items() if name not in needed and one.job != EVALUATE}
    return [
        f"{name} is not there"
        for name, task in tasks.items()
        if plan.tasks[name].stage in ends and not task.phase.there
    ]


@dataclass
class _Scored:
    """Rows of the result, and why some are not there."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _Evaluation:
    """Score all stages that some stage 'evaluate' needs."""

    def __init__(self, journal: Journal, plan: Plan) -> None:
        self._journal, self._plan = journal, plan
        self._shelf = Shelf(journal.home)
        self._info = journal.state.created["data_info"]
        self._scored = _Scored()

    def run(self) -> _Scored:
        """Return all rows."""
        stages = self._plan.spec.stages
        subjects = self._info.get("subjects", [])
        elements = {name: elements_of(stage, subjects) for name, stage in stages.items()}
        seen: set[str] = set()
        for name, stage in stages.items():
            for needed in stage.needs if stage.job == EVALUATE else ():
                if needed not in seen:
                    seen.add(needed)
                    need = need_of(self._plan.spec, name, needed, elements)
                    self._stage(needed, tuple(need.tasks), need.at_least)
        return self._scored

    def _stage(self, stage: str, tasks: tuple[str, ...], at_least: int) -> None:
        of_subjects = self._plan.spec.stages[stage].foreach == SUBJECTS
        whole: dict[str, Prediction] = {}
        refs_of_all: dict[str, Reference] = {}
        rows = []
        for name in tasks:
            task = self._journal.state.tasks[name]
            element = self._plan.tasks[name].element
            refs = self._references(element if of_subjects else "")
            given = self._predictions(task, refs) if task.phase.there else None
            if given is not None:
                rows.append(self._row(stage, element, [name], given, refs))
                whole |= given
                refs_of_all |= refs
        if of_subjects and len(rows) > 1:
            names = [row["tasks"][0] for row in rows]
            self._scored.rows.append(self._row(stage, "", names, whole, refs_of_all))
        self._scored.rows += rows
        if len(rows) < at_least:
            text = f"{stage}: {len(rows)} of {at_least} could be scored" if at_least > 1 else ""
            self._scored.problems.append(text or f"{stage} could not be scored")

    def _references(self, subject: str) -> dict[str, Reference]:
        from neurosweep.evaluation.references import read_references

        path = self._journal.home.root / str(self._info["secret"]) / "val_refs.jsonl"
        found = read_references(path)
        if not subject:
            return found
        return {item: one for item, one in found.items() if one.subject == subject}

    def _predictions(
        self, task: TaskState, refs: Mapping[str, Reference]
    ) -> dict[str, Prediction] | None:
        """Return what a task predicted; None when that cannot be scored."""
        from neurosweep.evaluation.predictions import load_predictions

        artifact = self._shelf.find(task.fp)
        path = None if artifact is None else artifact.predictions
        if artifact is None or path is None or not refs:
            why = "has no items to be scored on" if not refs else "predicted nothing"
            self._scored.problems.append(f"{task.task} {why}")
            return None
        try:
            loaded = load_predictions(path, refs.keys())
        except PredictionsError as error:
            self._scored.problems.append(f"{task.task}: {error}")
            return None
        if loaded.sha256 != artifact.files[path.name][1]:
            self._scored.problems.append(f"{path}: was changed; remove the artifact and run again")
            return None
        return loaded.predictions

    def _row(
        self,
        stage: str,
        element: str,
        tasks: list[str],
        given: Mapping[str, Prediction],
        refs: Mapping[str, Reference],
    ) -> dict[str, Any]:
        from neurosweep.evaluation.score import score

        name = f"{stage}.{element}" if element else stage
        scores: Scores = score(given, refs, seed=self._plan.spec.seed)
        path = self._journal.dir.scores(name)
        path.parent.mkdir(exist_ok=True)
        atomic_write_json(path, scores.to_dict() | {"tasks": tasks})
        return {
            "row": name,
            "stage": stage,
            "needs": list(self._plan.spec.stages[stage].needs),
            "element": element,
            "tasks": tasks,
            "fps": [self._journal.state.tasks[task].fp for task in tasks],
            "metrics": dict(scores.metrics),
            "sem": dict(scores.sem),
            "subjects": len(scores.per_subject),
            "per_subject": {subject: dict(m) for subject, m in scores.per_subject.items()},
            "items": len(scores.items),
            "missing_items": scores.num_missing,
        }
