"""The TPE agent: what it is told, that it learns, and that nothing but the history counts."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest

from neuroagents import optuna_tpe, random_search
from neuroagents.optuna_tpe import completed, create, distribution, told_trials
from neurosweep.core.errors import ConfigError, MissingPackageError
from neurosweep.core.schema import FieldSpec, Schema
from neurosweep.records.agent_api import Agent, TrialRecord
from neurosweep.records.trial import POLICY, Kind

SCHEMA = Schema(
    [
        FieldSpec("training.learning_rate", "float", 1e-6, 1e-1, True, default=1e-4),
        FieldSpec("training.weight_decay", "float", 1e-6, 1e-1, True, default=1e-2),
        FieldSpec("model.rank", "int", 1, 64, True, default=8),
        FieldSpec("training.batch_size", "int", choices=(8, 16, 32, 64), default=16),
    ]
)
BAD = {Kind.OOM_HOST, Kind.OOM_GPU, Kind.TIME_LIMIT, Kind.DIVERGED}


def _error(config: Any) -> float:
    rate = math.log10(config["training.learning_rate"] / 3e-3)
    decay = math.log10(config["training.weight_decay"] / 1e-3)
    rank = math.log2(config["model.rank"] / 16)
    batch = math.log2(config["training.batch_size"] / 32)
    return 0.1 * rate**2 + 0.03 * decay**2 + 0.02 * rank**2 + 0.02 * abs(batch)


def _search(
    agent: Agent, seed: int, rounds: int = 2, value: Callable[[Any], float] = _error
) -> list[TrialRecord]:
    history: list[TrialRecord] = []
    for number in range(1, rounds + 1):
        rng = np.random.default_rng([seed, number])
        proposals = agent.propose(history, 50, SCHEMA, rng)
        history += [
            TrialRecord(f"r{number:02d}t{i:03d}", number, p.config, value(p.config))
            for i, p in enumerate(proposals)
        ]
    return history


def _records(count: int, seed: int = 0, **changes: Any) -> list[TrialRecord]:
    proposals = random_search.create({}, 0).propose([], count, SCHEMA, np.random.default_rng(seed))
    return [
        TrialRecord(f"t{i}", 1, p.config, **({"value": _error(p.config)} | changes))
        for i, p in enumerate(proposals)
    ]


def test_tpe_beats_random_search_in_the_median() -> None:
    tpe, drawn = create({}, 0), random_search.create({}, 0)
    pairs = [
        (
            min(r.value for r in _search(agent, seed) if r.value is not None)
            for agent in (tpe, drawn)
        )
        for seed in range(7)
    ]
    of_tpe, of_random = zip(*pairs, strict=True)
    assert statistics.median(of_tpe) < 0.7 * statistics.median(of_random)


def test_a_maximizing_study_climbs() -> None:
    history = [
        TrialRecord(r.trial, 1, r.config, -_error(r.config), minimize=False) for r in _records(60)
    ]
    proposals = create({}, 0).propose(history, 30, SCHEMA, np.random.default_rng(0))
    before = statistics.median(_error(record.config) for record in history)
    assert statistics.median(_error(p.config) for p in proposals) < 0.6 * before


def _told(history: Sequence[TrialRecord]) -> list[Any]:
    return told_trials(history, SCHEMA, {path: distribution(f) for path, f in SCHEMA.items()})


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NONE])
def test_failures_count_by_their_kind(kind: Kind) -> None:
    scored = _records(10)
    told = _told([*scored, *_records(5, seed=1, value=None, kind=kind)])
    pruned = [t for t in told if t.state is optuna.trial.TrialState.PRUNED]
    assert len(pruned) == (5 if kind in BAD else 0)
    assert len(told) == 10 + len(pruned)
    assert (POLICY[kind].sampler == "bad") == (kind in BAD)


def test_a_value_that_is_no_number_is_not_told() -> None:
    assert _told(_records(3, value=float("nan"))) == []
    assert _told(_records(3, value=float("inf"))) == []
    assert len(_told(_records(3, value=float("nan"), kind=Kind.DIVERGED) + _records(1))) == 4


def test_many_failures_never_become_good_examples() -> None:
    failed = _records(100, seed=1, value=None, kind=Kind.OOM_GPU)
    assert _told(failed) == []
    told = _told([*failed, *_records(3)])
    num_scored = sum(t.state is optuna.trial.TrialState.COMPLETE for t in told)
    assert num_scored == 3
    assert math.ceil(0.1 * len(told)) <= num_scored
    assert [dict(t.params) for t in told[:-3]] == [dict(r.config) for r in failed[-27:]]


def test_proposals_avoid_a_region_that_fails() -> None:
    def outcome(record: TrialRecord) -> TrialRecord:
        if float(record.config["training.learning_rate"]) < 1e-4:
            return record
        return TrialRecord(record.trial, 1, record.config, None, Kind.DIVERGED)

    history = [outcome(record) for record in _records(100)]
    proposals = create({}, 0).propose(history, 50, SCHEMA, np.random.default_rng(0))
    failing = sum(float(p.config["training.learning_rate"]) >= 1e-4 for p in proposals)
    assert failing <= 15  # a third; random search has three fifths


def test_earlier_trials_are_seen_with_the_fields_of_today() -> None:
    added = Schema(
        [
            *SCHEMA.values(),
            FieldSpec("model.dropout", "float", 0.0, 0.5, default=0.2, off=0.0),
            FieldSpec("model.depth", "int", 1, 4, default=2),
        ]
    )
    config = _records(1)[0].config
    assert completed(config, added) == {**config, "model.dropout": 0.0, "model.depth": 2}
    narrowed = SCHEMA.exposed(SCHEMA, {"training.batch_size": {"choices": [8, 16]}})
    assert completed({**config, "training.batch_size": 64}, narrowed) is None
    assert completed({**config, "training.batch_size": 8}, narrowed) is not None
    without_default = Schema([FieldSpec("new", "int", 1, 4)])
    assert completed(config, without_default) is None


def test_a_changed_schema_is_proposed_from() -> None:
    history = _records(60)
    narrowed = SCHEMA.exposed(
        ["training.learning_rate", "model.rank"], {"model.rank": {"low": 30, "high": 40}}
    )
    changed = Schema([*narrowed.values(), FieldSpec("new.flag", "bool", default=False)])
    proposals = create({}, 0).propose(history, 20, changed, np.random.default_rng(0))
    assert [problem for p in proposals for problem in changed.check_proposal(p.config)] == []
    assert {p.config["new.flag"] for p in proposals} == {False, True}


def test_a_small_space_is_used_up_before_anything_repeats() -> None:
    schema = Schema(
        [FieldSpec("k", "str", choices=("a", "b", "c", "d")), FieldSpec("n", "int", 1, 15)]
    )
    history = [
        TrialRecord(f"t{i}", 1, {"k": "abcd"[i % 4], "n": 1 + i // 4}, float(i)) for i in range(40)
    ]
    proposals = create({}, 0).propose(history, 20, schema, np.random.default_rng(0))
    keys = {(p.config["k"], p.config["n"]) for p in proposals}
    keys |= {(r.config["k"], r.config["n"]) for r in history}
    assert len(keys) == 60
    more = create({}, 0).propose(history, 30, schema, np.random.default_rng(0))
    assert len(more) == 30


def test_a_field_of_one_value_is_kept() -> None:
    schema = Schema([FieldSpec("x", "float", 0.5, 0.5), *SCHEMA.values()])
    proposals = create({}, 0).propose([], 5, schema, np.random.default_rng(0))
    assert {p.config["x"] for p in proposals} == {0.5}


def test_optuna_is_as_quiet_and_as_loud_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    create({}, 0).propose(_records(40), 3, SCHEMA, np.random.default_rng(0))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_startup_trial": 3}, "did you mean 'n_startup_trials'"),
        ({"n_startup_trials": "3"}, "n_startup_trials: is '3', expected int"),
        ({"n_startup_trials": True}, "n_startup_trials: is True, expected int"),
        ({"n_startup_trials": 0}, "n_startup_trials: is 0"),
        ({"constant_liar": 1}, "constant_liar: is 1, expected bool"),
        ({"multivariate": False}, "group: needs multivariate = true"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        create(options, 0)


def test_reference_settings_reach_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    real = optuna.samplers.TPESampler

    def spy(**settings: Any) -> optuna.samplers.TPESampler:
        given.update(settings)
        return real(**settings)

    monkeypatch.setattr(optuna.samplers, "TPESampler", spy)
    create({"n_startup_trials": 5}, 0).propose([], 1, SCHEMA, np.random.default_rng(0))
    assert given.pop("seed") >= 0
    assert given == {**optuna_tpe.REFERENCE_SETTINGS, "n_startup_trials": 5}
    assert optuna_tpe.REFERENCE_SETTINGS["n_startup_trials"] == 32


def test_earlier_proposals_of_a_round_are_running_for_the_liar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running: list[int] = []
    real = optuna.study.Study.ask

    def spy(self: optuna.Study, **options: Any) -> optuna.trial.Trial:
        states = (optuna.trial.TrialState.RUNNING,)
        trials = self.get_trials(deepcopy=False, states=states)
        running.append(sum(set(t.params) == set(SCHEMA) for t in trials))
        return real(self, **options)

    monkeypatch.setattr(optuna.study.Study, "ask", spy)
    create({}, 0).propose(_records(40), 5, SCHEMA, np.random.default_rng(0))
    assert running == [0, 1, 2, 3, 4]


def test_without_optuna_there_is_no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuroagents.optuna_tpe.find_spec", lambda _name: None)
    with pytest.raises(MissingPackageError, match="pip install optuna"):
        create({}, 0)


def test_trials_that_still_run_are_running_for_the_sampler() -> None:
    history = [*_records(40), *_records(3, seed=1, value=None, pending=True)]
    states = [trial.state for trial in _told(history)]
    assert states.count(optuna.trial.TrialState.RUNNING) == 3
    assert states.count(optuna.trial.TrialState.COMPLETE) == 40
    proposals = create({}, 0).propose(history, 4, SCHEMA, np.random.default_rng(0))
    assert all(dict(p.config) != dict(r.config) for p in proposals for r in history)
