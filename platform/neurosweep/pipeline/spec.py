"""Pipeline files: stages, what each needs, and what each may use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from neurosweep.core.config import StrictModel, load_toml, validate
from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import near_misses
from neurosweep.core.provenance import package_root

EVALUATE = "evaluate"
SUBJECTS = "subjects"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_ELEMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_FOLDER = "pipelines"


class StageSpec(StrictModel):
    """One stage: a job for every element, or one job."""

    job: str = Field(
        description="a stage of the package, package.module:function, or 'evaluate': the driver"
        " scores what the stages it needs have predicted"
    )
    needs: list[str] = Field(default_factory=list, description="stages whose outputs it is given")
    foreach: str | list[str] | None = Field(
        None, description="'subjects' or a list of names: one task for each of them"
    )
    at_least: Annotated[int | None, Field(ge=1)] = Field(
        None, description="tasks that a foreach stage must have made; default: all of them"
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="values of the configuration for this stage alone"
    )
    uses: list[str] | None = Field(
        None, description="dotted parts of the configuration it is given; default: as it says"
    )
    on: str | None = Field(None, description="local, inline or slurm:PROFILE, for this stage")
    cores: Annotated[int | None, Field(ge=1)] = Field(None, description="cores of a task")
    gpus: Annotated[int | None, Field(ge=0)] = Field(None, description="GPUs of a task")
    minutes: Annotated[float | None, Field(gt=0)] = Field(None, description="limit of a task")
    mem_gb: Annotated[float | None, Field(gt=0)] = Field(None, description="memory of a task, GB")


class PipelineSpec(StrictModel):
    """A pipeline file."""

    name: str = Field(description="short name")
    about: str = Field("", description="one sentence")
    recipe: str = Field(description="a bundled recipe, or the path of a TOML file")
    entry: str = Field("neurodecode", description="package whose entry module knows the stages")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of all tasks")
    on: str = Field("local", description="local, inline or slurm:PROFILE")
    workers: Annotated[int | None, Field(ge=1)] = Field(None, description="tasks at a time")
    minutes: Annotated[float, Field(gt=0)] = Field(60.0, description="limit of a task")
    stall_minutes: Annotated[float, Field(gt=0)] = Field(
        30.0, description="a task without progress for so long is ended"
    )
    max_attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        3, description="attempts of a task whose machines fail"
    )
    notify: str = Field(
        "",
        description="shell command at the end of the pipeline and on trouble; empty tells nobody",
    )
    set: dict[str, Any] = Field(default_factory=dict, description="values of the configuration")
    stages: dict[str, StageSpec] = Field(description="the stages by name")


def load_pipeline(path: Path) -> PipelineSpec:
    """Read a pipeline file; a recipe that is a path is looked up beside it.

    Raises
    ------
    ConfigError
        When the file holds problems; all are listed.
    """
    tree = load_toml(path)
    spec, problems = _read(tree)
    if spec is not None:
        problems += _problems(spec)
    if problems or spec is None:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        raise ConfigError(f"{path}: {count}\n  " + "\n  ".join(problems))
    beside = path.parent / spec.recipe
    if beside.suffix == ".toml" and beside.is_file():
        spec = spec.model_copy(update={"recipe": str(beside.resolve())})
    return spec


def _read(tree: Mapping[str, Any]) -> tuple[PipelineSpec | None, list[str]]:
    """Return a file without the keys that are wrong, as far as it has a meaning, and these."""
    problems: list[str] = []
    tables = tree.get("stages")
    stages: Any = tables
    if isinstance(tables, Mapping):
        stages = {}
        for name, table in tables.items():
            stages[name] = table
            if isinstance(table, Mapping):
                found = _lines(StageSpec, table)
                problems += [f"stages.{name}.{line}" for line in found]
                stages[name] = _without(table, found)
                if found and "job" not in stages[name]:
                    stages[name]["job"] = "?"
    data = {**tree, "stages": stages}
    found = _lines(PipelineSpec, data)
    if not found:
        return PipelineSpec.model_validate(data), problems
    problems = found + problems
    mended = _without(data, found) | {"stages": stages}
    for name in ("name", "recipe"):
        mended.setdefault(name, "?")
    return (None if _lines(PipelineSpec, mended) else PipelineSpec.model_validate(mended)), problems


def _lines(model: type[StrictModel], data: Mapping[str, Any]) -> list[str]:
    """Return a line for every problem of a table."""
    try:
        validate(model, data, "")
    except ConfigError as error:
        return [line.strip() for line in str(error).splitlines()[1:]]
    return []


def _without(table: Mapping[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """Return a table without the keys that its problems name."""
    return {
        key: value
        for key, value in table.items()
        if not any(line.startswith((f"{key}:", f"{key}.")) for line in lines)
    }


def find_pipeline(name: str, entry: str = "neurodecode") -> Path:
    """Return the file of a bundled name or a path.

    Raises
    ------
    ConfigError
        When there is neither.
    """
    path = Path(name).expanduser()
    if path.suffix == ".toml" or path.is_file():
        return path
    bundled = bundled_pipelines(entry)
    if name in bundled:
        return bundled[name]
    listed = ", ".join(bundled) or "none"
    msg = f"pipeline '{name}' is unknown{near_misses(name, bundled)}; bundled are: {listed};"
    raise ConfigError(f"{msg} or give the path of a TOML file")


def bundled_pipelines(entry: str) -> dict[str, Path]:
    """Return the pipelines that come with a package, name to file."""
    folder = package_root(entry.partition(".")[0]) / Path(*entry.split(".")) / _FOLDER
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def _problems(spec: PipelineSpec) -> list[str]:
    problems = [] if spec.stages else ["stages: there is none; add a table [stages.NAME]"]
    for name, stage in spec.stages.items():
        problems += [f"stages.{name}{text}" for text in _stage_problems(name, stage, spec.stages)]
    if not problems:
        cycle = _cycle(spec.stages)
        problems += [f"stages: go in a circle: {' -> '.join(cycle)}"] if cycle else []
    return problems


def _stage_problems(name: str, stage: StageSpec, stages: Mapping[str, StageSpec]) -> list[str]:
    problems = []
    if not _NAME.fullmatch(name):
        problems.append(": a name is made of a-z, 0-9 and _, and begins with a letter")
    for need in stage.needs:
        if need not in stages:
            known = ", ".join(other for other in stages if other != name) or "none"
            problems.append(
                f".needs: no stage '{need}'{near_misses(need, stages)}; there are {known}"
            )
        elif stages[need].job == EVALUATE:
            problems.append(f".needs: '{need}' scores for people and gives nothing to other stages")
    if len(set(stage.needs)) < len(stage.needs):
        problems.append(".needs: names a stage twice")
    known_needs = all(need in stages for need in stage.needs)
    many = any(need in stages and stages[need].foreach is not None for need in stage.needs)
    if stage.at_least is not None and known_needs and not many:
        problems.append(".at_least: none of the stages it needs has foreach")
    problems += [f".foreach: {text}" for text in _foreach_problems(stage.foreach)]
    return problems + _evaluate_problems(stage)


def _foreach_problems(foreach: str | Sequence[str] | None) -> list[str]:
    if foreach is None or foreach == SUBJECTS:
        return []
    if isinstance(foreach, str):
        return [f"is {foreach!r}, expected '{SUBJECTS}' or a list of names"]
    wrong = [text for text in foreach if not _ELEMENT.fullmatch(text)]
    if wrong:
        return [f"{wrong[0]!r} is no name; letters, digits, _ and - are allowed"]
    if not foreach or len(set(foreach)) < len(foreach):
        return ["must name at least one, and none twice"]
    return []


def _evaluate_problems(stage: StageSpec) -> list[str]:
    if stage.job != EVALUATE:
        return []
    given = stage.model_dump(exclude_defaults=True).keys() - {"job", "needs", "at_least"}
    problems = [f".{key}: 'evaluate' runs in the driver and takes only needs" for key in given]
    return problems + ([] if stage.needs else [".needs: 'evaluate' needs stages that predict"])


def _cycle(stages: Mapping[str, StageSpec]) -> list[str]:
    """Return the names of stages that need each other in a circle; empty when none do."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for need in stages[name].needs:
                if found := visit(need, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in stages if (found := visit(name, []))), [])
