"""What a task of an array runs: the attempt that its number stands for.

It is started for every attempt, so it imports nothing but the runner.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from neurosweep.core.errors import ExecutorError

TABLE = "tasks.json"
_PATIENCE_S = 60.0
_MAX_BYTES = 64 * 1024 * 1024


def read_table(folder: Path, *, patience_s: float = _PATIENCE_S) -> list[dict[str, Any]]:
    """Return trial, attempt and folder of each task of an array.

    Parameters
    ----------
    folder
        Folder of the array.
    patience_s
        How long a file may take to appear on this machine, in seconds.

    Raises
    ------
    ExecutorError
        When it cannot be read.
    """
    path = folder / TABLE
    deadline = time.monotonic() + patience_s
    while True:
        try:
            text = path.read_bytes()[:_MAX_BYTES]
            rows = json.loads(text)["attempts"]
            return [dict(row, trial=str(row["trial"]), attempt=int(row["attempt"])) for row in rows]
        except FileNotFoundError as error:
            if time.monotonic() >= deadline:
                msg = (
                    f"{path} is not there; is the study's folder on a file system that this "
                    "machine shares? `neurosweep doctor --on slurm:PROFILE` checks it"
                )
                raise ExecutorError(msg) from error
            time.sleep(0.2)
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{path} cannot be read: {error}"
            raise ExecutorError(msg) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the attempt of this task; the argument is the folder of the array."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m neurosweep.exec.slurm_task FOLDER\n")
        return 2
    row = read_table(Path(arguments[0]))[int(os.environ["SLURM_ARRAY_TASK_ID"])]

    from neurosweep.exec.runner import run_attempt

    return run_attempt(Path(row["dir"]))


if __name__ == "__main__":
    sys.exit(main())
