"""A pipeline's ledger and its state, kept in step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.errors import StudyError
from neurosweep.core.layout import Home, PipelineDir
from neurosweep.core.plugins import near_misses
from neurosweep.pipeline.state import EVENTS, PipelineState, apply, fold
from neurosweep.records.ledger import Ledger, read_ledger


def _ignore(*_: object) -> None:
    """Do nothing: the hook nobody set."""


@dataclass(frozen=True)
class Hooks:
    """Let others follow a pipeline.

    Attributes
    ----------
    on_event
        Called with every new ledger line.
    on_tick
        Called with the state at every look at what runs.
    on_executor
        Called at every look with why an executor cannot be asked; empty when all answer.
    boundary
        Called with a name after every operation that survives the death of the driver. A test
        that raises here dies there.
    """

    on_event: Callable[[Mapping[str, Any]], None] = _ignore
    on_tick: Callable[[PipelineState], None] = _ignore
    on_executor: Callable[[str], None] = _ignore
    boundary: Callable[[str], None] = _ignore


def read_state(pipeline: PipelineDir) -> PipelineState:
    """Return the state of a pipeline without touching it.

    Raises
    ------
    StudyError
        When there is no such pipeline.
    LedgerError
        When its ledger is damaged.
    """
    if not pipeline.ledger.exists():
        raise _none_here(pipeline)
    return fold(read_ledger(pipeline.ledger))


class Journal:
    """Write the ledger and know what it says.

    Parameters
    ----------
    pipeline
        Its folder.
    clock
        Source of the time stamps.
    hooks
        Who is told of what.
    may_write
        Called before every event; raises when this process must not write any more.

    Raises
    ------
    StudyError
        When there is no ledger.
    LedgerError
        When the ledger is damaged elsewhere than in a cut last line.
    """

    def __init__(
        self,
        pipeline: PipelineDir,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
        may_write: Callable[[], None] = _ignore,
    ) -> None:
        self.dir = pipeline
        self.home = Home(pipeline.root.parent.parent)
        self.clock = clock or SystemClock()
        self.hooks = hooks or Hooks()
        self._may_write = may_write
        if not pipeline.ledger.exists():
            raise _none_here(pipeline)
        self._ledger = Ledger(pipeline.ledger, self.clock, EVENTS)
        self.state = fold(self._ledger.events)

    def record(self, event: str, data: Mapping[str, Any]) -> None:
        """Append one event that is legal now.

        Raises
        ------
        LedgerError
            When the event is not legal; nothing is written then.
        LockedError
            When another driver has taken the pipeline over.
        OSError
            When the disk is full.
        """
        self._may_write()
        now = utc_iso(self.clock.now())
        apply(self.state, {"event": event, "data": data, "t": now})
        line = self._ledger.append(event, data)
        self.hooks.boundary(f"ledger:{event}")
        self.hooks.on_event(line)

    def done(self, name: str) -> None:
        """Tell the hooks that an operation outside the ledger survived."""
        self.hooks.boundary(name)


def _none_here(pipeline: PipelineDir) -> StudyError:
    name, paths = pipeline.pipeline_id, pipeline.root.parent.glob("[!.]*/ledger.jsonl")
    known = sorted(path.parent.name for path in paths)
    listed = ", ".join(known) or "none"
    hint = near_misses(name, known)
    return StudyError(f"there is no pipeline '{name}' here{hint}; there are: {listed}")
