"""An arena is one specification with several agents; its studies are found again by name."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from _loop_kit import START, call_here

from neurosweep.core.errors import ConfigError, StudyError
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home
from neurosweep.records.fold import load_state
from neurosweep.research.arena import create_arena, open_arena, read_arena_toml
from neurosweep.testing.fake import FakeClock

TEXT = """
name = "Compare"
recipe = "instant"
entry = "neurosweep.testing"
seed = 5
[budget]
rounds = 2
trials_per_round = 3
[[arms]]
label = "one"
agent = { name = "random_search" }
[[arms]]
label = "two"
agent = { name = "default" }
"""


def arena_file(folder: Path, text: str = TEXT) -> Path:
    path = folder / "arena.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_studies_differ_in_their_agent_alone(tmp_path: Path) -> None:
    arena_spec, specs = read_arena_toml(arena_file(tmp_path))
    home = Home(tmp_path / "home")
    with (
        mock.patch("neurosweep.research.create.call_entry", call_here),
        mock.patch("neurosweep.research.describe.call_entry", call_here),
    ):
        arena = create_arena(arena_spec, specs, home, clock=FakeClock(START))
    assert list(arena.studies) == ["one", "two"]
    states = {label: load_state(study) for label, study in arena.studies.items()}
    first, second = (dict(state.created["spec"]) for state in states.values())
    assert first.pop("agent")["name"] == "random_search"
    assert second.pop("agent")["name"] == "default"
    assert (first.pop("name"), second.pop("name")) == ("Compare-one", "Compare-two")
    assert first == second
    assert states["one"].created["data_fp"] == states["two"].created["data_fp"]
    note = read_json(arena.studies["two"].root / "arena.json")
    assert (note["arena"], note["label"]) == (arena.id, "two")
    for name in (arena.id, "compare"):
        assert open_arena(home, name) == arena
    with pytest.raises(StudyError, match=f"no arena 'other' in .*; there are: {arena.id}"):
        open_arena(home, "other")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("two", "one"), "the label 'one' is used twice"),
        (("seed = 5", "[agent]\nname = 'default'\n"), r"\[agent\] is given"),
        (('label = "one"', 'label = "One!"'), r"arms\.0\.label"),
        (("rounds = 2", "rounds = 0"), r"budget\.rounds"),
        (('recipe = "instant"\n', ""), "recipe"),
        (('[[arms]]\nlabel = "two"\nagent = { name = "default" }\n', ""), "arms"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    path = arena_file(tmp_path, TEXT.replace(*change))
    with pytest.raises(ConfigError, match=reason):
        read_arena_toml(path)
