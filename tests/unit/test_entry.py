"""What the harness asks of the decoders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurodecode.entry import check, describe, info, make
from neurodecode.jobs import windows as job
from neurosweep.core.entry import resolve_entry
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.schema import Schema
from neurosweep.exec.job_api import JobContext


def test_a_recipe_is_described_as_json() -> None:
    facts = describe({"recipe": "speller", "set": {"training.epochs": 3}})
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["config"]["training"]["epochs"] == 3
    assert facts["objective"] == {"metric": "val_window_err", "direction": "minimize"}
    assert facts["stage"] == "encoder"
    assert facts["dataset"] == "noisetag_speller"
    schema = Schema.from_json(facts["schema"])
    assert schema["training.epochs"].default == 3
    assert list(schema.exposed(facts["exposed"])) == facts["exposed"]
    assert resolve_entry(facts["entry"]) is job.run


def test_what_a_job_imports_is_warmed_up() -> None:
    warm = describe({"recipe": "speller"})["warm"]
    assert warm[0] == "torch"
    code = "import sys, importlib\n"
    code += f"[importlib.import_module(name) for name in {warm}]\n"
    code += "before = set(sys.modules)\n"
    code += "from neurodecode.recipe import load_recipe\n"
    code += "from neurodecode.models.sync_conv import build\n"
    code += "from _window_stores import make_facts\n"
    code += "build(load_recipe('speller').config.model, make_facts())\n"
    code += "print(sorted(n for n in set(sys.modules) - before if n.startswith('neurodecode.mod')))"
    roots = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *filter(None, sys.path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_describing_imports_nothing_heavy() -> None:
    code = "import sys; from neurodecode.entry import describe; describe({'recipe': 'speller'})\n"
    code += "print([n for n in ('torch', 'mne', 'scipy', 'sklearn', 'pandas') if n in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_recipe_must_be_named() -> None:
    with pytest.raises(ConfigError, match="expected a bundled name or the path"):
        describe({"set": {}})


def test_nothing_is_made_of_what_was_recorded() -> None:
    assert "was recorded" in make({"recipe": "speller"})["lines"][0]


def test_the_bundled_recordings_pass_their_checks() -> None:
    answer = check({"recipe": "speller", "set": {"data.rc5x5": "none"}})
    assert answer["recordings"] == ["s01/exampledata"]
    assert all(line.endswith(": good") for line in answer["lines"])


def test_what_is_trained_on_is_told_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = info({"recipe": "speller", "set": {"data.rc5x5": "none"}})
    assert answer["parts"]["val"] == {"items": 10, "windows": 2675}
    assert answer["chance"]["val_acc"] == 0.04
    assert any("off-off" in line for line in answer["lines"])
    assert not list(tmp_path.iterdir())


def test_a_missing_recording_is_one_error() -> None:
    payload = {"recipe": "typing", "set": {"data.path": "no/such/folder"}}
    with pytest.raises(DataError, match=r"no/such/folder"):
        check(payload)


def test_a_job_takes_the_context_of_the_harness() -> None:
    assert job.run.__annotations__["ctx"] in (JobContext, "JobContext")
