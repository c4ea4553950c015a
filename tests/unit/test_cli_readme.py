"""What the README tells people to type exists."""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from neurosweep.cli.app import VERBS, build_parser
from neurosweep.cli.exits import MEANINGS
from neurosweep.cli.gates import NAMES, parse_condition
from neurosweep.cli.parser import parse
from neurosweep.core.config import fields_of, validate
from neurosweep.core.schema import FieldSpec, Schema
from neurosweep.exec.profiles import Profile
from neurosweep.pipeline.spec import load_pipeline
from neurosweep.records.agent_api import TrialRecord
from neurosweep.records.spec import StudySpec
from neurosweep.research.arena import read_arena_toml

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
SLURM = (REPO / "slurm/README.md").read_text(encoding="utf-8")
_ACTIONS = re.compile(
    r"show|start|resume|status|pause|cancel|report|confirm|make|prepare|check|info"
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str, text: str = README) -> list[str]:
    return [body for name, body in _BLOCK.findall(text) if name == language]


def commands() -> Iterator[str]:
    """Yield every neurosweep command line of the texts, prose and workflow included."""
    lines = [
        line for text in (README, SLURM) for b in blocks("bash", text) for line in b.split("\n")
    ]
    lines += [step["run"] for step in _workflow_steps() if "run" in step]
    lines += re.findall(r"`(neurosweep [^`]+)`", README + SLURM)
    for line in lines:
        for part in line.split(" && "):
            words = part.strip().removeprefix(".venv/bin/")
            if words.startswith("neurosweep "):
                yield words


def _workflow_steps() -> list[dict[str, str]]:
    (text,) = blocks("yaml")
    steps: list[dict[str, str]] = yaml.safe_load(text)["jobs"]["study"]["steps"]
    return steps


def test_there_are_commands_of_every_verb() -> None:
    assert {command.split()[1] for command in commands()} >= set(VERBS)


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_is_understood(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    if words[0] in ("study", "data") and (len(words) == 1 or "|" in words[1]):
        return
    if _ACTIONS.fullmatch(words[-1]):
        words.append("x")
    args = parse(build_parser(words[0]), words)
    for text in getattr(args, "fail_if", []):
        parse_condition(text)


def test_both_command_lines_do_all_the_setting_up() -> None:
    lines = [line for body in blocks("bash") for line in body.splitlines() if "venv" in line]
    demo, tests = lines
    start = "python3.11 -m venv .venv && .venv/bin/pip install -c constraints.txt -e "
    assert demo == f"{start}. && .venv/bin/neurosweep demo"
    assert tests.startswith(f"{start}'.[test]' && .venv/bin/python -m pytest")
    assert "--extra-index-url URL" in README


def test_every_toml_is_what_it_claims_to_be(tmp_path: Path) -> None:
    seen = []
    for text in blocks("toml"):
        data = tomllib.loads(text)
        path = tmp_path / "example.toml"
        path.write_text(text, encoding="utf-8")
        kind = next((k for k in ("arms", "stages", "recipe") if k in data), "profile")
        checks: dict[str, Callable[[], object]] = {
            "arms": lambda path=path: read_arena_toml(path),
            "stages": lambda path=path: load_pipeline(path),
            "recipe": lambda data=data: validate(StudySpec, data, "README.md"),
            "profile": lambda data=data: validate(Profile, data, "README.md"),
        }
        checks[kind]()
        seen.append(kind)
    assert seen == ["recipe", "arms", "stages", "profile"]


def test_the_fields_of_the_example_study_exist() -> None:
    from neurodecode.recipe import load_recipe

    data = tomllib.loads(blocks("toml")[0])
    recipe = load_recipe(data["recipe"], {})
    Schema(recipe.schema().values()).exposed(data["search"]["exposed"], data["search"]["override"])


def test_the_example_agent_proposes_within_the_ranges() -> None:
    code = next(text for text in blocks("python") if "class Nearby" in text)
    namespace: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), namespace)
    create = namespace["create"]
    assert callable(create)
    agent = create({}, 0)
    schema = Schema(
        [
            FieldSpec("lr", "float", low=1e-4, high=1e-2, log=True, default=1e-3),
            FieldSpec("kind", "str", choices=("a", "b"), default="a"),
            FieldSpec("size", "int", low=1, high=9, default=4),
        ]
    )
    best = {"lr": 1e-2, "kind": "b", "size": 9}
    history = [TrialRecord("r01t000", 1, best, 0.2), TrialRecord("r01t001", 1, best, None)]
    for known in ([], history):
        proposals = agent.propose(known, 5, schema, np.random.default_rng(0))
        assert len(proposals) == 5
        assert [schema.check_proposal(proposal.config) for proposal in proposals] == [[]] * 5
    assert proposals[0].config["kind"] == "b"


def test_the_example_model_declares_its_ranges() -> None:
    code = next(text for text in blocks("python") if "class Config" in text)
    namespace: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), namespace)
    fields = {field.path: field for field in fields_of(namespace["Config"])}  # type: ignore[arg-type]
    assert (fields["hidden"].low, fields["hidden"].high, fields["hidden"].log) == (8, 512, True)
    assert fields["dropout"].searchable
    assert all(field.doc for field in fields.values())


def test_exit_codes_and_figures_are_documented() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    assert [int(code) for code, _ in rows] == list(MEANINGS)
    assert all(f"`{name}`" in README for name in NAMES)


def test_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"`((?:platform|experiments|agents|slurm|tests|\.ci)/[\w./-]*)`", README)
    assert len(named) > 5
    own = "agents/neuroagents/nearby.py"
    assert [name for name in named if name != own and not (REPO / name).exists()] == []


def test_every_bundled_recipe_is_listed() -> None:
    folder = REPO / "experiments/neurodecode/recipes"
    listed = re.findall(
        r"^\| `(\w+)` \| (?:included|simulated|`--set data.(?:path=FOLDER|events=TABLE)`) \|",
        README,
        re.MULTILINE,
    )
    assert sorted(listed) == sorted(path.stem for path in folder.glob("*.toml"))


def test_the_readme_speaks_of_no_particular_machine() -> None:
    assert not re.search(r"/work/|/root/|https?://(?!127\.0\.0\.1)", README)
