"""Put a driver together from what a study says of itself."""

from __future__ import annotations

from neurosweep.core.clock import Clock
from neurosweep.core.layout import StudyDir
from neurosweep.core.plugins import load_plugin
from neurosweep.exec.protocol import ExecSettings, Executor
from neurosweep.records.fold import load_state
from neurosweep.records.spec import StudySpec
from neurosweep.records.state import StudyState
from neurosweep.research.agents import load_agent, load_fallback
from neurosweep.research.journal import Hooks
from neurosweep.research.loop import Driver
from neurosweep.research.placing import Pace
from neurosweep.research.planning import RunFolders
from neurosweep.research.pump import SupportsSync

_EXECUTORS = "neurosweep.exec.executors"


def build_driver(
    study: StudyDir,
    *,
    on: str | None = None,
    workers: int | None = None,
    mirror: SupportsSync | None = None,
    hooks: Hooks | None = None,
    clock: Clock | None = None,
    pace: Pace | None = None,
    pool: dict[str, object] | None = None,
) -> Driver:
    """Return the driver of a study with the executor and the agent that it names.

    Parameters
    ----------
    study
        Folder of the study.
    on
        ``local``, ``inline`` or ``slurm:PROFILE``; default: what the study says.
    workers
        Attempts at a time; default: what the study says.
    mirror
        Brings the ledger to MLflow; None for none.
    hooks, clock, pace
        As for `Driver`.
    pool
        What the executors of several drivers in this process share; None for nothing.

    Raises
    ------
    LedgerError
        When the folder holds no sound ledger.
    PluginError
        When the executor or the agent does not exist.
    """
    state = load_state(study)
    spec = StudySpec.model_validate(state.spec)
    executor = build_executor(study, state, on=on, workers=workers, pool=pool)
    return Driver(
        study,
        executor,
        load_agent(spec),
        fallback=load_fallback(spec),
        mirror=mirror,
        clock=clock,
        hooks=hooks,
        pace=pace,
    )


def build_executor(
    study: StudyDir,
    state: StudyState,
    *,
    on: str | None = None,
    workers: int | None = None,
    pool: dict[str, object] | None = None,
) -> Executor:
    """Return an executor for a study's attempts.

    Raises
    ------
    PluginError
        When the executor does not exist.
    ExecutorError
        When it cannot be used on this machine.
    """
    execution = state.spec["execution"]
    name, _, option = (on or execution["on"]).partition(":")
    settings = ExecSettings(
        study_dir=study.root,
        code_root=RunFolders(study, state.created).code_root,
        workers=workers or execution["workers"],
        memory_mb=execution["memory_mb"],
        warm=tuple(state.created.get("warm", [])),
        pool={} if pool is None else pool,
    )
    module = load_plugin(_EXECUTORS, name, needs=("create",))
    executor: Executor = module.create(option or None, settings)
    return executor
