"""Pipelines that are cancelled: by a driver that lives, by the next one, and at any moment."""

from __future__ import annotations

import logging

import pytest
from _loop_kit import Death
from _pipeline_kit import create, new_cluster, run, state_of, toy

from neurosweep.core.layout import StudyDir
from neurosweep.exec.protocol import TaskPhase as Seen
from neurosweep.pipeline.journal import Hooks
from neurosweep.pipeline.notify import PipelineNotifier
from neurosweep.pipeline.telling import Teller
from neurosweep.research.control import send_request
from neurosweep.testing.fake import Fate

DATA = toy(set={"data": {"items": 4, "subjects": 2}}, stages={"soup": {"at_least": 1}})
DATA["stages"]["evaluate"]["at_least"] = 1


def die_at(wanted, number=1):
    """Return a hook that lets the driver die after the n-th operation of a name."""
    seen = []

    def reaper(name):
        seen.append(name)
        if seen.count(wanted) == number and name == wanted:
            raise Death(name)

    return Hooks(boundary=reaper)


def ask(pipeline, action="cancel", **options):
    return send_request(pipeline, action, **options)


def waiting_requests(pipeline):
    return list(StudyDir(pipeline.root).control_dir.glob("*.json"))


def alive(cluster):
    return [job for job in cluster.jobs if job.view.phase in (Seen.QUEUED, Seen.RUNNING)]


def phases(pipeline):
    return {name: task.phase.value for name, task in state_of(pipeline).tasks.items()}


def test_a_driver_that_works_ends_what_runs_and_closes_the_pipeline(tmp_path):
    pipeline, cluster = create(tmp_path, DATA), new_cluster(slots=1, seconds=30.0)
    asked = []

    def on_tick(state):
        if not asked and state.tasks["lora.s01"].attempts:
            asked.append(ask(pipeline, reason="wrong corpus"))

    said = []
    teller = Teller(said.append, pipeline, cluster.clock)
    result = run(pipeline, cluster, Hooks(on_event=teller.on_event, on_tick=on_tick))
    assert (result["state"], result["reason"]) == ("cancelled", "wrong corpus")
    assert phases(pipeline) == {
        "encoder": "made",
        "lora.s01": "failed",
        "lora.s02": "failed",
        "soup": "blocked",
        "decode": "blocked",
    }
    reasons = {one["task"]: (one["kind"], one["reason"]) for one in result["missing"]}
    assert reasons["lora.s01"] == ("cancelled_user", "wrong corpus")
    assert reasons["soup"] == ("", "cancelled: wrong corpus")
    assert [row["row"] for row in result["rows"]] == ["encoder"]
    assert alive(cluster) == []
    assert waiting_requests(pipeline) == []
    closed = state_of(pipeline).closed
    assert (closed["state"], closed["reason"]) == ("cancelled", "wrong corpus")
    assert "cancelled (wrong corpus): what runs is ended" in said


@pytest.mark.parametrize("when", ["ledger:submit_intended", "submit", "ledger:attempt_started"])
def test_the_next_driver_finds_what_runs_and_ends_it(tmp_path, when):
    pipeline, cluster = create(tmp_path, DATA), new_cluster(seconds=30.0)
    with pytest.raises(Death):
        run(pipeline, cluster, die_at(when, 2))
    count = len(cluster.jobs)
    ask(pipeline)
    result = run(pipeline, cluster)
    assert (result["state"], result["reason"]) == ("cancelled", "cancelled on request")
    assert len(cluster.jobs) == count
    assert alive(cluster) == []
    assert phases(pipeline)["encoder"] == "made"


def test_a_pipeline_whose_data_are_gone_can_be_cancelled(tmp_path):
    import shutil

    pipeline, cluster = create(tmp_path, DATA), new_cluster(seconds=30.0)
    with pytest.raises(Death):
        run(pipeline, cluster, die_at("ledger:submitted"))
    shutil.rmtree(tmp_path / "home" / "store")
    ask(pipeline)
    assert run(pipeline, cluster)["state"] == "cancelled"
    assert alive(cluster) == []


def test_a_driver_that_dies_while_it_cancels_is_followed_by_one_that_goes_on_with_it(tmp_path):
    def cancelled(root, hooks):
        pipeline, cluster = create(root, DATA), new_cluster(seconds=30.0)
        with pytest.raises(Death):
            run(pipeline, cluster, die_at("ledger:attempt_started", 3))
        ask(pipeline, reason="enough")
        return pipeline, cluster, hooks

    names = []
    pipeline, cluster, hooks = cancelled(tmp_path / "whole", Hooks(boundary=names.append))
    run(pipeline, cluster, hooks)
    assert {"ledger:cancel_asked", "request_consumed", "ledger:control"} <= set(names)
    for at, name in enumerate(names[:-1]):
        reaper = die_at(name, names[: at + 1].count(name))
        pipeline, cluster, _ = cancelled(tmp_path / str(at), None)
        count = len(cluster.jobs)
        with pytest.raises(Death):
            run(pipeline, cluster, reaper)
        result = run(pipeline, cluster)
        assert (result["state"], result["reason"]) == ("cancelled", "enough"), name
        assert (len(cluster.jobs), alive(cluster)) == (count, []), name


def test_a_cancelled_pipeline_is_run_again_by_the_next_run(tmp_path):
    pipeline, cluster = create(tmp_path, DATA), new_cluster(seconds=30.0)
    with pytest.raises(Death):
        run(pipeline, cluster, die_at("ledger:attempt_started", 2))
    ask(pipeline)
    run(pipeline, cluster)
    result = run(pipeline, cluster)
    assert (result["state"], result["reason"], result["missing"]) == ("complete", "", [])
    assert cluster.completions["encoder"] == 1


def test_what_a_machine_broke_is_not_run_again_once_it_is_cancelled(tmp_path):
    pipeline, cluster = create(tmp_path, DATA), new_cluster(seconds=30.0)
    cluster.fate_of = lambda task, _k: Fate.UNDEAD if task == "lora.s01" else Fate.DONE
    with pytest.raises(Death):
        run(pipeline, cluster, die_at("ledger:attempt_started", 2))
    cluster.kill_all()
    ask(pipeline)
    count = len(cluster.jobs)
    assert run(pipeline, cluster)["state"] == "cancelled"
    assert len(cluster.jobs) == count


def test_other_requests_and_late_ones_change_nothing(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    pipeline = create(tmp_path, DATA)
    ask(pipeline, "pause")
    assert run(pipeline)["state"] == "complete"
    assert "'pause' is for studies; a pipeline can be cancelled" in caplog.text
    ask(pipeline)
    assert run(pipeline)["state"] == "complete"
    assert "a request to cancel came after the end and is dropped" in caplog.text
    assert waiting_requests(pipeline) == []


def test_a_person_is_told_of_the_end_and_of_tasks_that_failed(tmp_path):
    told = []
    pipeline, cluster = create(tmp_path, DATA), new_cluster()
    cluster.fate_of = lambda task, _k: Fate.OOM_HOST if task == "lora.s02" else Fate.DONE
    notifier = PipelineNotifier("tell me", pipeline, run=lambda *both: told.append(both))
    run(pipeline, cluster, Hooks(on_event=notifier.on_event, on_executor=notifier.executor))
    assert {command for command, _ in told} == {"tell me"}
    said = [(env["NEUROSWEEP_EVENT"], env["NEUROSWEEP_TEXT"]) for _, env in told]
    name = pipeline.pipeline_id
    assert said[0][0] == "trouble"
    assert said[0][1].startswith(f"{name}: lora.s02 failed: oom_host")
    assert said[1] == ("pipeline_closed", f"{name}: complete: 4 of 5 tasks are there")
    assert told[1][1]["NEUROSWEEP_REPORT"] == str(pipeline.result_json)
    cluster.fate_of = lambda *_: Fate.DONE
    again = PipelineNotifier("tell me", pipeline, run=lambda *both: told.append(both))
    run(pipeline, cluster, Hooks(on_event=again.on_event))
    assert told[2][1]["NEUROSWEEP_TEXT"] == f"{name}: complete: 5 of 5 tasks are there"
    assert len(told) == 3
