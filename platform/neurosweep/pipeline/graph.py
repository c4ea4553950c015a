"""Tasks: every stage for each of its elements, and what each needs of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurosweep.core.errors import ConfigError
from neurosweep.pipeline.spec import EVALUATE, SUBJECTS, PipelineSpec, StageSpec


@dataclass(frozen=True)
class Need:
    """Name what a task needs of one stage.

    Attributes
    ----------
    stage
        The other stage.
    tasks
        Its tasks that are wanted, by the name under which the job finds each.
    at_least
        How many of them must be there.
    """

    stage: str
    tasks: Mapping[str, str]
    at_least: int


@dataclass(frozen=True)
class Task:
    """Describe one task.

    Attributes
    ----------
    task
        Id: ``stage``, or ``stage.element``.
    stage, element
        Which stage, for whom; the element is empty where there is only one task.
    needs
        What it waits for.
    """

    task: str
    stage: str
    element: str
    needs: tuple[Need, ...]


def expand(spec: PipelineSpec, subjects: Sequence[str]) -> dict[str, Task]:
    """Return the tasks that executors run, each after all that it needs.

    A stage with foreach that needs another over the same elements needs, for each of them, the
    task of that element alone.

    Parameters
    ----------
    spec
        The pipeline.
    subjects
        What ``foreach = "subjects"`` stands for.

    Raises
    ------
    ConfigError
        When a stage asks for more tasks than there are.
    """
    elements = {name: elements_of(stage, subjects) for name, stage in spec.stages.items()}
    tasks: dict[str, Task] = {}
    for name in in_order(spec.stages):
        stage = spec.stages[name]
        if stage.job == EVALUATE:
            continue
        for element in elements[name] or ("",):
            needs = tuple(_need(spec, name, need, element, elements) for need in stage.needs)
            task = Task(task_id(name, element), name, element, needs)
            tasks[task.task] = task
    return tasks


def task_id(stage: str, element: str) -> str:
    """Return the id of a task."""
    return f"{stage}.{element}" if element else stage


def elements_of(stage: StageSpec, subjects: Sequence[str]) -> tuple[str, ...]:
    """Return the elements of a stage; none where it has one task."""
    if stage.foreach is None:
        return ()
    return tuple(subjects) if stage.foreach == SUBJECTS else tuple(stage.foreach)


def in_order(stages: Mapping[str, StageSpec]) -> list[str]:
    """Return the names of stages, each after those it needs; there is no circle."""
    found: list[str] = []

    def visit(name: str) -> None:
        for need in stages[name].needs:
            visit(need)
        if name not in found:
            found.append(name)

    for name in stages:
        visit(name)
    return found


def need_of(
    spec: PipelineSpec, name: str, need: str, elements: Mapping[str, Sequence[str]]
) -> Need:
    """Return what a stage as a whole needs of another one.

    Raises
    ------
    ConfigError
        When it asks for more tasks than there are.
    """
    given = elements[need]
    if not given:
        return Need(need, {need: need}, 1)
    wanted = spec.stages[name].at_least
    if wanted is not None and wanted > len(given):
        msg = f"stages.{name}.at_least: is {wanted}, but '{need}' has {len(given)} tasks"
        raise ConfigError(f"{msg} ({', '.join(given)}); ask for fewer, or leave it out for all")
    tasks = {task_id(need, one): task_id(need, one) for one in given}
    return Need(need, tasks, len(given) if wanted is None else wanted)


def _need(
    spec: PipelineSpec,
    name: str,
    need: str,
    element: str,
    elements: Mapping[str, Sequence[str]],
) -> Need:
    if element and tuple(elements[need]) == tuple(elements[name]):
        return Need(need, {need: task_id(need, element)}, 1)
    return need_of(spec, name, need, elements)
