"""Seconds that agents take for a round of 50, beside a plain Optuna study.

Run ``python tests/bench/bench_agents.py``: about 20 s on one core. The contract test of agents
allows 5 s for a round after 450 trials.
"""

import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import optuna

from neuroagents.optuna_tpe import REFERENCE_SETTINGS, distribution
from neurosweep.core.plugins import find_plugins, load_plugin
from neurosweep.core.schema import FieldSpec, Schema
from neurosweep.records.agent_api import Agent, TrialRecord

SCHEMA = Schema(
    [
        FieldSpec("training.learning_rate", "float", 1e-6, 1e-1, True, default=1e-4),
        FieldSpec("training.weight_decay", "float", 1e-6, 1e-1, True, default=1e-2),
        FieldSpec("model.rank", "int", 1, 64, True, default=8),
        FieldSpec("training.batch_size", "int", choices=(8, 16, 32, 64), default=16),
    ]
)
N, REPEATS = 50, 3
SIZES = (0, 50, 450)


def _history(count: int) -> list[TrialRecord]:
    rng = np.random.default_rng(0)
    drawn = load_plugin("neuroagents", "random_search").create({}, 0)
    proposals = drawn.propose([], count, SCHEMA, rng)
    return [
        TrialRecord(f"t{i}", 1 + i // N, p.config, float(rng.random()))
        for i, p in enumerate(proposals)
    ]


def _propose(agent: Agent, history: Sequence[TrialRecord], seed: int) -> None:
    agent.propose(history, N, SCHEMA, np.random.default_rng(seed))


def _plain_optuna(history: Sequence[TrialRecord], seed: int) -> None:
    """What a script with its own study does: the same trials, 50 asks."""
    distributions = {path: distribution(field) for path, field in SCHEMA.items()}
    sampler = optuna.samplers.TPESampler(seed=seed, **REFERENCE_SETTINGS)
    study = optuna.create_study(sampler=sampler)
    for record in history:
        params = dict(record.config)
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=record.value
            )
        )
    for _ in range(N):
        study.ask(fixed_distributions=distributions)


def _seconds(work: Callable[[int], object]) -> float:
    times = []
    for repeat in range(REPEATS):
        start = time.perf_counter()
        work(repeat)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print one table and one line of JSON."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows: dict[str, list[float]] = {}
    histories = [_history(size) for size in SIZES]
    for name in sorted(find_plugins("neuroagents")):
        agent = load_plugin("neuroagents", name).create({}, 0)
        rows[name] = [_seconds(partial(_propose, agent, history)) for history in histories]
    rows["plain optuna"] = [_seconds(partial(_plain_optuna, history)) for history in histories]
    print(f"{'seconds for 50 proposals':26}" + "".join(f"{size:>10} trials" for size in SIZES))
    for name, seconds in rows.items():
        print(f"{name:26}" + "".join(f"{value:>17.3f}" for value in seconds))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
