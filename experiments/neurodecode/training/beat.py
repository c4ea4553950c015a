"""Signs of life of what takes long: a job without any for minutes counts as hung."""

from __future__ import annotations

from collections.abc import Callable

Beat = Callable[[], None]


def silent() -> None:
    """Give no sign of life."""
