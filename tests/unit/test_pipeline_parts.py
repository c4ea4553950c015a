"""Parts of pipelines: files, tasks, what is used of a configuration, artifacts, legal states."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pipeline_kit import toy, write
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import ConfigError, DataError, LedgerError
from neurosweep.core.files import sha256_bytes
from neurosweep.core.layout import AttemptDir, Home, PipelineDir
from neurosweep.exec.made import made_files
from neurosweep.pipeline.artifacts import Shelf
from neurosweep.pipeline.graph import expand, in_order
from neurosweep.pipeline.places import check_places
from neurosweep.pipeline.plan import used
from neurosweep.pipeline.spec import PipelineSpec, StageSpec, find_pipeline, load_pipeline
from neurosweep.pipeline.state import TaskPhase, fold
from neurosweep.pipeline.telling import Teller, result_lines, result_table

SUBJECTS = ["s01", "s02", "s03"]


def spec(**changes):
    return PipelineSpec.model_validate(toy(**changes))


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({"soup": {"needs": ["lroa"]}}, r"stages\.soup\.needs: no stage 'lroa'; did you mean"),
        ({"encoder": {"needs": ["decode"]}}, "go in a circle: encoder -> decode -> soup"),
        ({"soup": {"needs": ["lora", "lora"]}}, "names a stage twice"),
        ({"encoder": {"at_least": 1}}, "none of the stages it needs has foreach"),
        ({"lora": {"foreach": "subject"}}, "expected 'subjects' or a list of names"),
        ({"lora": {"foreach": ["a/b"]}}, "'a/b' is no name"),
        ({"lora": {"foreach": []}}, "must name at least one"),
        ({"lora": {"foreach": ["a", "a"]}}, "none twice"),
        ({"evaluate": {"gpus": 1}}, "'evaluate' runs in the driver"),
        ({"evaluate": {"needs": []}}, "needs stages that predict"),
        ({"soup": {"needs": ["evaluate"]}}, "scores for people"),
        ({"Soup": {"job": "make"}}, r"stages\.Soup: a name is made of"),
        ({"soup": {"minuts": 3}}, "unknown key; did you mean 'minutes'"),
        ({"soup": {"minutes": 0}}, "greater than 0"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_allowed(tmp_path, stages, said):
    with pytest.raises(ConfigError, match=said):
        load_pipeline(write(tmp_path / "p.toml", toy(stages=stages)))


def test_all_problems_are_told_at_once(tmp_path):
    stages = {"soup": {"needs": ["lroa"]}, "lora": {"foreach": []}}
    with pytest.raises(ConfigError, match="2 problems"):
        load_pipeline(write(tmp_path / "p.toml", toy(stages=stages)))


def test_unknown_keys_of_several_tables_and_wrong_needs_are_told_at_once(tmp_path):
    stages = {
        "encoder": {"minuts": 3},
        "lora": {"cores": 0, "foreach": "subject"},
        "soup": {"needs": ["lroa", "encoder"], "gpu": 1},
    }
    data = toy(stages=stages, worker=3)
    del data["recipe"]
    with pytest.raises(ConfigError, match="7 problems") as told:
        load_pipeline(write(tmp_path / "p.toml", data))
    lines = [line.strip() for line in str(told.value).splitlines()]
    assert lines[0] == f"{tmp_path / 'p.toml'}: 7 problems"
    for wanted in (
        "worker: unknown key; did you mean 'workers'?",
        "recipe: is missing",
        "stages.encoder.minuts: unknown key; did you mean 'minutes'?",
        "stages.lora.cores: Input should be greater than or equal to 1",
        "stages.lora.foreach: is 'subject', expected",
        "stages.soup.gpu: unknown key; did you mean 'gpus'?",
        "stages.soup.needs: no stage 'lroa'; did you mean 'lora'?",
    ):
        assert any(line.startswith(wanted) for line in lines), wanted


def test_a_stage_without_a_job_hides_nothing_else(tmp_path):
    data = toy(stages={"soup": {"needs": ["lroa"]}})
    del data["stages"]["lora"]["job"]
    with pytest.raises(ConfigError, match="2 problems") as told:
        load_pipeline(write(tmp_path / "p.toml", data))
    assert "stages.lora.job: is missing" in str(told.value)


@pytest.mark.parametrize("text", ["stages = 3\n", "[stages]\nsoup = 3\n", "name = 3\n"])
def test_a_file_of_another_shape_is_refused_in_words(tmp_path, text):
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"p\.toml: \d problems?"):
        load_pipeline(path)


def test_all_places_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "good.toml").write_text('partition = "main"\n', encoding="utf-8")
    stages = {
        "encoder": {"on": "slurm:nowhere"},
        "lora": {"gpus": 1},
        "soup": {"on": "lokal"},
        "decode": {"on": f"slurm:{tmp_path / 'good.toml'}"},
    }
    with pytest.raises(ConfigError, match="4 problems") as told:
        check_places(spec(stages=stages))
    for wanted in (
        "stages.encoder.on: no cluster profile 'nowhere'",
        "stages.lora.gpus: is 1, but local gives no GPUs",
        "stages.soup.on: ",
        "stages.decode.on: sbatch is not installed here",
    ):
        assert wanted in str(told.value)
    with pytest.raises(ConfigError, match="on: no cluster profile 'there'"):
        check_places(spec(), "slurm:there")
    check_places(spec(), "inline")


def test_a_recipe_is_looked_up_beside_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text("", encoding="utf-8")
    found = load_pipeline(write(tmp_path / "p.toml", toy(recipe="mine.toml")))
    assert found.recipe == str(tmp_path / "mine.toml")


def test_an_unknown_name_is_told_with_those_that_are_bundled():
    with pytest.raises(ConfigError, match=r"bundled are: .*; or give the path of a TOML file"):
        find_pipeline("nothing", "neurosweep.testing")
    assert find_pipeline("some/where.toml") == Path("some/where.toml")


def test_tasks_come_after_what_they_need():
    tasks = expand(spec(), SUBJECTS)
    assert list(tasks) == ["encoder", "lora.s01", "lora.s02", "lora.s03", "soup", "decode"]
    (need,) = tasks["soup"].needs
    assert (dict(need.tasks), need.at_least) == ({f"lora.{s}": f"lora.{s}" for s in SUBJECTS}, 2)


def test_stages_over_the_same_elements_are_bound_one_to_one():
    stages = {"adapt": {"job": "make", "needs": ["lora", "encoder"], "foreach": SUBJECTS}}
    task = expand(spec(stages=stages), SUBJECTS)["adapt.s02"]
    assert [dict(need.tasks) for need in task.needs] == [
        {"lora": "lora.s02"},
        {"encoder": "encoder"},
    ]


@given(st.data())
def test_any_order_of_a_file_gives_an_order_that_can_be_run(data):
    names = [f"s{number}" for number in range(6)]
    needs = {
        name: data.draw(st.lists(st.sampled_from(names[:number]), unique=True))
        for number, name in enumerate(names)
        if number
    }
    shuffled = data.draw(st.permutations(names))
    stages = {name: StageSpec(job="make", needs=needs.get(name, [])) for name in shuffled}
    order = in_order(stages)
    assert sorted(order) == names
    assert all(order.index(n) < order.index(name) for name in names for n in needs.get(name, []))


def test_a_stage_is_given_what_it_uses():
    config = {"llm": {"rank": 8, "lr": 1e-3}, "model": {"family": "x", "width": 4}, "data": {}}
    assert used(config, ["llm", "model.family"], "stages.x") == {
        "llm": {"rank": 8, "lr": 1e-3},
        "model": {"family": "x"},
        "data": {},
    }
    with pytest.raises(ConfigError, match=r"uses 'model\.famly', which is no field; did you mean"):
        used(config, ["model.famly"], "stages.x")


@pytest.fixture
def done(tmp_path):
    files = AttemptDir(tmp_path / "home/pipelines/p/tasks/t/attempts/1")
    (files.out / "deep").mkdir(parents=True)
    (files.out / "deep" / "weights.bin").write_bytes(b"weights")
    files.predictions.write_bytes(b'{"item": "a", "hypothesis": "b"}\n')
    listed = made_files(files) | {"predictions.jsonl": sha256_bytes(files.predictions.read_bytes())}
    return Shelf(Home(tmp_path / "home")), files, listed


ORIGIN = {"pipeline": "p", "task": "t", "attempt": 1}


def test_what_an_attempt_made_is_moved_and_found_again(done):
    shelf, files, listed = done
    placed = shelf.place("f" * 32, files, listed, ORIGIN, {"job": "x"})
    assert not files.out.exists()
    assert (placed.folder / "deep" / "weights.bin").read_bytes() == b"weights"
    assert set(placed.files) == {"deep/weights.bin", "predictions.jsonl"}
    assert shelf.find("f" * 32) == placed
    assert shelf.find("e" * 32) is None
    assert shelf.place("f" * 32, files, listed, ORIGIN, {}) == placed


def test_an_attempt_that_made_and_predicted_nothing_is_an_artifact_too(done):
    shelf, files, _ = done
    other = AttemptDir(files.root.with_name("2"))
    other.root.mkdir()
    other.predictions.write_bytes(b"")
    placed = shelf.place("a" * 32, other, {"predictions.jsonl": sha256_bytes(b"")}, ORIGIN, {})
    assert placed.files == {}
    assert placed.predictions is None


@pytest.mark.parametrize("harm", ["added", "removed", "changed", "reserved", "predictions"])
def test_files_other_than_listed_are_refused(done, harm):
    shelf, files, listed = done
    weights = files.out / "deep" / "weights.bin"
    if harm == "added":
        (files.out / "more").write_bytes(b"")
    elif harm == "removed":
        weights.unlink()
    elif harm == "changed":
        weights.write_bytes(b"Weights")
    elif harm == "reserved":
        (files.out / "artifact.json").write_text("{}", encoding="utf-8")
        listed = made_files(files)
    else:
        files.predictions.write_bytes(b"")
    with pytest.raises(DataError, match="after the job had ended"):
        shelf.place("f" * 32, files, listed, ORIGIN, {})
    assert shelf.find("f" * 32) is None


@pytest.mark.parametrize("kind", ["link", "fifo", "no folder"])
def test_only_plain_files_are_outputs(tmp_path, kind):
    import os

    files = AttemptDir(tmp_path)
    if kind == "no folder":
        files.out.write_bytes(b"")
    else:
        files.out.mkdir()
        make = os.mkfifo if kind == "fifo" else lambda path: path.symlink_to("/etc")
        make(files.out / "x")
    with pytest.raises(DataError, match="is no"):
        made_files(files)


def created(*tasks):
    data = {"tasks": list(tasks), "spec": {"max_attempts": 2}}
    return {"event": "pipeline_created", "data": data}


def event(name, **data):
    return {"event": name, "data": data, "t": "2026-01-01T00:00:00.000Z"}


def test_events_out_of_turn_are_not_legal():
    begun = [created("a", "b"), event("run_opened", number=1)]
    planned = event("task_planned", task="a", fp="f", inputs={})
    out_of_turn = [
        [planned],
        [*begun, planned, planned],
        [*begun, event("attempt_ended", task="a", outcome="done", kind="none")],
        [*begun, event("submit_intended", token="t", tasks=[["a", 1]])],
        [*begun, planned, event("submit_intended", token="t", tasks=[["a", 2]])],
        [*begun, event("submitted", token="t", jobs={})],
        [*begun, event("task_blocked", task="c", reason="")],
        [*begun, event("pipeline_closed", state="complete"), planned],
    ]
    for events in out_of_turn:
        with pytest.raises(LedgerError):
            fold(events)


def test_a_new_run_after_a_close_tries_again_with_attempts_of_its_own():
    planned = event("task_planned", task="a", fp="f", inputs={})
    lost = {"task": "a", "outcome": "failed", "kind": "lost"}
    events = [created("a"), event("run_opened", number=1), planned]
    for number in (1, 2):
        events.append(event("submit_intended", token=f"t{number}", tasks=[["a", number]]))
        events.append(event("attempt_ended", **lost))
    assert fold(events).tasks["a"].phase is TaskPhase.FAILED
    events += [event("pipeline_closed", state="incomplete"), event("run_opened", number=2), planned]
    events.append(event("submit_intended", token="t3", tasks=[["a", 3]]))
    events.append(event("attempt_ended", **lost))
    assert fold(events).tasks["a"].phase is TaskPhase.PLANNED


def test_people_are_told_in_lines(tmp_path):
    said: list[str] = []
    teller = Teller(said.append, PipelineDir(tmp_path))
    for one in (
        event("task_found", task="a", fp="0123456789"),
        event("task_blocked", task="b", reason="needs a"),
        event("submit_intended", token="t", tasks=[["c", 1], ["d", 2]]),
        event("submitted", token="t", jobs={"c": "7_0", "d": "7_1"}),
        event("submitted", token="t", jobs={"c": "8_0", "d": "8_1"}),
        event("submit_intended", token="refused", tasks=[["e", 1]]),
        event("attempt_ended", task="c", kind="none", seconds=3.2),
        event("attempt_ended", task="d", kind="lost", seconds=0, error={"text": "x\ny"}),
        event("run_opened", number=1),
    ):
        teller.on_event(one)
    assert said == [
        "a: already there (01234567)",
        "b: not run, needs a",
        "submitted: c, d (attempt 2)",
        "c: made in 3 s",
        "d: failed (lost): x y; tried again, if it may",
    ]


def test_the_table_has_a_line_for_every_variant():
    row = {
        "row": "decode",
        "stage": "decode",
        "needs": ["soup"],
        "element": "",
        "tasks": ["decode"],
        "metrics": {"val_wer": 0.5, "val_cer": 0.25, "val_wer_greedy": 0.7, "val_cer_greedy": 0.3},
        "sem": {"val_wer": 0.01, "val_cer": None},
        "subjects": 2,
        "items": 10,
    }
    _, rows = result_table({"rows": [row]})
    assert rows == [
        ["decode (given soup)", "0.500 +- 0.010", "0.250", "2", "10"],
        ["  greedy", "0.700", "0.300", "2", "10"],
    ]
    missing = {"task": "lora.s02", "kind": "hang", "phase": "failed", "reason": "no progress"}
    missing |= {"advice": "look at it", "log": "/home/log.txt"}
    result = {"missing": [missing], "lacking": ["x"], "core_hours": 1.0, "gpu_hours": 2.0}
    lines = result_lines(result | {"pipeline": "p", "state": "complete"})
    assert lines == [
        "missing: lora.s02 (hang): no progress",
        "  look at it",
        "  /home/log.txt",
        "lacking: x",
        "pipeline p: complete, 1.00 core-hours, 2.00 GPU-hours",
    ]
