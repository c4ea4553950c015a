"""Cost of an attempt beyond its training: this executor against fresh interpreters and submitit.

Run it by hand: ``python tests/bench/bench_local_executor.py [--trials 20] [--warm torch]``. Takes
about two minutes on two cores with torch, most of it submitit's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from neurosweep.core.layout import Home
from neurosweep.core.provenance import code_env
from neurosweep.exec.executors.local import LocalExecutor
from neurosweep.exec.protocol import ExecSettings, TaskPhase, TaskSpec
from neurosweep.testing.attempts import make_task

JOBS = "neurosweep.testing.jobs"


def tasks_of(home: Home, number: int) -> list[TaskSpec]:
    return [make_task(home, trial=f"r01t{n:03d}") for n in range(number)]


def check(tasks: list[TaskSpec]) -> None:
    failed = [task.trial for task in tasks if not task.files.predictions.exists()]
    if failed:
        sys.exit(f"these attempts did not run: {failed}")


def warm(tasks: list[TaskSpec], folder: Path, modules: tuple[str, ...], workers: int) -> float:
    """Return seconds from the first submission to the last end."""
    executor = LocalExecutor(ExecSettings(folder, workers=workers, warm=(JOBS, *modules)))
    began = time.perf_counter()
    executor.submit("bench", tasks)
    over = 0
    while over < len(tasks):
        over += sum(view.phase is TaskPhase.ENDED for view in executor.poll().values())
        time.sleep(0.002)
    seconds = time.perf_counter() - began
    executor.close()
    return seconds


def fresh(tasks: list[TaskSpec], modules: tuple[str, ...], workers: int) -> float:
    """Return seconds with a fresh interpreter for each attempt, as many at a time."""
    imports = "".join(f"import {name}; " for name in modules)
    code = f"{imports}import sys; from neurosweep.exec.runner import main; sys.exit(main())"
    env = {**os.environ, **code_env(None, 1)}
    waiting, running = list(tasks), list[subprocess.Popen[bytes]]()
    began = time.perf_counter()
    while waiting or running:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < workers:
            command = [sys.executable, "-c", code, str(waiting.pop().attempt_dir)]
            running.append(subprocess.Popen(command, env=env))
        time.sleep(0.002)
    return time.perf_counter() - began


def run_with_imports(attempt_dir: str, modules: tuple[str, ...]) -> int:
    """Run one attempt under submitit, importing first what a training job imports."""
    import importlib

    from neurosweep.exec.runner import run_attempt

    for name in modules:
        importlib.import_module(name)
    return run_attempt(attempt_dir)


def with_submitit(tasks: list[TaskSpec], folder: Path, modules: tuple[str, ...]) -> float:
    """Return seconds with submitit's local executor, which starts everything at once."""
    import submitit

    os.environ |= code_env(Path(__file__).parent, 1)
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=10)
    began = time.perf_counter()
    jobs = [executor.submit(run_with_imports, str(t.attempt_dir), modules) for t in tasks]
    for job in jobs:
        job.result()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--warm", default="", help="comma-separated modules, for example torch")
    options = parser.parse_args()
    modules = tuple(name for name in options.warm.split(",") if name)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("warm", "fresh", "submitit"):
            home = Home(Path(name) / kind)
            tasks = tasks_of(home, options.trials)
            if kind == "warm":
                seconds[kind] = warm(tasks, home.root / "x", modules, options.workers)
            elif kind == "fresh":
                seconds[kind] = fresh(tasks, modules, options.workers)
            else:
                seconds[kind] = with_submitit(tasks, home.root / "x", modules)
            check(tasks)
    print(f"{options.trials} attempts, {options.workers} workers, imports: {modules or 'none'}")
    for kind, value in seconds.items():
        ratio = value / seconds["warm"]
        each = 1000.0 * value / options.trials
        print(f"  {kind:9} {value:7.2f} s  {each:8.1f} ms an attempt  {ratio:6.1f} x")


if __name__ == "__main__":
    # Under its own name submitit pickles the function by reference, which its job can import.
    import bench_local_executor

    bench_local_executor.main()
