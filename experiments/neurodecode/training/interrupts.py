"""How a training is interrupted: asked to end, or saved so that it goes on later, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from neurosweep.exec.job_api import NoSaves, Saves

State = dict[str, Any]


@dataclass(frozen=True)
class Interrupts:
    """Ask whether a training must end, and keep its state among the saves of its job.

    Attributes
    ----------
    should_stop
        Asked after every step; True ends training with the best weights so far.
    saves
        Where the state goes from time to time; a training that is started again goes on from
        there, as if there had been no interruption.
    name
        Tells the training from others of the job.
    """

    should_stop: Callable[[], bool] = lambda: False
    saves: Saves = field(default_factory=NoSaves)
    name: str = "training"

    def due(self) -> bool:
        """Return whether the training should save now."""
        return self.saves.due()

    def load(self) -> State | None:
        """Return the last state, on the CPU, or None for a training that starts."""
        path = self.saves.load(self.name)
        if path is None:
            return None
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def save(self, state: State) -> None:
        """Save tensors, numbers and texts, and with them where all random numbers stand.

        Raises
        ------
        neurosweep.exec.job_api.Yielded
            When the job was asked to leave.
        """
        whole = state | {"random": random_state()}
        self.saves.save(self.name, partial(torch.save, whole))


UNINTERRUPTED = Interrupts()


def random_state() -> State:
    """Return where the random numbers of Python, numpy and torch stand."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - code may draw from it
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if used else []
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_random_state(state: State) -> None:
    """Set the random numbers to where `random_state` found them."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    # Another node may have another number of GPUs, or none.
    for index, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(one, index)
