"""How many tasks of each array run at a time, so that all arrays together keep to their slots."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from neurosweep.core.errors import ExecutorError
from neurosweep.core.fair import fair_shares
from neurosweep.exec.slurm_state import run_slurm

logger = logging.getLogger(__name__)

# An array of which some tasks are over makes scontrol fail, after it has done the rest.
HARMLESS = ("already finished", "already completing", "Invalid job id")


@dataclass(frozen=True)
class Load:
    """Say what an array has left.

    Attributes
    ----------
    left
        Tasks that have not ended.
    running
        Those of them that run, as seen last.
    level
        Tasks that may run at a time, as set last; 0 is held, None is not known: any number.
    """

    left: int
    running: int = 0
    level: int | None = None

    @property
    def taken(self) -> int:
        """Slots that it holds or may take before SLURM is told otherwise."""
        return max(self.running, self.left if self.level is None else min(self.left, self.level))


def levels(slots: int, loads: Mapping[str, Load]) -> dict[str, int]:
    """Return the level of each array.

    An array is raised only by what the others have really let go of: lowering one ends nothing
    of what it runs.

    Parameters
    ----------
    slots
        Tasks at a time, over all arrays.
    loads
        What each array has left, the oldest first.
    """
    wanted = fair_shares(slots, {array: load.left for array, load in loads.items()})
    free = slots - sum(max(load.taken, 0) for load in loads.values())
    chosen: dict[str, int] = {}
    for array, load in loads.items():
        more = wanted[array] - load.taken
        given = min(more, max(free, 0)) if more > 0 else more
        free -= max(given, 0)
        chosen[array] = load.taken + given
    return chosen


class Throttle:
    """Tell SLURM how many tasks of each array may run, whenever that changes.

    Parameters
    ----------
    slots
        Tasks at a time, over all arrays.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.commands = 0
        self._levels: dict[str, int | None] = {}
        self._held: set[str] = set()

    def start_level(self, size: int, loads: Mapping[str, Load]) -> int:
        """Return the level that a new array starts with; 0 is held."""
        known = self._known(loads)
        return levels(self.slots, {**known, "": Load(size, level=0)})[""]

    def note(self, array: str, level: int | None, *, held: bool = False) -> None:
        """Remember how an array was submitted; None for one that is adopted.

        Parameters
        ----------
        array
            Its id.
        level
            Tasks at a time.
        held
            Whether its tasks wait for a release.
        """
        self._levels[array] = level
        if held:
            self._held.add(array)

    def settle(self, loads: Mapping[str, Load]) -> None:
        """Set the levels that have changed; what fails is tried again at the next call."""
        for array in [array for array in self._levels if array not in loads]:
            del self._levels[array]
            self._held.discard(array)
        known = self._known(loads)
        chosen = levels(self.slots, known)
        # Lower first: in between there are never too many.
        for array in sorted(chosen, key=lambda a: chosen[a] - known[a].taken):
            self._set(array, chosen[array], known[array])

    def _known(self, loads: Mapping[str, Load]) -> dict[str, Load]:
        level = dict(self._levels) | dict.fromkeys(self._held, 0)
        return {
            array: Load(load.left, load.running, level.get(array)) for array, load in loads.items()
        }

    def _set(self, array: str, level: int, load: Load) -> None:
        waiting = load.left - load.running
        if waiting <= 0:
            return
        try:
            if level == 0:
                if array not in self._held:
                    self._tell("hold", array)
                    self._held.add(array)
            else:
                if load.level is None or self._matters(level, load):
                    self._tell("update", f"JobId={array}", f"ArrayTaskThrottle={level}")
                if array in self._held:
                    self._tell("release", array)
                    self._held.discard(array)
            self._levels[array] = level if load.level is None else self._effective(level, load)
        except ExecutorError as error:
            logger.warning("the throttle of array %s could not be changed: %s", array, error)

    @staticmethod
    def _matters(level: int, load: Load) -> bool:
        """Return whether SLURM would do anything else under the new level."""
        assert load.level is not None
        return min(level, load.left) != min(load.level, load.left)

    @staticmethod
    def _effective(level: int, load: Load) -> int:
        assert load.level is not None
        return level if Throttle._matters(level, load) else load.level

    def _tell(self, *words: str) -> None:
        self.commands += 1
        try:
            run_slurm(["scontrol", *words])
        except ExecutorError as error:
            if not any(text in str(error) for text in HARMLESS):
                raise
