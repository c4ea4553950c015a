"""Slots of a pipeline: one number for all its stages, shared with other drivers where asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosweep.core.clock import Clock
from neurosweep.core.fair import fair_shares
from neurosweep.exec.protocol import Executor
from neurosweep.research.sharing import SlotFile

_EVERY_S = 2.0

Demand = tuple[Executor, int]


@dataclass
class _Group:
    """Executors of one place."""

    total: int = 0
    file: SlotFile | None = None
    shares: dict[int, int] = field(default_factory=dict)


class Shares:
    """Divide the slots of each place among the executors of a pipeline that use it.

    Stages with resources of their own have an executor of their own; together they hold no more
    slots than one would, and no more than other drivers of the same slots file leave.

    Parameters
    ----------
    clock
        Source of time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._groups: dict[tuple[str, Path | None], _Group] = {}
        self._shared_at = float("-inf")

    def divide(self, demands: Sequence[Demand]) -> None:
        """Give each executor its share, now and then.

        Parameters
        ----------
        demands
            Executors with the number of their open tasks.
        """
        now = self._clock.monotonic()
        if now - self._shared_at < _EVERY_S:
            return
        self._shared_at = now
        together: dict[tuple[str, Path | None], list[Demand]] = defaultdict(list)
        for executor, demand in demands:
            together[executor.name, executor.slots_file].append((executor, demand))
        for key, members in together.items():
            self._divide(self._group(key, members), members)

    def leave(self) -> None:
        """Give back what is shared with other drivers."""
        for group in self._groups.values():
            if group.file is not None:
                group.file.leave()

    def _group(self, key: tuple[str, Path | None], members: Sequence[Demand]) -> _Group:
        group = self._groups.setdefault(key, _Group())
        new = [one.slots for one, _ in members if id(one) not in group.shares]
        group.total = max([group.total, *new])
        if key[1] is not None and group.file is None:
            group.file = SlotFile(key[1], group.total, self._clock)
        return group

    def _divide(self, group: _Group, members: Sequence[Demand]) -> None:
        total = group.total
        if group.file is not None:
            total = min(total, group.file.share(sum(demand for _, demand in members)))
        elif len(group.shares) < 2 and len(members) < 2:
            group.shares.setdefault(id(members[0][0]), total)
            return  # one executor alone keeps what it was created with
        wants = {str(id(executor)): demand for executor, demand in members}
        given = fair_shares(total, wants)
        for executor, _ in members:
            share = given[str(id(executor))]
            if group.shares.get(id(executor)) != share:
                group.shares[id(executor)] = share
                executor.adjust(slots=share)
