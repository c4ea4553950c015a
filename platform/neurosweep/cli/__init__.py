"""The command line: one file a verb in `neurosweep.cli.verbs`."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `neurosweep.cli.app`."""
    from neurosweep.cli.app import main as run

    return run(argv)
