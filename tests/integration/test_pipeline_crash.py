"""A driver of a pipeline that dies after any operation is followed by one that ends it the same.

The places where it may die are not listed here: an undisturbed run reports every operation that
survives the driver, and each of them becomes a death.
"""

from __future__ import annotations

import pytest
from _loop_kit import Death, Reaper
from _pipeline_kit import create, new_cluster, run, state_of, toy

from neurosweep.core.files import read_json
from neurosweep.pipeline.journal import Hooks
from neurosweep.testing.fake import Fate

DATA = toy(
    set={"data": {"items": 4, "subjects": 2}},
    stages={"soup": {"at_least": 1}, "evaluate": {"at_least": 1}},
)


def fates(task, attempt):
    """One task that is run again, and one that fails."""
    if (task, attempt) == ("encoder", 1):
        return Fate.PREEMPTED
    return Fate.USER_ERROR if task == "lora.s02" else Fate.DONE


def export(pipeline):
    """Return what came out, without times and numbers of attempts."""
    result = read_json(pipeline.result_json)
    tasks = {name: (one["phase"], one["fp"]) for name, one in result["tasks"].items()}
    shelf = pipeline.root.parents[1] / "artifacts"
    files = {
        folder.name: read_json(folder / "artifact.json")["files"] for folder in shelf.iterdir()
    }
    return {"state": result["state"], "rows": result["rows"], "tasks": tasks, "files": files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    pipeline = create(tmp_path_factory.mktemp("undisturbed"), DATA)
    reaper = Reaper()
    run(pipeline, new_cluster(fate_of=fates, slots=2), Hooks(boundary=reaper))
    return export(pipeline), reaper.seen


def test_every_kind_of_operation_is_a_place_to_die(undisturbed):
    _, names = undisturbed
    assert set(names) == {
        "ledger:run_opened",
        "ledger:task_planned",
        "run_json",
        "ledger:submit_intended",
        "submit",
        "ledger:submitted",
        "ledger:attempt_started",
        "artifact",
        "ledger:attempt_ended",
        "result_json",
        "ledger:pipeline_closed",
    }
    assert len(names) > 25


def alike(found, expected, *, closed):
    """Compare results; what had come to its end before the death is found by the next driver."""
    if closed:
        tasks = expected["tasks"].items()
        there = {n: ("found" if p == "made" else p, fp) for n, (p, fp) in tasks}
        expected = expected | {"tasks": there}
    assert found == expected


@pytest.mark.parametrize("survive", [True, False], ids=["jobs survive", "jobs die too"])
def test_death_anywhere_changes_nothing(undisturbed, tmp_path, survive):
    expected, names = undisturbed
    for at, name in enumerate(names):
        pipeline = create(tmp_path / str(at), DATA)
        cluster = new_cluster(fate_of=fates, slots=2)
        with pytest.raises(Death):
            run(pipeline, cluster, Hooks(boundary=Reaper(at)))
        if not survive:
            cluster.kill_all()
        run(pipeline, cluster)
        alike(export(pipeline), expected, closed=name == "ledger:pipeline_closed")
        assert set(cluster.completions.values()) == {1}, (at, name)


def test_a_driver_that_dies_again_and_again_comes_to_the_same_end(undisturbed, tmp_path):
    expected, names = undisturbed
    pipeline = create(tmp_path, DATA)
    cluster = new_cluster(fate_of=fates, slots=2)
    deaths = 0
    while state_of(pipeline).closed is None:
        try:
            run(pipeline, cluster, Hooks(boundary=Reaper(2)))
        except Death:
            deaths += 1
            assert deaths <= len(names)
    assert deaths > 5
    assert export(pipeline) == expected
    assert set(cluster.completions.values()) == {1}


def test_a_death_while_files_are_moved_is_mended(tmp_path, monkeypatch):
    pipeline, cluster = create(tmp_path, DATA), new_cluster(slots=2)
    shelf = "neurosweep.pipeline.artifacts.Shelf._move"

    def die(*_):
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(shelf, die)
        with pytest.raises(Death):
            run(pipeline, cluster)
    assert run(pipeline, cluster)["state"] == "complete"
    assert set(cluster.completions.values()) == {1}
