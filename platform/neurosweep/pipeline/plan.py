"""What a task is: what it waits for, its fingerprint, and its run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.core.config import flatten, set_dotted
from neurosweep.core.errors import ConfigError
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.layout import Home, PipelineDir
from neurosweep.core.plugins import near_misses
from neurosweep.core.provenance import package_root
from neurosweep.pipeline.graph import Need, expand
from neurosweep.pipeline.spec import PipelineSpec
from neurosweep.pipeline.state import PipelineState, TaskState
from neurosweep.research.seeds import training_seed

SECTION = "pipeline"
_FORMAT = 1
_LENGTH = 32


@dataclass(frozen=True)
class Outlook:
    """Say what is next for a task that waits.

    Attributes
    ----------
    waits
        Whether something it needs has no end yet.
    inputs
        Name to fingerprint of what it is given.
    blocked
        Why it cannot be run; empty when it can.
    """

    waits: bool = False
    inputs: Mapping[str, str] | None = None
    blocked: str = ""


class Plan:
    """Know the tasks of a pipeline.

    Parameters
    ----------
    pipeline
        Its folder.
    created
        Data of its ``pipeline_created`` event.
    """

    def __init__(self, pipeline: PipelineDir, created: Mapping[str, Any]) -> None:
        self._dir = pipeline
        self._home = Home(pipeline.root.parent.parent)
        self._created = created
        self.spec = PipelineSpec.model_validate(created["spec"])
        self.tasks = expand(self.spec, created["data_info"].get("subjects", []))

    @property
    def code_root(self) -> Path | None:
        """Source root of the snapshot; None when jobs run installed code."""
        root = self._created["code"]["root"]
        return self._dir.root / root if root else None

    def facts(self, stage: str) -> Mapping[str, Any]:
        """Return what the package said of a stage: entry, configuration, code, warm modules."""
        found: Mapping[str, Any] = self._created["stages"][stage]
        return found

    def outlook(self, state: PipelineState, task: str) -> Outlook:
        """Return what is next for a task that waits."""
        inputs: dict[str, str] = {}
        for need in self.tasks[task].needs:
            others = {name: state.tasks[other] for name, other in need.tasks.items()}
            if not all(other.phase.settled for other in others.values()):
                return Outlook(waits=True)
            there = {name: other.fp for name, other in others.items() if other.phase.there}
            if len(there) < need.at_least:
                return Outlook(blocked=_lacking(need, others, len(there)))
            inputs |= there
        return Outlook(inputs=inputs)

    def fingerprint(self, task: str, inputs: Mapping[str, str]) -> str:
        """Return the name of what a task makes: equal name, equal content."""
        return fingerprint(self.made_of(task, inputs), _LENGTH)

    def made_of(self, task: str, inputs: Mapping[str, str]) -> dict[str, Any]:
        """Return everything that decides what a task makes, as JSON data."""
        stage = self.tasks[task].stage
        facts = self.facts(stage)
        return {
            "format": _FORMAT,
            "job": facts["entry"],
            "code": facts["code"],
            "config": self.config(task),
            "seed": self.seed(task),
            "inputs": dict(inputs),
            "data_fp": self._created["data_fp"],
        }

    def config(self, task: str) -> dict[str, Any]:
        """Return what a task's job is given: what its stage uses, and which element it is."""
        one = self.tasks[task]
        config = dict(self.facts(one.stage)["config"])
        return config | {SECTION: {"stage": one.stage, "element": one.element}}

    def seed(self, task: str) -> int:
        """Return the seed of a task."""
        one = self.tasks[task]
        return training_seed(self.spec.seed, f"{one.stage}/{one.element}", 0, 0)

    def write_run(self, task: TaskState, limits: Mapping[str, Any]) -> bool:
        """Write a task's run.json, unless it says so already; nothing of the task runs now."""
        path, data = self._dir.task(task.task).run_json, self._run(task, limits)
        if path.exists() and read_json(path) == data:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, data)
        return True

    def _run(self, task: TaskState, limits: Mapping[str, Any]) -> dict[str, Any]:
        created = self._created
        place = {name: self._home.artifact(fp) for name, fp in task.inputs.items()}
        return {
            "v": 1,
            "trial": task.task,
            "purpose": "stage",
            "entry": self.facts(self.tasks[task.task].stage)["entry"],
            "config": self.config(task.task),
            "seed": self.seed(task.task),
            "commit": created["commit"],
            "diff_sha": created["diff_sha"],
            "data_fp": created["data_fp"],
            "stores": list(created["data_info"]["stores"]),
            "inputs": {n: str(path.relative_to(self._home.root)) for n, path in place.items()},
            "fp": task.fp,
            "part": "val",
            "code_roots": self._code_roots(),
            "items_sha": created["data_info"].get("items_sha", ""),
            "limits": dict(limits),
        }

    def _code_roots(self) -> dict[str, str]:
        roots = {"neurosweep": str(package_root("neurosweep"))}
        if self.code_root is not None:
            roots[self._created["code"]["package"]] = str(self.code_root)
        return roots


def _lacking(need: Need, others: Mapping[str, TaskState], count: int) -> str:
    ill = [one for one in others.values() if not one.phase.there]
    listed = ", ".join(f"{one.task} {one.phase.value}" for one in ill[:3])
    more = f" and {len(ill) - 3} more" if len(ill) > 3 else ""
    if len(others) == 1:
        return f"needs {listed.split(' ', 1)[0]}, which {_is(ill[0])}"
    return f"needs {need.at_least} of {need.stage}, {count} are there ({listed}{more})"


def _is(task: TaskState) -> str:
    return "failed" if task.attempts and not task.reason else "is blocked"


def used(config: Mapping[str, Any], uses: list[str], where: str) -> dict[str, Any]:
    """Return the parts of a configuration that a stage uses; other sections are left empty.

    Parameters
    ----------
    config
        The whole, nested.
    uses
        Dotted paths; a section stands for all its fields.
    where
        Named in errors.

    Raises
    ------
    ConfigError
        When a path is none of the configuration's.
    """
    flat = flatten(config)
    known = {*flat, *config}
    found: dict[str, Any] = {section: {} for section in config}
    for path in uses:
        chosen = {p: v for p, v in flat.items() if p == path or p.startswith(f"{path}.")}
        if not chosen and path not in known:
            msg = f"{where}: uses '{path}', which is no field{near_misses(path, known)}"
            raise ConfigError(msg)
        for name, value in chosen.items():
            set_dotted(found, name, value)
    return found
