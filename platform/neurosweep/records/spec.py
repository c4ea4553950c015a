"""The specification of a study: what study.toml may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from neurosweep.core.config import StrictModel, load_toml, validate

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class AgentSpec(StrictModel):
    """Who proposes."""

    name: str = Field("optuna_tpe", description="a file of the folder agents/neuroagents")
    options: dict[str, Any] = Field(default_factory=dict, description="passed to the agent")
    fallback: Literal["random_search", "pause"] = Field(
        "random_search", description="what fills a round after three refused answers"
    )


class BudgetSpec(StrictModel):
    """How much is run."""

    rounds: Positive = Field(10, description="number of rounds")
    trials_per_round: Positive = Field(50, description="search trials in every round")
    trial_minutes: float = Field(45.0, gt=0, description="limit of one attempt, minutes")
    gpu_hours: float | None = Field(
        None,
        gt=0,
        description="closes the study when used up: hours times GPUs, or times cores of a task "
        "without GPU; restarts and failed attempts count",
    )
    max_attempts: Positive = Field(
        3, description="attempts of one trial when the infrastructure fails"
    )
    keep_mb: float = Field(
        64.0,
        ge=0,
        description="checkpoints of scored trials stay up to this size, MB; the best's always",
    )


class ReserveSpec(StrictModel):
    """Trials outside the rounds."""

    floor: NotNegative = Field(5, description="seeds of the unchanged recipe before round 1")
    confirm: NotNegative = Field(5, description="seeds of the champion on the test part")
    sentinel: NotNegative = Field(0, description="trials on sentinel subjects")
    canary: NotNegative = Field(0, description="trials before a round")


class ObjectiveSpec(StrictModel):
    """What is searched for; None takes the recipe's own objective."""

    metric: str | None = Field(None, description="for example val_cer")
    direction: Literal["minimize", "maximize"] | None = Field(None, description="which is better")


class SearchSpec(StrictModel):
    """Which fields are searched; an empty list takes the recipe's own choice."""

    exposed: list[str] = Field(default_factory=list, description="dotted paths")
    override: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="path to low, high, log, choices"
    )


class ExecutionSpec(StrictModel):
    """Where it runs."""

    on: str = Field("local", description="local, inline, or slurm:PROFILE")
    workers: Positive | None = Field(None, description="attempts at a time; default: all cores")
    memory_mb: Positive | None = Field(None, description="limit of one attempt, MB")
    stall_minutes: float = Field(10.0, gt=0, description="no progress for so long is a hang")
    mode: Literal["sync", "async"] = Field(
        "sync",
        description="sync: rounds wait for their last trial; async: a freed slot is refilled at "
        "once",
    )


class NotifySpec(StrictModel):
    """Who is told."""

    command: str | None = Field(
        None,
        min_length=1,
        description="shell command at the end of a round, of the study, and on trouble",
    )


class StudySpec(StrictModel):
    """A study: one agent, one recipe, one budget."""

    name: str = Field(min_length=1, description="short name, part of the id")
    recipe: str = Field(description="name of a bundled recipe or path of a TOML file")
    stage: Literal["encoder", "llm"] | None = Field(
        None, description="what is trained; the recipe says it"
    )
    seed: NotNegative = Field(0, description="all randomness follows from it")
    entry: str = Field(
        "neurodecode", description="package whose entry module describes and prepares recipes"
    )
    agent: AgentSpec = AgentSpec()
    budget: BudgetSpec = BudgetSpec()
    reserve: ReserveSpec = ReserveSpec()
    data: dict[str, Any] = Field(default_factory=dict, description="overrides of the recipe's data")
    set: dict[str, Any] = Field(
        default_factory=dict,
        description="overrides of the recipe's whole configuration, nested or with dotted paths",
    )
    objective: ObjectiveSpec = ObjectiveSpec()
    search: SearchSpec = SearchSpec()
    execution: ExecutionSpec = ExecutionSpec()
    notify: NotifySpec = NotifySpec()


def load_spec(path: Path) -> StudySpec:
    """Read and validate a study.toml.

    Raises
    ------
    ConfigError
        When the file cannot be read or holds problems; all are listed.
    """
    return validate(StudySpec, load_toml(path), str(path))
