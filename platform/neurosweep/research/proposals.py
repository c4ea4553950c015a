"""Ask an agent for a round, refuse what is wrong with all reasons, and fall back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neurosweep.core.errors import ErrorRecord
from neurosweep.core.files import canonical_json
from neurosweep.core.schema import Schema, Value
from neurosweep.records.agent_api import Agent, Proposal, TrialRecord
from neurosweep.records.state import StudyState
from neurosweep.records.trial import Kind, Purpose

logger = logging.getLogger(__name__)

MAX_ANSWERS = 3
_MAX_REASONS = 60
_MAX_REASON_CHARACTERS = 300
_FALLBACK_DRAWS = 20

RngFactory = Callable[[int], np.random.Generator]


@runtime_checkable
class _Told(Protocol):
    """An agent that wants to know why an answer was refused."""

    def refused(self, reasons: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Accepted:
    """Hold one proposal of a fixed round.

    Attributes
    ----------
    config
        A value for every exposed path.
    idea
        What is tried, in words.
    source
        ``agent``, ``fallback`` or ``clone``.
    """

    config: dict[str, Value]
    idea: str = ""
    source: str = "agent"


@dataclass
class Turn:
    """Hold how a round was proposed.

    Attributes
    ----------
    accepted
        The proposals in the order of their submission; fewer than asked when the agent was
        refused too often and no fallback was allowed.
    refused
        The reasons of every refused answer.
    fallback
        How many proposals came from the fallback.
    """

    accepted: list[Accepted] = field(default_factory=list)
    refused: list[list[str]] = field(default_factory=list)
    fallback: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return counts and reasons as JSON data."""
        return {
            "accepted": len(self.accepted) - self.fallback,
            "refused": self.refused,
            "fallback": self.fallback,
        }


class Validator:
    """Judge proposals against a schema and everything proposed before.

    Parameters
    ----------
    schema
        The exposed fields.
    earlier
        Configurations already used by the study.
    repeats
        Whether a configuration may occur more than once.
    """

    def __init__(
        self, schema: Schema, earlier: Sequence[Mapping[str, Value]], *, repeats: bool = False
    ) -> None:
        self._schema = schema
        self._repeats = repeats
        self._used = {config_key(self.normal(config)) for config in earlier}

    def judge(self, answer: object, n: int) -> tuple[list[Accepted], list[str]]:
        """Return the good proposals of an answer and every reason against it."""
        if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
            return [], [f"the answer is {type(answer).__name__}, expected a list of {n} proposals"]
        reasons = [] if len(answer) == n else [f"{len(answer)} proposals, exactly {n} are expected"]
        good: list[Accepted] = []
        seen: dict[str, int] = {}
        for index, proposal in _by_priority(answer):
            problems = self._problems(index, proposal, seen)
            if problems:
                reasons += [f"proposal {index}: {problem}" for problem in problems]
            else:
                good.append(Accepted(self.normal(proposal.config), str(proposal.idea)[:500]))
        return good[:n], reasons

    def _problems(self, index: int, proposal: Any, seen: dict[str, int]) -> list[str]:
        if not isinstance(proposal, Proposal) or not isinstance(proposal.config, Mapping):
            return [f"is {type(proposal).__name__}, expected a Proposal with a mapping"]
        problems = self._schema.check_proposal(proposal.config)
        if problems or self._repeats:
            return problems
        key = config_key(self.normal(proposal.config))
        if key in self._used:
            return ["repeats a configuration of an earlier round"]
        if key in seen:
            return [f"repeats proposal {seen[key]}"]
        seen[key] = index
        return []

    def fresh(self, candidates: Sequence[Accepted], taken: Sequence[Accepted]) -> list[Accepted]:
        """Return the candidates that repeat nothing used, taken or listed before them."""
        used = self._used | {config_key(item.config) for item in taken}
        kept: list[Accepted] = []
        for item in candidates:
            key = config_key(item.config)
            if key not in used:
                used.add(key)
                kept.append(item)
        return kept

    def normal(self, config: Mapping[str, Value]) -> dict[str, Value]:
        """Return a configuration in the schema's order, with integers of float fields as floats."""
        return {
            path: float(value) if field.type == "float" and isinstance(value, int) else value
            for path, field in self._schema.items()
            if (value := config.get(path)) is not None
        }


def config_key(config: Mapping[str, Value]) -> str:
    """Return a text that is equal for equal configurations."""
    return canonical_json(dict(config))


def history_of(state: StudyState) -> list[TrialRecord]:
    """Return the search trials of a study, in planned order: all an agent may know.

    Where slots are refilled at once, those that have not ended are among them, as pending.
    """
    return [
        TrialRecord(
            trial=trial.plan.trial,
            round=trial.plan.round,
            config=trial.plan.overrides,
            value=state.value(trial),
            kind=trial.kind if trial.phase.final else Kind.NONE,
            metrics=trial.metrics,
            minimize=state.minimize,
            pending=not trial.phase.final,
        )
        for trial in state.of(Purpose.SEARCH)
        if trial.phase.final or state.asynchronous
    ]


def ask(
    agent: Agent,
    history: Sequence[TrialRecord],
    n: int,
    schema: Schema,
    rng_of: RngFactory,
    fallback: Agent | None,
) -> Turn:
    """Return a round of proposals.

    Parameters
    ----------
    agent
        Who proposes.
    history
        Ended search trials.
    n
        Proposals wanted.
    schema
        Exposed fields.
    rng_of
        Gives the random generator of the answer with a number.
    fallback
        Fills what is missing after `MAX_ANSWERS` refused answers; None leaves it missing.

    Notes
    -----
    An answer is refused as a whole, with all reasons. Of the last refused answer the good
    proposals are kept; the fallback only adds what they lack.
    """
    validator = Validator(
        schema, [r.config for r in history], repeats=bool(getattr(agent, "repeats", False))
    )
    turn = Turn()
    for answer in range(MAX_ANSWERS):
        good, reasons = _answer(agent, history, n, schema, rng_of(answer), validator)
        if not reasons:
            turn.accepted = good
            return turn
        turn.refused.append(_capped(reasons))
        turn.accepted = good
        logger.warning("answer %d of agent %s refused: %s", answer + 1, agent.name, reasons[0])
        if isinstance(agent, _Told):
            agent.refused(reasons)
    if fallback is not None:
        added = _fill(fallback, history, n - len(turn.accepted), schema, rng_of, turn, validator)
        turn.fallback = len(added)
        turn.accepted = turn.accepted + added
    return turn


def _answer(
    agent: Agent,
    history: Sequence[TrialRecord],
    n: int,
    schema: Schema,
    rng: np.random.Generator,
    validator: Validator,
) -> tuple[list[Accepted], list[str]]:
    try:
        answer = agent.propose(history, n, schema, rng)
    except Exception as error:
        logger.debug("agent %s raised", agent.name, exc_info=True)
        record = ErrorRecord.of(error)
        return [], [f"the agent raised {record.type}: {record.text}"]
    return validator.judge(answer, n)


def _fill(
    fallback: Agent,
    history: Sequence[TrialRecord],
    missing: int,
    schema: Schema,
    rng_of: RngFactory,
    turn: Turn,
    validator: Validator,
) -> list[Accepted]:
    added: list[Accepted] = []
    for draw in range(_FALLBACK_DRAWS):
        if len(added) == missing:
            break
        rng = rng_of(MAX_ANSWERS + draw)
        drawn = fallback.propose(history, missing - len(added), schema, rng)
        items = [Accepted(validator.normal(p.config), p.idea, "fallback") for p in drawn]
        # A small space has too few points: repeats are better than a round that never fills.
        last = draw == _FALLBACK_DRAWS - 1
        added += items if last else validator.fresh(items, turn.accepted + added)
    return added[:missing]


def _by_priority(answer: Sequence[Any]) -> list[tuple[int, Any]]:
    def priority(item: tuple[int, Any]) -> float:
        value = getattr(item[1], "priority", 0.0)
        return -float(value) if isinstance(value, int | float) else 0.0

    return sorted(enumerate(answer), key=priority)


def _capped(reasons: list[str]) -> list[str]:
    shown = [reason[:_MAX_REASON_CHARACTERS] for reason in reasons[:_MAX_REASONS]]
    rest = len(reasons) - len(shown)
    return [*shown, f"and {rest} more"] if rest else shown
