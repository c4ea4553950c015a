"""Answers of agents: refused with all reasons, kept where good, filled up by the fallback."""

from __future__ import annotations

import numpy as np
import pytest
from _loop_kit import ListAgent, draw
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.schema import FieldSpec, Schema
from neurosweep.records.agent_api import Proposal, TrialRecord
from neurosweep.research.proposals import Validator, ask, config_key

SCHEMA = Schema(
    [
        FieldSpec("training.rate", "float", 1e-5, 1e-1, log=True, default=1e-4),
        FieldSpec("model.rank", "int", choices=(4, 8, 16), default=8),
    ]
)


def good(rate=1e-3, rank=8, **extra):
    return Proposal({"training.rate": rate, "model.rank": rank}, **extra)


def three(*rates):
    return [good(rate) for rate in rates]


def asked(agent, n=3, history=(), fallback=None, schema=SCHEMA):
    return ask(agent, history, n, schema, lambda k: np.random.default_rng([7, k]), fallback)


def record(rate, rank=8):
    return TrialRecord("r01t000", 1, {"training.rate": rate, "model.rank": rank}, 0.5)


def test_a_good_answer_is_taken_by_priority():
    answer = [good(1e-3, priority=0.0), good(1e-2, priority=5.0), good(1e-4, priority=1.0)]
    turn = asked(ListAgent([answer]))
    assert [item.config["training.rate"] for item in turn.accepted] == [1e-2, 1e-4, 1e-3]
    assert (turn.refused, turn.fallback) == ([], 0)


def test_a_refusal_names_every_problem_at_once():
    bad = [
        Proposal({"training.rat": 1.0, "model.rank": 5}),
        good(1.0),
        good(1e-3),
        good(1e-3),
        "x",
    ]
    agent = ListAgent([bad, three(1e-2, 1e-3, 1e-4)])
    turn = asked(agent)
    text = "\n".join(turn.refused[0])
    for part in (
        "5 proposals, exactly 3 are expected",
        "proposal 0: training.rat: unknown field; did you mean 'training.rate'?",
        "proposal 0: training.rate: is missing",
        "proposal 0: model.rank: is 5, not one of 4, 8, 16",
        "proposal 1: training.rate: is 1",
        "proposal 3: repeats proposal 2",
        "proposal 4: is str, expected a Proposal",
    ):
        assert part in text
    assert agent.reasons == [turn.refused[0]]
    assert len(turn.accepted) == 3


def test_a_configuration_of_an_earlier_round_is_refused_unless_the_agent_repeats():
    answer = three(1e-2, 1e-3, 1e-4)
    turn = asked(ListAgent([answer]), history=[record(1e-3)])
    assert turn.refused == [["proposal 1: repeats a configuration of an earlier round"]]
    turn = asked(ListAgent([[good()] * 3], repeats=True), history=[record(1e-3)])
    assert (turn.refused, len(turn.accepted)) == ([], 3)


def test_an_integer_for_a_float_field_is_the_same_configuration():
    schema = Schema([FieldSpec("a", "float", 0, 10)])
    answer = [Proposal({"a": 1}), Proposal({"a": 1.0})]
    good_ones, reasons = Validator(schema, []).judge(answer, 2)
    assert reasons == ["proposal 1: repeats proposal 0"]
    assert good_ones[0].config == {"a": 1.0}
    assert isinstance(good_ones[0].config["a"], float)


@pytest.mark.parametrize("answer", [None, "text", 5, {}, [None] * 3])
def test_nonsense_is_an_answer_that_is_refused(answer):
    turn = asked(ListAgent([answer] * 3))
    assert len(turn.refused) == 3
    assert turn.accepted == []


def test_an_agent_that_raises_is_refused_and_asked_again():
    agent = ListAgent([RuntimeError("no model key"), three(1e-2, 1e-3, 1e-4)])
    turn = asked(agent)
    assert turn.refused == [["the agent raised RuntimeError: no model key"]]
    assert len(turn.accepted) == 3


def test_after_three_refusals_the_fallback_adds_what_the_last_answer_lacks():
    answers = [[], [], [good(1e-2), good(1e-2), good(9.0)]]
    turn = asked(ListAgent(answers), fallback=ListAgent())
    assert [item.source for item in turn.accepted] == ["agent", "fallback", "fallback"]
    assert turn.accepted[0].config["training.rate"] == 1e-2
    assert (turn.fallback, len(turn.refused)) == (2, 3)
    assert turn.to_dict()["accepted"] == 1


def test_the_fallback_is_seeded():
    one, two = (asked(ListAgent([None] * 3), fallback=ListAgent()) for _ in range(2))
    assert [item.config for item in one.accepted] == [item.config for item in two.accepted]


def test_without_a_fallback_the_missing_stay_missing():
    turn = asked(ListAgent([[]] * 3))
    assert (turn.accepted, turn.fallback) == ([], 0)


def test_a_space_with_too_few_points_is_filled_with_repeats():
    schema = Schema([FieldSpec("model.rank", "int", choices=(4, 8), default=8)])
    turn = asked(ListAgent([None] * 3), n=5, fallback=ListAgent(), schema=schema)
    assert len(turn.accepted) == 5
    assert {item.config["model.rank"] for item in turn.accepted} == {4, 8}


def test_reasons_are_capped():
    turn = asked(ListAgent([[None] * 500, three(1e-2, 1e-3, 1e-4)]))
    assert len(turn.refused[0]) == 61
    assert turn.refused[0][-1] == "and 441 more"


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_drawn_rounds_are_accepted_whole_and_without_repeats(n, seed):
    answer = draw(n, Schema([SCHEMA["training.rate"]]), np.random.default_rng(seed))
    accepted, reasons = Validator(Schema([SCHEMA["training.rate"]]), []).judge(answer, n)
    assert reasons == []
    assert len({config_key(item.config) for item in accepted}) == n
