"""Every agent of the folder keeps the contract of agents."""

import inspect
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosweep.core.errors import ConfigError
from neurosweep.core.plugins import find_plugins, load_plugin
from neurosweep.core.schema import FieldSpec, Schema
from neurosweep.records.agent_api import Agent, Proposal, TrialRecord
from neurosweep.records.trial import Kind

AGENTS = sorted(find_plugins("neuroagents"))
N = 50
MAX_SECONDS = 5.0  # of 50 proposals after 450 trials; tests/bench/bench_agents.py has the figures

SCHEMA = Schema(
    [
        FieldSpec("training.learning_rate", "float", 1e-6, 1e-1, True, default=1e-4, doc="step"),
        FieldSpec("training.weight_decay", "float", 0.0, 0.5, default=0.1, doc="pull to zero"),
        FieldSpec("model.rank", "int", 1, 64, True, default=8, doc="rank"),
        FieldSpec("model.depth", "int", 1, 6, default=2, doc="layers"),
        FieldSpec("training.batch_size", "int", choices=(8, 16, 32), default=16, doc="items"),
        FieldSpec("model.kind", "str", choices=("conv", "linear"), default="conv", doc="family"),
        FieldSpec("model.bias", "bool", choices=(False, True), default=True, doc="offsets"),
    ]
)
FAILURES = [kind for kind in Kind if kind is not Kind.NONE]


def _agent(name: str, options: dict[str, Any] | None = None) -> Agent:
    agent: Agent = load_plugin("neuroagents", name, ("create",)).create(options or {}, 0)
    return agent


def _history(count: int, share_failed: float = 0.0, seed: int = 0) -> list[TrialRecord]:
    rng = np.random.default_rng(seed)
    proposals = _agent("random_search").propose([], count, SCHEMA, rng)
    records = []
    for index, proposal in enumerate(proposals):
        failed = rng.random() < share_failed
        records.append(
            TrialRecord(
                trial=f"r{index // N + 1:02d}t{index % N:03d}",
                round=index // N + 1,
                config=proposal.config,
                value=None if failed else float(rng.random()),
                kind=FAILURES[index % len(FAILURES)] if failed else Kind.NONE,
                metrics={} if failed else {"val_cer": 0.5},
            )
        )
    return records


def _check(agent: Agent, proposals: list[Proposal], history: list[TrialRecord], n: int) -> None:
    assert len(proposals) == n
    assert [problem for p in proposals for problem in SCHEMA.check_proposal(p.config)] == []
    for proposal in proposals:
        assert {type(value) for value in proposal.config.values()} <= {float, int, str, bool}
        for path, value in proposal.config.items():
            assert type(value).__name__ == SCHEMA[path].type
        json.dumps(dict(proposal.config), allow_nan=False)
    if not agent.repeats:
        configs = [*(p.config for p in proposals), *(record.config for record in history)]
        keys = [json.dumps(dict(config), sort_keys=True) for config in configs]
        assert len(set(keys)) == len(keys)


def test_the_folder_has_the_agents_that_studies_may_name() -> None:
    assert set(AGENTS) >= {"optuna_tpe", "random_search", "grid", "default"}


@pytest.mark.parametrize("name", AGENTS)
def test_attributes_and_signature(name: str) -> None:
    agent = _agent(name)
    assert agent.name == name
    assert isinstance(agent.repeats, bool)
    parameters = list(inspect.signature(agent.propose).parameters)
    assert parameters == ["history", "n", "schema", "rng"]
    with pytest.raises(ConfigError, match="no_such_option: unknown option"):
        _agent(name, {"no_such_option": 1})


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("n", [1, 4, N])
@pytest.mark.parametrize(
    "history",
    [[], _history(1), _history(50), _history(100, 0.3), _history(100, 1.0)],
    ids=["empty", "one", "fifty", "some_failed", "all_failed"],
)
def test_exactly_n_allowed_proposals(name: str, n: int, history: list[TrialRecord]) -> None:
    agent = _agent(name)
    before = [(r.trial, dict(r.config), r.value) for r in history]
    _check(agent, agent.propose(history, n, SCHEMA, np.random.default_rng(0)), history, n)
    assert before == [(r.trial, dict(r.config), r.value) for r in history]


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("kind", FAILURES)
def test_every_kind_of_failure_is_tolerated(name: str, kind: Kind) -> None:
    history = [
        *_history(40),
        *(TrialRecord(r.trial, 2, r.config, None, kind) for r in _history(10, seed=1)),
    ]
    agent = _agent(name)
    _check(agent, agent.propose(history, 4, SCHEMA, np.random.default_rng(0)), history, 4)


@pytest.mark.parametrize("name", AGENTS)
def test_proposals_follow_from_history_and_generator_alone(name: str) -> None:
    history = _history(60, 0.2)
    used = _agent(name)
    used.propose(_history(70, seed=5), 4, SCHEMA, np.random.default_rng(9))
    first = used.propose(history, 10, SCHEMA, np.random.default_rng(1))
    again = _agent(name).propose(list(history), 10, SCHEMA, np.random.default_rng(1))
    assert [p.config for p in first] == [p.config for p in again]


@pytest.mark.parametrize("name", sorted(set(AGENTS) - {"grid", "default"}))
@pytest.mark.parametrize("count", [0, 60])
def test_another_round_gets_other_proposals(name: str, count: int) -> None:
    history = _history(count)
    first = _agent(name).propose(history, 10, SCHEMA, np.random.default_rng([7, 1]))
    second = _agent(name).propose(history, 10, SCHEMA, np.random.default_rng([7, 2]))
    assert not {json.dumps(dict(p.config)) for p in first} & {
        json.dumps(dict(p.config)) for p in second
    }


@pytest.mark.parametrize("name", AGENTS)
def test_a_late_round_is_proposed_in_time(name: str) -> None:
    history = _history(450, 0.1)
    agent = _agent(name)
    agent.propose([], 1, SCHEMA, np.random.default_rng(0))
    start = time.perf_counter()
    proposals = agent.propose(history, N, SCHEMA, np.random.default_rng(1))
    assert time.perf_counter() - start < MAX_SECONDS
    _check(agent, proposals, history, N)


_WATCHED = """
import json, os, sys
import numpy as np
from neurosweep.core.plugins import load_plugin
from neurosweep.core.schema import Schema
from neurosweep.records.agent_api import TrialRecord

name, given = sys.argv[1], json.load(sys.stdin)
schema = Schema.from_json(given["schema"])
history = [TrialRecord(f"t{i}", 1, *told) for i, told in enumerate(given["told"])]
agent = load_plugin("neuroagents", name).create({}, 0)
agent.propose(history, 10, schema, np.random.default_rng(0))  # whatever is imported late is now
seen = []
watched = ("open", "os.", "socket.", "subprocess.", "shutil.", "sqlite3.", "ctypes", "import")
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(watched) else None)
agent.propose(history, 10, schema, np.random.default_rng(1))
watched = ()
print(json.dumps(sorted(set(seen))))
"""


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_touches_no_file_socket_or_process(name: str, tmp_path: Path) -> None:
    told = [(dict(record.config), record.value) for record in _history(60)]
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, name],
        input=json.dumps({"schema": SCHEMA.to_json(), "told": told}),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert list(tmp_path.iterdir()) == []


_LIGHT = """
import sys
import neuroagents.NAME
heavy = {"optuna", "scipy", "torch", "mlflow", "pandas", "matplotlib", "jiwer"}
print(*sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("name", AGENTS)
def test_importing_an_agent_imports_nothing_heavy(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT.replace("NAME", name)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == []
