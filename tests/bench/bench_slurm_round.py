"""What orchestration adds to a round on SLURM: 50 trials of 2 s on 8 slots, against its peers.

In every repetition each way runs the same number of tasks of the same length once, one after
the other, on one development cluster: a bare ``sbatch --array`` whose tasks start the same
interpreter and sleep; submitit's own ``map_array`` and ``results()``; a round of neurosweep;
with ``--imports`` also a bare array whose tasks import what a trial imports; and with ``--hydra
PYTHON`` a multirun of Hydra's submitit launcher from an environment of its own. Ratios are taken
within a repetition, and their median over the repetitions is printed::

    python tests/bench/bench_slurm_round.py --pairs 5 --hydra HYDRA_ENV/bin/python
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _devcluster import Makespan, accounted, development_cluster, run_sbatch

from neurosweep.core.clock import parse_iso
from neurosweep.core.config import validate
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.ledger import read_ledger
from neurosweep.records.spec import StudySpec
from neurosweep.research.create import create_study
from neurosweep.research.setup import build_driver

POLL_S = 1.0
LIMITS = {"bare": 1.10, "submitit": 1.0, "hydra": 0.6}
_HYDRA_APP = """
import time
import hydra

@hydra.main(version_base=None, config_path=None, config_name=None)
def main(cfg):
    time.sleep({seconds})

main()
"""


class Bench:
    """The ways to run one round."""

    def __init__(self, folder: Path, tasks: int, seconds: float, slots: int) -> None:
        self.folder = folder
        self.tasks, self.seconds, self.slots = tasks, seconds, slots
        self.delays: list[dict[str, float]] = []
        self.hydra_python = ""

    def _bare(self, name: str, code: str) -> Makespan:
        script = self.folder / f"{name}.sh"
        script.write_text(f"#!/bin/bash\nexec {sys.executable} -u -c '{code}'\n")
        words = [f"--array=0-{self.tasks - 1}%{self.slots}", f"--job-name={name}"]
        words += ["--mem=256M", "--time=10", f"--output={self.folder}/%A_%a.log"]
        began = time.monotonic()
        job = run_sbatch([*words, str(script)])
        while subprocess.run(
            ["squeue", "-h", "-j", job], check=True, capture_output=True
        ).stdout.strip():
            time.sleep(0.5)
        return accounted(name, time.monotonic() - began)

    def bare(self, name: str) -> Makespan:
        """Start the interpreter and sleep."""
        return self._bare(name, f"import time; time.sleep({self.seconds})")

    def bare_imports(self, name: str) -> Makespan:
        """Start the interpreter, import what a trial imports, and sleep."""
        imports = "import neurosweep.exec.runner, neurosweep.testing.jobs, numpy, time"
        return self._bare(name, f"{imports}; time.sleep({self.seconds})")

    def submitit(self, name: str) -> Makespan:
        """Submit with submitit as its README does, and wait for the results."""
        import submitit

        executor = submitit.SlurmExecutor(folder=self.folder / name)
        executor.update_parameters(
            job_name=name, time=10, mem="256M", array_parallelism=self.slots, signal_delay_s=5
        )
        began = time.monotonic()
        jobs = executor.map_array(time.sleep, [self.seconds] * self.tasks)
        for job in jobs:
            job.results()
        return accounted(name, time.monotonic() - began)

    def hydra(self, name: str) -> Makespan:
        """Run a multirun of Hydra's submitit launcher."""
        app = self.folder / "app.py"
        app.write_text(_HYDRA_APP.format(seconds=self.seconds))
        words = [self.hydra_python, str(app), "-m", f"+x=range(0,{self.tasks})"]
        words += ["hydra/launcher=submitit_slurm", f"hydra.launcher.name={name}"]
        words += [f"hydra.launcher.array_parallelism={self.slots}", "hydra.launcher.mem_gb=1"]
        words += ["hydra.launcher.timeout_min=10", "hydra.launcher.signal_delay_s=5"]
        words += [f"hydra.sweep.dir={self.folder}/{name}"]
        began = time.monotonic()
        subprocess.run(words, check=True, capture_output=True, cwd=self.folder)
        return accounted(name, time.monotonic() - began)

    def neurosweep(self, name: str) -> Makespan:
        """Run a study of one round."""
        study = self._study(name)
        began = time.monotonic()
        profile = self.folder / "profile.toml"
        profile.write_text(
            f"throttle = {self.slots}\npoll_s = {POLL_S}\nmem_gb = 0.25\nminutes = 10\n"
        )
        result = build_driver(study, on=f"slurm:{profile}").run()
        wall_s = time.monotonic() - began
        assert result.done == self.tasks, result
        self.delays.append(delays_of(study))
        return accounted(_job_names(study), wall_s)

    def _study(self, name: str) -> StudyDir:
        data = {
            "name": name,
            "recipe": "instant",
            "entry": "neurosweep.testing",
            "agent": {"name": "random_search"},
            "budget": {"rounds": 1, "trials_per_round": self.tasks, "trial_minutes": 5.0},
            "reserve": {"floor": 0, "confirm": 0},
            "set": {"fault.delay_s": self.seconds},
        }
        spec = validate(StudySpec, data, "bench")
        return create_study(spec, Home(self.folder / "home"))


def _job_names(study: StudyDir) -> str:
    return ",".join(path.name for path in (study.root / "slurm").iterdir())


def delays_of(study: StudyDir) -> dict[str, float]:
    """Return seconds from decision to submission, and from the last end to its notice."""
    times = {event["event"]: parse_iso(event["t"]) for event in read_ledger(study.ledger)}
    ends = [
        parse_iso(read_json(path)["ended"])
        for path in study.root.glob("trials/*/attempts/*/status.json")
    ]
    return {
        "submit_s": times["submitted"] - times["round_planned"],
        "notice_s": times["round_closed"] - max(ends),
    }


def main() -> int:
    """Run the bench and return 1 when a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("--hydra", default="", help="python of an environment with the launcher")
    args = parser.parse_args()
    rows: list[dict[str, Makespan]] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, development_cluster():
        Path(folder).chmod(0o755)
        bench = Bench(Path(folder), args.tasks, args.seconds, args.slots)
        bench.hydra_python = args.hydra
        ways: dict[str, Callable[[str], Makespan]] = {
            "bare": bench.bare,
            "neurosweep": bench.neurosweep,
            "submitit": bench.submitit,
        }
        if args.imports:
            ways["bare_imports"] = bench.bare_imports
        if args.hydra:
            ways["hydra"] = bench.hydra
        for number in range(args.pairs):
            order = list(ways) if number % 2 == 0 else list(reversed(ways))
            row = {way: ways[way](f"{way.replace('_', '-')}-{number}") for way in order}
            rows.append(row)
            shown = {way: (span.accounted_s, round(span.wall_s, 1)) for way, span in row.items()}
            print(json.dumps({"repetition": number, "accounted and wall": shown}), flush=True)
    return _judge(rows, bench.delays)


def _judge(rows: list[dict[str, Makespan]], delays: list[dict[str, float]]) -> int:
    broken = 0
    for peer in [way for way in rows[0] if way != "neurosweep"]:
        ratio = statistics.median(
            row["neurosweep"].accounted_s / row[peer].accounted_s for row in rows
        )
        wall = statistics.median(row["neurosweep"].wall_s / row[peer].wall_s for row in rows)
        limit = LIMITS.get(peer)
        broken += limit is not None and ratio > limit
        asked = f", at most {limit}" if limit is not None else ""
        print(f"neurosweep / {peer}: accounted {ratio:.3f}{asked}; wall {wall:.3f}")
    for name, limit in (("submit_s", 1.0), ("notice_s", 2 * POLL_S)):
        worst = max(delay[name] for delay in delays)
        broken += worst > limit
        print(f"{name}: worst {worst:.2f}, at most {limit:g}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
