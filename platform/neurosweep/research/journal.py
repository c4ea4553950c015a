"""The study's ledger and its state, kept in step."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, utc_iso
from neurosweep.core.errors import LedgerError, StudyError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.fold import apply, fold
from neurosweep.records.ledger import Ledger
from neurosweep.records.state import StudyState


def _ignore(*_: object) -> None:
    """Do nothing: the hook nobody set."""


@dataclass(frozen=True)
class Hooks:
    """Let others follow the loop.

    Attributes
    ----------
    on_event
        Called with every new ledger line.
    on_round_closed
        Called with the study and the number of a round that has just closed.
    boundary
        Called with a name after every operation that survives the death of the driver. A test
        that raises here dies there.
    on_tick
        Called with the state once a tick while attempts are watched.
    on_executor
        Called once a tick with why the executor cannot be asked or takes nothing; empty when it
        answers.
    """

    on_event: Callable[[Mapping[str, Any]], None] = _ignore
    on_round_closed: Callable[[StudyDir, int], None] = _ignore
    boundary: Callable[[str], None] = _ignore
    on_tick: Callable[[StudyState], None] = _ignore
    on_executor: Callable[[str], None] = _ignore


class Journal:
    """Write the ledger and know what it says.

    Parameters
    ----------
    study
        Folder of the study.
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
        study: StudyDir,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
        may_write: Callable[[], None] = _ignore,
    ) -> None:
        self.study = study
        self.home = Home(study.root.parent.parent)
        self.clock = clock or SystemClock()
        self.hooks = hooks or Hooks()
        self._may_write = may_write
        if not study.ledger.exists():
            msg = f"{study.root}: is not a study; it has no ledger"
            raise StudyError(msg)
        self._ledger = Ledger(study.ledger, self.clock)
        self.state = fold(self._ledger.events)
        if not self.state.study:
            msg = f"{study.ledger}: does not say which study it is; its first line is lost"
            raise LedgerError(msg)

    def record(self, event: str, data: Mapping[str, Any]) -> None:
        """Append one event that is legal now.

        Raises
        ------
        LedgerError
            When the event is not legal; nothing is written then.
        LockedError
            When another driver has taken the study over.
        StudyError
            When the disk is full; the study can be resumed when there is room.
        """
        self._may_write()
        now = utc_iso(self.clock.now())
        seq = self.state.num_events + 1
        apply(self.state, {"event": event, "data": data, "t": now, "seq": seq})
        try:
            line = self._ledger.append(event, data)
        except OSError as error:
            raise disk_error(error, self.study) from error
        self.hooks.boundary(f"ledger:{event}")
        self.hooks.on_event(line)

    def done(self, name: str) -> None:
        """Tell the hooks that an operation outside the ledger survived."""
        self.hooks.boundary(name)


def disk_error(error: OSError, study: StudyDir) -> StudyError:
    """Return the error to show for a failed write."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cause = "the disk is full" if full else f"a file cannot be written ({error})"
    return StudyError(
        f"study {study.study_id}: {cause}; running trials go on and nothing recorded is lost. "
        f"Make room under {study.root}, then `neurosweep study resume {study.study_id}`"
    )
