"""Load who proposes, and what fills a round when the agent cannot."""

from __future__ import annotations

from neurosweep.core.plugins import load_plugin
from neurosweep.records.agent_api import Agent
from neurosweep.records.spec import StudySpec
from neurosweep.research.seeds import sampler_seed

PACKAGE = "neuroagents"


def load_agent(spec: StudySpec) -> Agent:
    """Return the agent of a study.

    Raises
    ------
    PluginError
        When there is no such agent.
    ConfigError
        When it refuses its options.
    """
    return _create(spec.agent.name, dict(spec.agent.options), spec.seed)


def load_fallback(spec: StudySpec) -> Agent | None:
    """Return what fills a round after too many refused answers; None when the study pauses."""
    if spec.agent.fallback == "pause":
        return None
    return _create(spec.agent.fallback, {}, spec.seed)


def _create(name: str, options: dict[str, object], seed: int) -> Agent:
    module = load_plugin(PACKAGE, name, needs=("create",))
    agent: Agent = module.create(options, sampler_seed(seed, 0))
    return agent
