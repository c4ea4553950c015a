"""Let something slow be worked out aside, while others go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")

_LOOK_S = 0.1
_PAUSE_S = 0.2


def aside(work: Callable[[], T]) -> Generator[float, None, T]:
    """Run something in a thread of its own, and come up for air until it is done.

    What is left alone, because its caller was interrupted, ends with the process.

    Parameters
    ----------
    work
        What to run; what it raises is raised here.

    Yields
    ------
    float
        Seconds that the caller may wait.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller
            errors.append(error)

    thread = threading.Thread(target=run, name="aside", daemon=True)
    thread.start()
    thread.join(_LOOK_S)
    while thread.is_alive():
        yield _PAUSE_S
        thread.join(_LOOK_S)
    if errors:
        raise errors[0]
    return results[0]
