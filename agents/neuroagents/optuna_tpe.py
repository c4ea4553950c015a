"""Optuna's TPE sampler with the settings of the reference search.

The reference settings are ``multivariate``, ``group``, ``constant_liar`` and
``n_startup_trials = 32``. They were first used with Optuna 4; Optuna 5 rewrote the bandwidth of
the multivariate kernel, so proposals are not those of that search, though the settings are.

How a failed trial counts follows its kind. A configuration that needed too much memory or time,
or diverged, is told as worse than every scored one. An ending that says nothing about the
configuration (infrastructure, cancellation, an error in code) is left out.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroagents._space import Key, bounds_of, check_options, choices_of, draw_new, key_of, plain
from neurosweep.core.errors import ConfigError, MissingPackageError
from neurosweep.core.schema import FieldSpec, Schema, Value
from neurosweep.records.agent_api import Proposal, TrialRecord
from neurosweep.records.trial import POLICY

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

REFERENCE_SETTINGS: Mapping[str, Any] = {
    "n_startup_trials": 32,
    "n_ei_candidates": 24,
    "multivariate": True,
    "group": True,
    "constant_liar": True,
}
_ASKS_PER_POINT = 10
# TPE takes a tenth of what it was told as good. More failures than that for each score would make
# failures good.
_BAD_PER_SCORED = 9


class OptunaTpe:
    """Propose with a TPE study that is rebuilt from the history at every round.

    Parameters
    ----------
    settings
        Arguments of ``optuna.samplers.TPESampler``.
    """

    name = "optuna_tpe"
    repeats = False

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)

    def propose(
        self,
        history: Sequence[TrialRecord],
        n: int,
        schema: Schema,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """Return `n` configurations that differ from each other and from the history.

        The sampler knows the earlier ones of this answer as running trials, which its constant
        liar keeps away from. Only when the space is used up do configurations repeat.
        """
        distributions = {path: distribution(field) for path, field in schema.items()}
        with _quiet():
            study = self._study(history, schema, distributions, rng)
            used = {key_of(record.config, schema) for record in history}
            return [
                Proposal(_ask_new(study, schema, distributions, rng, used), "proposed by TPE")
                for _ in range(n)
            ]

    def _study(
        self,
        history: Sequence[TrialRecord],
        schema: Schema,
        distributions: dict[str, BaseDistribution],
        rng: np.random.Generator,
    ) -> Study:
        import optuna

        sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**32)), **self._settings)
        maximize = any(not record.minimize for record in history)
        study = optuna.create_study(
            sampler=sampler, direction="maximize" if maximize else "minimize"
        )
        study.add_trials(told_trials(history, schema, distributions))
        return study


def told_trials(
    history: Sequence[TrialRecord], schema: Schema, distributions: Mapping[str, BaseDistribution]
) -> list[FrozenTrial]:
    """Return what the sampler is told of a history, in its order; pending ones as running.

    A field that a trial does not have, because it was added later, has its off value or default
    there. A trial whose values are no longer allowed is left out.

    Parameters
    ----------
    history
        Ended trials.
    schema
        The exposed fields of today.
    distributions
        Path to its Optuna distribution.
    """
    from optuna.trial import TrialState, create_trial

    told: list[tuple[bool, FrozenTrial]] = []
    for record in history:
        params = completed(record.config, schema)
        scored = record.value is not None and math.isfinite(record.value)
        bad = not scored and not record.pending and POLICY[record.kind].sampler == "bad"
        if params is None or not (scored or bad or record.pending):
            continue
        state = TrialState.COMPLETE if scored else TrialState.PRUNED
        trial = create_trial(
            params=params,
            distributions=dict(distributions),
            value=record.value if scored else None,
            state=TrialState.RUNNING if record.pending else state,
        )
        told.append((bad, trial))
    num_scored = sum(trial.state is TrialState.COMPLETE for _, trial in told)
    skipped = max(0, sum(bad for bad, _ in told) - _BAD_PER_SCORED * num_scored)
    kept: list[FrozenTrial] = []
    for bad, trial in told:
        if bad and skipped > 0:
            skipped -= 1
        else:
            kept.append(trial)
    return kept


def completed(config: Mapping[str, Value], schema: Schema) -> dict[str, Value] | None:
    """Return an earlier configuration with the fields of today, or None when it is not allowed."""
    params: dict[str, Value] = {}
    for path, field in schema.items():
        absent = field.default if field.off is None else field.off
        value = config.get(path, absent)
        if value is None or field.check(value) is not None:
            return None
        params[path] = float(value) if field.type == "float" else value
    return params


def distribution(field: FieldSpec) -> BaseDistribution:
    """Return the Optuna distribution of a field.

    Raises
    ------
    ConfigError
        When the field declares neither a range nor choices.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    choices = choices_of(field)
    if choices is not None:
        return CategoricalDistribution(choices)
    low, high = bounds_of(field)
    if field.type == "int":
        return IntDistribution(math.ceil(low), math.floor(high), log=field.log)
    return FloatDistribution(low, high, log=field.log)


def _ask_new(
    study: Study,
    schema: Schema,
    distributions: dict[str, BaseDistribution],
    rng: np.random.Generator,
    used: set[Key],
) -> dict[str, Value]:
    for _ in range(_ASKS_PER_POINT):
        # A repetition stays in the study as a running trial, so that the liar moves on.
        trial = study.ask(fixed_distributions=distributions)
        config = {
            path: trial.params[path] if choices_of(field) else plain(field, trial.params[path])
            for path, field in schema.items()
        }
        key = key_of(config, schema)
        if key not in used:
            used.add(key)
            return config
    return draw_new(schema, rng, used)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's notes on new studies and on `group` being experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def create(options: Mapping[str, Any], seed: int) -> OptunaTpe:
    """Return the agent.

    Parameters
    ----------
    options
        Changes to `REFERENCE_SETTINGS`.
    seed
        Not used: the generator that comes with every round is seeded from the study and the
        round. A sampler made anew with one constant seed would propose the same points again.

    Raises
    ------
    ConfigError
        When an option is unknown or not of its type.
    MissingPackageError
        When Optuna is not installed: a study must not turn into its fallback unasked.
    """
    del seed
    if find_spec("optuna") is None:
        msg = "the agent optuna_tpe needs the package 'optuna'; install it with: pip install optuna"
        raise MissingPackageError(msg)
    check_options("optuna_tpe", options, REFERENCE_SETTINGS)
    problems = [
        f"{key}: is {value!r}, expected {type(REFERENCE_SETTINGS[key]).__name__}"
        for key, value in options.items()
        if type(value) is not type(REFERENCE_SETTINGS[key])
        or (not isinstance(value, bool) and value < 1)
    ]
    settings = {**REFERENCE_SETTINGS, **options}
    if settings["group"] and not settings["multivariate"]:
        problems.append("group: needs multivariate = true; set group = false as well")
    if problems:
        raise ConfigError("[agent.options] of optuna_tpe\n  " + "\n  ".join(problems))
    return OptunaTpe(settings)
