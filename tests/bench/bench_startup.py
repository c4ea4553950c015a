"""What the command line costs before it does anything, and `study status` on 5,000 trials.

Run as ``python tests/bench/bench_startup.py [--repeats 7]``; it exits with 1 when a bound is
broken (0.3 s for ``--help`` beyond a bare interpreter, 1 s for the status).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_loop import bench_loop, grow

from neurosweep.core.layout import Home
from neurosweep.core.provenance import code_env

HELP_LIMIT_S = 0.3
STATUS_LIMIT_S = 1.0
NUM_TRIALS = 5000


def seconds_of(words: list[str], repeats: int) -> float:
    """Return the median wall time of a command in seconds; the first, cold run is left out."""
    env = {**os.environ, **code_env(None, 1)}
    env.pop("PYTHONDONTWRITEBYTECODE")
    quiet = subprocess.DEVNULL
    times = []
    for _ in range(repeats + 1):
        began = time.monotonic()
        subprocess.run(words, env=env, check=True, stdout=quiet, stderr=quiet)
        times.append(time.monotonic() - began)
    return statistics.median(times[1:])


def main() -> int:
    """Measure, print, and return 1 when a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    bare = seconds_of([sys.executable, "-c", "pass"], repeats)
    command = [sys.executable, "-m", "neurosweep.cli"]
    helped = seconds_of([*command, "--help"], repeats) - bare
    print(f"bare interpreter {bare:.3f} s; --help adds {helped:.3f} s (limit {HELP_LIMIT_S} s)")
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        study, _ = bench_loop(home, 2, 50, mirrored=False)
        big = grow(study, NUM_TRIALS // 100)
        words = [*command, "study", "status", str(big.root)]
        status = seconds_of(words, repeats)
        listed = seconds_of([*words, "--json"], repeats)
    print(f"study status on {NUM_TRIALS} trials {status:.3f} s, with --json {listed:.3f} s")
    return int(helped > HELP_LIMIT_S or max(status, listed) > STATUS_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
