"""Drive several studies from one process, with one number of slots for all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.errors import NeurosweepError, StudyError
from neurosweep.core.fair import fair_shares
from neurosweep.research.loop import Driver
from neurosweep.research.progress import DriveResult
from neurosweep.research.rounds import Steps, interrupted
from neurosweep.research.sharing import SlotFile

logger = logging.getLogger(__name__)

_SHARE_EVERY_S = 2.0

Endings = dict[str, DriveResult | NeurosweepError]


@dataclass
class _Seat:
    """One study while it runs."""

    driver: Driver
    steps: Steps
    due: float = 0.0
    served: float = 0.0


@dataclass
class _Table:
    """All studies that run, and the slots they share."""

    seats: dict[str, _Seat]
    total: int
    slot_file: SlotFile | None
    clock: Clock
    endings: Endings = field(default_factory=dict)
    shared_at: float = float("-inf")
    wanted: dict[str, int | None] = field(default_factory=dict)

    def run(self) -> Endings:
        try:
            while self.seats:
                self._share()
                self._step_all()
                if self.seats:
                    due = min(seat.due for seat in self.seats.values())
                    self.clock.sleep(max(due - self.clock.monotonic(), 0.0))
        except KeyboardInterrupt as interrupt:
            for name, seat in list(self.seats.items()):
                self._end(name, interrupted(seat.steps, interrupt))
        finally:
            if self.slot_file is not None:
                self.slot_file.leave()
        return self.endings

    def _step_all(self) -> None:
        for name, seat in list(self.seats.items()):
            if seat.due > self.clock.monotonic():
                continue
            try:
                seat.due = next(seat.steps) + self.clock.monotonic()
            except StopIteration:
                self._leave(name, seat.driver.result)
            except NeurosweepError as error:
                logger.warning("study %s stops, the others go on: %s", name, error)
                self._leave(name, error)
            except Exception as error:
                logger.exception("study %s stops, the others go on", name)
                self._leave(name, StudyError(f"study {name}: {type(error).__name__}: {error}"))

    def _end(self, name: str, steps: Steps) -> None:
        try:
            for _ in steps:
                pass
            self._leave(name, self.seats[name].driver.result)
        except NeurosweepError as error:
            self._leave(name, error)

    def _leave(self, name: str, ending: DriveResult | NeurosweepError) -> None:
        del self.seats[name]
        self.endings[name] = ending
        self.shared_at = float("-inf")

    def _share(self) -> None:
        """Divide the slots anew; of single slots, who had the fewest so far gets the first."""
        now = self.clock.monotonic()
        wanted = {name: seat.driver.slots_wanted for name, seat in self.seats.items()}
        if now - self.shared_at < _SHARE_EVERY_S and wanted == self.wanted:
            return
        if self.shared_at > float("-inf"):
            for seat in self.seats.values():
                seat.served += seat.driver.executor.slots * (now - self.shared_at)
        self.shared_at, self.wanted = now, wanted
        order = sorted(self.seats, key=lambda name: self.seats[name].served)
        demands = {name: _demand(self.seats[name].driver) for name in order}
        total = self.total
        if self.slot_file is not None:
            running = sum(seat.driver.running for seat in self.seats.values())
            total = min(total, self.slot_file.share(sum(demands.values()), running))
        for name, share in fair_shares(total, demands).items():
            executor = self.seats[name].driver.executor
            if share != executor.slots:
                executor.adjust(slots=share)


def _demand(driver: Driver) -> int:
    wanted = driver.slots_wanted
    return driver.demand if wanted is None else min(driver.demand, wanted)


def run_together(drivers: Mapping[str, Driver], clock: Clock | None = None) -> Endings:
    """Run studies side by side until each has ended; one that stops does not hold the others up.

    The slots of the first driver's executor are divided among those that can use them, again
    and again; where its profile names a slot file, what other drivers leave of them.

    Parameters
    ----------
    drivers
        Name to a driver that has not run yet; all executors are of one kind and place.
    clock
        Source of time.

    Returns
    -------
    dict
        Name to how its run ended, or to the error that stopped it.
    """
    clock = clock or SystemClock()
    executor = next(iter(drivers.values())).executor
    total, path = executor.slots, executor.slots_file
    slot_file = None if path is None else SlotFile(path, total, clock)
    for driver in drivers.values():
        driver.shares_slots = True
    seats = {name: _Seat(driver, driver.steps()) for name, driver in drivers.items()}
    return _Table(seats, total, slot_file, clock).run()
