"""Three studies of 10 rounds x 50 trials under one driver on SLURM, with failures of every kind.

Trials are torch-free and take a moment; some fail by themselves (an exception, too much memory,
a loss that is no number, a dead process, no progress, too long, predictions that cannot be
scored), and a hand from outside cancels, kills, stops and preempts others, kills a node, and
restarts the controller and the accounting daemon. The bench says whether every study used its
budget exactly and ran no trial twice to completion, which kinds it met, how the driver's memory
went, and how often the scheduler was asked::

    python tests/bench/bench_slurm_studies.py --rounds 10 --trials 50
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _devcluster import REPO, development_cluster

from neurosweep.core.config import validate
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home, StudyDir
from neurosweep.exec.slurm_watch import SlurmWatch
from neurosweep.records.fold import load_state
from neurosweep.records.spec import StudySpec
from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.control import send_request
from neurosweep.research.create import create_study
from neurosweep.research.journal import Hooks
from neurosweep.research.setup import build_driver
from neurosweep.research.together import run_together

OWN_FAULTS = ("crash", "oom", "oom_gpu", "diverge", "segfault", "hang", "unknown_item", "sleepy")
# In the last study a lost node or a preemption costs an attempt; elsewhere SLURM starts it again.
# Its trials take a moment, so that what comes from outside meets them.
DELAY_S = {"one": 0.0, "two": 0.0, "three": 1.5}
STUDIES = {"one": True, "two": True, "three": False}


def create(home: Home, name: str, seed: int, rounds: int, trials: int) -> StudyDir:
    """Create a study some of whose trials fail by themselves."""
    data = {
        "name": name,
        "seed": seed,
        "recipe": "instant",
        "entry": "neurosweep.testing",
        "agent": {"name": "random_search"},
        "budget": {"rounds": rounds, "trials_per_round": trials, "trial_minutes": 0.5},
        "reserve": {"floor": 2, "confirm": 0},
        "execution": {"memory_mb": 300, "stall_minutes": 0.3},
        "set": {
            "fault.mode": ",".join(OWN_FAULTS),
            "fault.share": 0.04,
            "fault.delay_s": DELAY_S[name],
        },
    }
    return create_study(validate(StudySpec, data, "bench"), home)


class Hand:
    """Do harm from outside, again and again, in a thread."""

    def __init__(self, cluster: Path, studies: Mapping[str, StudyDir], pause_s: float) -> None:
        self._cluster, self._studies = cluster, studies
        self._pause_s = pause_s
        self._rng = random.Random(7)
        self._over = threading.Event()
        self.done: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Hand:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60.0)

    def _run(self) -> None:
        harms: list[Callable[[], None]] = [
            self.scancel, self.stop, self.kill_task, self.preempt, self.kill_node,
            self.cancel_as_admin, self.spoil_code, self.restart_controller,
            self.restart_accounting,
        ]  # fmt: skip
        number = 0
        while not self._over.wait(self._pause_s):
            harm = harms[number % len(harms)]
            number += 1
            try:
                harm()
            except (subprocess.SubprocessError, OSError, IndexError) as error:
                print(f"harm {harm.__name__} failed: {error}", flush=True)
                continue
            self.done[harm.__name__] += 1

    def _running(self) -> list[str]:
        command = ["squeue", "-h", "-r", "-t", "RUNNING", "-p", "main", "-o", "%i"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()

    def scancel(self) -> None:
        """Cancel one task by hand."""
        subprocess.run(["scancel", self._rng.choice(self._running())], check=True, timeout=20)

    def stop(self) -> None:
        """Ask a driver to stop one of its trials."""
        study, trial = self._rng.choice(self._open_trials())
        send_request(study, "stop", trial=trial)

    def _open_trials(self) -> list[tuple[StudyDir, str]]:
        return [
            (study, name)
            for study in self._studies.values()
            for name, trial in load_state(study).trials.items()
            if trial.open_attempt is not None
        ]

    def cancel_as_admin(self) -> None:
        """Cancel one task as somebody else, who may."""
        add = ["sacctmgr", "-i", "add", "user", "nobody", "account=root", "adminlevel=Admin"]
        subprocess.run(add, timeout=20, capture_output=True)
        words = ["runuser", "-u", "nobody", "--", "scancel", self._rng.choice(self._running())]
        subprocess.run(words, check=True, timeout=20)

    def spoil_code(self) -> None:
        """Let a trial that waits for its start demand code from elsewhere."""
        waiting = [
            study.trial(name)
            for study, name in self._open_trials()
            if not study.trial(name).attempt(1).claim.exists()
        ]
        path = self._rng.choice(waiting).run_json
        data = read_json(path) | {"code_roots": {"neurosweep": "/nowhere"}}
        path.write_text(json.dumps(data), encoding="utf-8")

    def kill_task(self) -> None:
        """Kill the process of one task."""
        claims = [
            path
            for study in self._studies.values()
            for path in study.root.glob("trials/*/attempts/*/claim.json")
            if not (path.parent / "status.json").exists()
        ]
        pids = {int(read_json(path)["pid"]) for path in claims} - {os.getpid()}  # revoked ones
        pids = {pid for pid in pids if Path(f"/proc/{pid}").exists()}
        subprocess.run(["kill", "-9", str(self._rng.choice(sorted(pids)))], check=True)

    def preempt(self) -> None:
        """Run something urgent on every slot for a moment."""
        command = ["sbatch", "--parsable", "-p", "urgent", "--array=0-3", "--mem=100M"]
        command += ["--output=/dev/null", "--wrap", "sleep 3"]
        subprocess.run(command, check=True, timeout=20, capture_output=True)

    def kill_node(self) -> None:
        """Let a node lose its power, and come back."""
        self._daemon("kill", "n3")
        time.sleep(20.0)
        self._daemon("start", "n3")

    def restart_controller(self) -> None:
        """Restart slurmctld."""
        self._daemon("restart", "slurmctld")

    def restart_accounting(self) -> None:
        """Leave accounting down for a while."""
        self._daemon("stop", "slurmdbd")
        time.sleep(8.0)
        self._daemon("start", "slurmdbd")

    def _daemon(self, verb: str, daemon: str) -> None:
        command = [str(REPO / "slurm/devcluster"), verb, daemon, str(self._cluster)]
        subprocess.run(command, check=True, timeout=90, capture_output=True)


def memory_mb() -> float:
    """Return the resident memory of this process, MB."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def drive(folder: Path, studies: Mapping[str, StudyDir], slots: int) -> list[dict[str, Any]]:
    """Run all studies; return a sample at the end of every round."""
    text = f'partition = "main"\nthrottle = {slots}\npoll_s = 2.0\nmem_gb = 0.4\n'
    profiles = {name: folder / f"{name}.toml" for name in studies}
    for name, requeue in STUDIES.items():
        profiles[name].write_text(f"{text}requeue = {str(requeue).lower()}\n", encoding="utf-8")
    pool: dict[str, object] = {}
    samples: list[dict[str, Any]] = []
    began = time.monotonic()

    def on_round_closed(study: StudyDir, number: int) -> None:
        queries = sum(watch.queries for watch in _watches(pool))
        sample = {
            "study": study.study_id, "round": number, "s": round(time.monotonic() - began, 1),
            "rss_mb": round(memory_mb(), 1), "queries": queries,
        }  # fmt: skip
        samples.append(sample)
        print(json.dumps(sample), flush=True)

    hooks = Hooks(on_round_closed=on_round_closed)
    drivers = {
        name: build_driver(study, on=f"slurm:{profiles[name]}", hooks=hooks, pool=pool)
        for name, study in studies.items()
    }
    endings = run_together(drivers)
    print({name: str(ending) for name, ending in endings.items()}, flush=True)
    return samples


def _watches(pool: Mapping[str, object]) -> list[SlurmWatch]:
    return [value for value in pool.values() if isinstance(value, SlurmWatch)]


def judge(studies: Mapping[str, StudyDir], rounds: int, trials: int) -> int:
    """Print what came of every study; return how many broke the budget."""
    broken, kinds = 0, Counter[str]()
    for name, study in studies.items():
        state = load_state(study)
        search = list(state.of(Purpose.SEARCH))
        twice = Counter(
            path.parents[2].name
            for path in study.root.glob("trials/*/attempts/*/status.json")
            if read_json(path)["outcome"] == "done"
        )
        exact = len(search) == rounds * trials and all(trial.phase.final for trial in search)
        exact = exact and max(twice.values()) == 1 and state.closed is not None
        broken += not exact
        ends = Counter(a.kind.value for t in state.trials.values() for a in t.attempts)
        restarts = sum(a.restarts for t in state.trials.values() for a in t.attempts)
        kinds += ends
        print(json.dumps({"study": name, "exact": exact, "kinds": ends, "restarts": restarts}))
    missing = {kind.value for kind in Kind} - set(kinds)
    print(json.dumps({"kinds met": kinds, "kinds not met": sorted(missing)}))
    return broken


def main() -> int:
    """Run the bench and return 1 when a budget was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--pause", type=float, default=12.0, help="seconds between two harms")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        development_cluster() as cluster,
    ):
        Path(folder).chmod(0o755)
        home = Home(Path(folder) / "home")
        studies = {
            name: create(home, name, seed, args.rounds, args.trials)
            for seed, name in enumerate(STUDIES)
        }
        with Hand(cluster, studies, args.pause) as hand:
            samples = drive(Path(folder), studies, args.slots)
        print(json.dumps({"harm done": hand.done}))
        broken = judge(studies, args.rounds, args.trials)
        minutes, queries = samples[-1]["s"] / 60, samples[-1]["queries"]
        tenth = max(len(samples) // 10, 1)
        print(
            f"{3 * args.rounds * args.trials} trials in {minutes:.1f} min; "
            f"queries {queries}, {queries / minutes:.1f} a minute; "
            f"memory {samples[tenth]['rss_mb']} MB after a tenth, "
            f"{samples[-1]['rss_mb']} MB at the end"
        )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
