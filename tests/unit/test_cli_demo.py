"""The demos: what they search, and what they say can be done next."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from _study_builder import StudyBuilder

from neurosweep.cli.app import build_parser
from neurosweep.cli.parser import parse
from neurosweep.cli.verbs.demo import _next_steps, demo_study
from neurosweep.core.config import validate
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.fold import load_state
from neurosweep.records.spec import StudySpec
from neurosweep.research.best import running_best


@pytest.mark.parametrize(
    ("eeg", "name", "recipe", "stage"),
    [(False, "demo", "sentences_llm", "llm"), (True, "demo-eeg", "speller", None)],
)
def test_both_demos_search_two_rounds_of_fifty_after_a_floor_of_five(
    eeg: bool, name: str, recipe: str, stage: str | None
) -> None:
    spec = validate(StudySpec, demo_study(eeg=eeg), "demo")
    assert (spec.name, spec.recipe, spec.stage, spec.seed) == (name, recipe, stage, 1)
    assert (spec.budget.rounds, spec.budget.trials_per_round) == (2, 50)
    assert (spec.budget.trial_minutes, spec.reserve.floor) == (5.0, 5)
    assert (spec.agent.name, spec.execution.on) == ("optuna_tpe", "local")


class _Simulated(StudyBuilder):
    def _created(self) -> dict[str, Any]:
        created = super()._created()
        created["data_info"]["recordings_folder"] = "simulated/typing"
        return created


@pytest.fixture
def study(tmp_path: Path) -> StudyDir:
    builder = _Simulated(Home(tmp_path), rounds=1, per_round=6, floor=1)
    builder.create()
    builder.run_round(0)
    builder.run_round(1)
    return builder.dir


def test_the_next_steps_can_be_typed(study: StudyDir, tmp_path: Path) -> None:
    folder = tmp_path / "simulated" / "typing" / "sub 01"
    assert not any("decode" in step for step in _next_steps(study, "", eeg=False))
    folder.mkdir(parents=True)
    for name in ("run-02_meg.fif", "run-01_meg.fif", "run-01_events.tsv"):
        (folder / name).touch()
    assert not any("decode" in step for step in _next_steps(study, "", eeg=False))
    state = load_state(study)
    best = running_best(state)
    assert best is not None
    study.trial(best.trial).attempt(state.trials[best.trial].attempts[-1].number).ckpt.mkdir()
    steps = _next_steps(study, " --home 'a b'", eeg=False)
    for step in steps:
        words = shlex.split(step, comments=True)[1:]
        args = parse(build_parser(words[0]), words)
        if words[0] == "decode":
            assert args.recording == folder / "run-01_meg.fif"
            assert args.run == f"{study.study_id}/{best.trial}"
    assert [step.split()[1] for step in steps] == ["decode", "sweep", "doctor", "demo"]
    assert [s.split()[1] for s in _next_steps(study, "", eeg=True)][-1] == "doctor"


def test_the_values_that_are_suggested_are_allowed() -> None:
    from neurodecode.recipe import load_recipe

    for recipe, path, values in (
        ("sentences_llm", "llm.lora_rank", [4, 16]),
        ("speller", "training.learning_rate", [1e-3, 3e-3]),
    ):
        load_recipe(recipe, {}).schema().exposed([path], {path: {"choices": values}})
