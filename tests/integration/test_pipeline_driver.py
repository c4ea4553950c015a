"""Pipelines from their file to their result, on a cluster that obeys a script."""

from __future__ import annotations

import os
import shutil

import pytest
from _loop_kit import no_waiting_for_disks
from _pipeline_kit import (
    OneCluster,
    StageCluster,
    artifact,
    attempt,
    create,
    made,
    new_cluster,
    run,
    state_of,
    toy,
)

from neurosweep.core.config import load_toml
from neurosweep.core.errors import ConfigError, DataError, LockedError, StudyError
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home
from neurosweep.pipeline.driver import drive
from neurosweep.pipeline.journal import Hooks
from neurosweep.pipeline.state import TaskPhase, TaskState
from neurosweep.pipeline.telling import Teller, status_of
from neurosweep.records.trial import Kind
from neurosweep.research.lock import StudyLock
from neurosweep.testing.fake import Fate

BAD = {"fault": {"hostile": "s02"}}


def phases(pipeline):
    return {name: task.phase.value for name, task in state_of(pipeline).tasks.items()}


def metrics(result):
    return {row["row"]: row["metrics"] for row in result["rows"]}


def test_stages_run_in_their_order_and_are_scored(tmp_path):
    pipeline, cluster = create(tmp_path), new_cluster()
    result = run(pipeline, cluster)
    assert (result["state"], result["lacking"], result["missing"]) == ("complete", [], [])
    assert set(phases(pipeline).values()) == {"made"}
    assert set(cluster.completions.values()) == {1}
    rows = {row["row"]: (row["subjects"], row["items"]) for row in result["rows"]}
    own = {f"lora.s0{number}": (1, 2) for number in (1, 2, 3)}
    assert rows == {"encoder": (3, 6), "lora": (3, 6), **own, "decode": (3, 6)}
    assert all(0.0 < row["val_cer"] < 1.0 for row in metrics(result).values())
    assert read_json(pipeline.result_json) == result


def test_a_stage_is_given_what_the_stages_it_needs_have_made(tmp_path):
    pipeline = create(tmp_path)
    run(pipeline)
    lines = made(pipeline, "soup").splitlines()
    assert [line.split(" seed")[0] for line in lines] == [
        "soup rank 8",
        "  lora.s01: lora s01 rank 8",
        "  lora.s01:   encoder: encoder rank 8",
        "  lora.s02: lora s02 rank 8",
        "  lora.s02:   encoder: encoder rank 8",
        "  lora.s03: lora s03 rank 8",
        "  lora.s03:   encoder: encoder rank 8",
    ]
    given = read_json(pipeline.task("decode").run_json)["inputs"]
    assert set(given) == {"soup", "encoder"}


def test_tasks_of_one_stage_are_submitted_together(tmp_path):
    pipeline = create(tmp_path)
    run(pipeline)
    intents = state_of(pipeline).intents
    assert [[task for task, _ in pairs] for pairs in intents.values()] == [
        ["encoder"],
        ["lora.s01", "lora.s02", "lora.s03"],
        ["soup"],
        ["decode"],
    ]


def test_what_is_there_is_not_made_again(tmp_path):
    pipeline = create(tmp_path)
    first = run(pipeline)
    cluster = new_cluster()
    again = run(pipeline, cluster)
    assert cluster.jobs == []
    assert set(phases(pipeline).values()) == {"found"}
    assert again["rows"] == first["rows"]


def test_a_change_makes_again_what_follows_from_it_alone(tmp_path):
    first = create(tmp_path)
    run(first)
    other = create(tmp_path, toy(stages={"soup": {"set": {"model": {"rank": 16}}}}))
    assert other != first
    cluster = new_cluster()
    run(other, cluster)
    assert phases(other) == {
        "encoder": "found",
        "lora.s01": "found",
        "lora.s02": "found",
        "lora.s03": "found",
        "soup": "made",
        "decode": "made",
    }
    assert made(other, "soup").startswith("soup rank 16")


def test_a_field_that_a_stage_does_not_use_is_not_given_to_it(tmp_path):
    first = create(tmp_path)
    run(first)
    assert read_json(first.task("encoder").run_json)["config"]["fault"] == {}
    other = create(tmp_path, toy(set={"fault": {"hostile": "nobody"}}))
    cluster = new_cluster()
    run(other, cluster)
    assert sorted(cluster.completions) == ["decode", "lora.s01", "lora.s02", "lora.s03", "soup"]


def test_the_same_file_is_the_same_pipeline_wherever_it_runs(tmp_path):
    first = create(tmp_path)
    assert create(tmp_path, toy(on="inline", workers=2)) == first
    assert create(tmp_path, toy(seed=1)) != first


def test_a_failed_subject_does_not_block_the_others(tmp_path):
    pipeline = create(tmp_path, toy(set=BAD))
    result = run(pipeline)
    assert result["state"] == "complete"
    missing = [(one["task"], one["kind"], one["reason"]) for one in result["missing"]]
    assert missing == [("lora.s02", "user_error", "this element cannot be used")]
    assert "lora.s02" not in made(pipeline, "soup")
    rows = {row["row"]: row["subjects"] for row in result["rows"]}
    assert rows == {"encoder": 3, "lora": 2, "lora.s01": 1, "lora.s03": 1, "decode": 3}


def test_too_few_subjects_block_what_needs_them(tmp_path):
    stages = {"soup": {"at_least": 3}}
    pipeline = create(tmp_path, toy(set=BAD, stages=stages))
    result = run(pipeline)
    assert result["state"] == "incomplete"
    assert result["lacking"] == ["decode could not be scored"]
    reasons = {one["task"]: one["reason"] for one in result["missing"]}
    assert reasons["soup"] == "needs 3 of lora, 2 are there (lora.s02 failed)"
    assert reasons["decode"] == "needs soup, which is blocked"


def test_without_at_least_all_are_needed(tmp_path):
    data = toy(set=BAD)
    del data["stages"]["soup"]["at_least"]
    assert run(create(tmp_path, data))["state"] == "incomplete"


def test_a_failed_task_is_tried_again_by_the_next_run_and_what_lacked_it_is_made_anew(tmp_path):
    pipeline, cluster = create(tmp_path), new_cluster()
    cluster.fate_of = lambda task, _k: Fate.USER_ERROR if task == "lora.s02" else Fate.DONE
    first = run(pipeline, cluster)
    assert [one["task"] for one in first["missing"]] == ["lora.s02"]
    again = new_cluster()
    result = run(pipeline, again)
    assert result["missing"] == []
    assert sorted(again.completions) == ["decode", "lora.s02", "soup"]
    assert "lora.s02" in made(pipeline, "soup")
    assert attempt(pipeline, "lora.s02", 2).status.exists()


@pytest.mark.parametrize("fate", [Fate.NODE_FAILURE, Fate.PREEMPTED, Fate.VANISH])
def test_what_a_machine_broke_is_run_again(tmp_path, fate):
    cluster = new_cluster()
    cluster.fate_of = lambda task, k: fate if (task, k) == ("encoder", 1) else Fate.DONE
    pipeline = create(tmp_path)
    assert run(pipeline, cluster)["state"] == "complete"
    assert len(state_of(pipeline).tasks["encoder"].attempts) == 2


def test_attempts_are_limited(tmp_path):
    cluster = new_cluster()
    cluster.fate_of = lambda *_: Fate.NODE_FAILURE
    pipeline = create(tmp_path, toy(max_attempts=2))
    result = run(pipeline, cluster)
    assert result["state"] == "incomplete"
    encoder = state_of(pipeline).tasks["encoder"]
    assert (encoder.phase, len(encoder.attempts)) == (TaskPhase.FAILED, 2)
    cluster.fate_of = lambda *_: Fate.DONE
    assert run(pipeline, cluster)["state"] == "complete"


@pytest.mark.parametrize(
    ("fate", "kind"),
    [
        (Fate.HANG, "hang"),
        (Fate.ENDLESS, "time_limit"),
        (Fate.UNDEAD, "hang"),
        (Fate.OOM_HOST,) * 2,
    ],
)
def test_a_task_that_does_not_come_to_an_end_is_ended_and_named(tmp_path, fate, kind):
    cluster = new_cluster()
    cluster.fate_of = lambda task, _k: fate if task == "lora.s02" else Fate.DONE
    pipeline = create(tmp_path)
    result = run(pipeline, cluster)
    assert [(one["task"], one["kind"]) for one in result["missing"]] == [("lora.s02", str(kind))]
    assert result["state"] == "complete"


def test_queries_and_submissions_that_fail_are_repeated(tmp_path):
    cluster = new_cluster(refuse_submit=2, refuse_poll=3)
    assert run(create(tmp_path), cluster)["state"] == "complete"
    assert set(cluster.submissions.values()) == {1}


def test_files_that_were_changed_after_the_end_are_refused(tmp_path):
    class Changing(type(new_cluster())):
        def _leave_files(self, job):
            super()._leave_files(job)
            if job.task.trial == "encoder":
                (job.task.files.out / "made.txt").write_text("other", encoding="utf-8")

    pipeline = create(tmp_path)
    cluster = Changing(new_cluster().clock)
    result = run(pipeline, cluster)
    assert result["state"] == "incomplete"
    failed = next(one for one in result["missing"] if one["task"] == "encoder")
    assert "out/made.txt is not the file that the job's status lists" in failed["reason"]
    assert list((Home(tmp_path / "home").root / "artifacts").glob("*")) == []


def test_links_are_not_taken(tmp_path):
    result = run(create(tmp_path, toy(stages={"soup": {"job": "link"}})))
    failed = next(one for one in result["missing"] if one["task"] == "soup")
    assert "no plain file" in failed["reason"]


def test_a_damaged_artifact_is_said_and_not_used(tmp_path):
    pipeline = create(tmp_path)
    run(pipeline)
    folder = artifact(pipeline, "encoder")
    (folder / "made.txt").unlink()
    with pytest.raises(DataError, match=r"made\.txt is missing or has another size; remove the"):
        run(pipeline)


def test_changed_predictions_of_an_artifact_are_not_scored(tmp_path):
    pipeline = create(tmp_path)
    run(pipeline)
    path = artifact(pipeline, "decode") / "predictions.jsonl"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    place = content.index(b'"hypothesis":"') + 14
    content[place] = ord("a") if content[place] != ord("a") else ord("b")
    path.write_bytes(bytes(content))
    result = run(pipeline)
    assert result["state"] == "incomplete"
    assert any("was changed" in text for text in result["lacking"])


def test_the_file_that_is_kept_gives_the_same_pipeline(tmp_path):
    stages = {"lora": {"foreach": ["a", "b"], "set": {"model.rank": 16}}}
    pipeline = create(tmp_path, toy(stages=stages, about='a "test"'))
    assert create(tmp_path, load_toml(pipeline.pipeline_toml)) == pipeline


def test_data_that_are_gone_are_named(tmp_path):
    pipeline = create(tmp_path)
    shutil.rmtree(tmp_path / "home" / "store")
    with pytest.raises(DataError, match="data of the pipeline are gone; prepare them again with"):
        run(pipeline)


def test_two_pipelines_that_make_the_same_share_it(tmp_path):
    first = create(tmp_path)
    run(first)
    other = create(tmp_path, toy(name="other"))
    cluster = new_cluster()
    run(other, cluster)
    assert cluster.jobs == []
    origin = read_json(artifact(other, "encoder") / "artifact.json")["origin"]
    assert origin == {"pipeline": first.pipeline_id, "task": "encoder", "attempt": 1}


def test_a_second_driver_is_refused(tmp_path):
    pipeline = create(tmp_path)
    with StudyLock(pipeline.lock), pytest.raises(LockedError, match="already has a driver"):
        run(pipeline)


def test_an_unknown_pipeline_is_named(tmp_path):
    create(tmp_path)
    with pytest.raises(StudyError, match="no pipeline 'nope' here; there are: toy-"):
        run(Home(tmp_path / "home").pipeline("nope"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": {"lora": {"job": "nothing"}}}, "no stage 'nothing'"),
        ({"stages": {"soup": {"at_least": 4}}}, "is 4, but 'lora' has 3 tasks"),
        ({"stages": {"soup": {"set": {"data": {"items": 3}}}}}, "set it under"),
        ({"stages": {"soup": {"uses": ["modle"]}}}, "uses 'modle', which is no field"),
        ({"name": "--"}, "needs at least one letter or digit"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused_and_leaves_nothing(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        create(tmp_path, toy(**changes))
    assert list((tmp_path / "home" / "pipelines").iterdir()) == []


def test_a_stage_asks_for_gpus_of_a_cluster_alone(tmp_path):
    with pytest.raises(ConfigError, match=r"stages\.lora\.gpus: is 1, but local gives no GPUs"):
        create(tmp_path, toy(stages={"lora": {"gpus": 1}}))
    assert not (tmp_path / "home").exists()


def test_a_task_that_runs_is_noted_and_told_with_its_age_once_a_minute(tmp_path):
    cluster = new_cluster(slots=2, seconds=200.0)
    cluster.fate_of = lambda task, _k: Fate.ENDLESS if task == "lora.s03" else Fate.DONE
    pipeline = create(tmp_path, toy(minutes=5.0, stall_minutes=5.0))
    said, seen = [], {}
    teller = Teller(said.append, pipeline, cluster.clock)

    def on_tick(state):
        teller.on_tick(state)
        for one in status_of(pipeline, state, cluster.clock.now())["tasks"]:
            seen.setdefault((one["task"], one["stands"]), one)

    run(pipeline, cluster, Hooks(on_event=teller.on_event, on_tick=on_tick))
    attempt = state_of(pipeline).tasks["lora.s03"].attempts[0]
    assert attempt.started_t
    assert attempt.kind is Kind.TIME_LIMIT
    assert attempt.error["text"].startswith("ran for 30")
    assert attempt.queue_s >= 190.0
    assert {("lora.s01", "running"), ("lora.s03", "queued"), ("lora.s03", "running")} <= set(seen)
    assert seen["lora.s03", "running"]["core_hours"] >= 0.0
    running = [line for line in said if line.startswith("running: ")]
    assert running[0].startswith("running: encoder (6")
    assert any("lora.s01 (" in line and "queued: lora.s03 (" in line for line in running)
    assert any("step " in line for line in running)
    assert len(running) >= 3 * 200 // 60


@pytest.mark.parametrize(("name", "held"), [("fake", 7.25), ("slurm", 8.0)])
def test_a_task_that_its_executor_never_saw_run_costs_what_its_files_say(
    tmp_path, monkeypatch, name, held
):
    class Timed(StageCluster):
        def _leave_files(self, job):
            super()._leave_files(job)
            os.utime(job.task.files.claim, (1000.0, 1000.0))
            os.utime(job.task.files.status, (1007.25, 1007.25))

    monkeypatch.setattr("neurosweep.testing.fake.FakeExecutor.name", name)
    pipeline = create(tmp_path)
    result = run(pipeline, Timed(new_cluster().clock))
    assert {a.held_s for t in state_of(pipeline).tasks.values() for a in t.attempts} == {held}
    assert result["core_hours"] == pytest.approx(6 * held / 3600.0, abs=1e-5)


def test_a_task_that_left_no_word_costs_the_time_until_its_end_was_noticed(tmp_path):
    cluster = new_cluster(seconds=20.0)
    cluster.fate_of = lambda task, k: Fate.VANISH if (task, k) == ("encoder", 1) else Fate.DONE
    pipeline = create(tmp_path)
    run(pipeline, cluster)
    encoder = state_of(pipeline).tasks["encoder"]
    first = TaskState("encoder", attempts=encoder.attempts[:1])
    assert 20.0 <= first.core_hours() * 3600.0 <= 60.0


def test_a_pipeline_goes_on_where_its_last_run_ran(tmp_path):
    pipeline = create(tmp_path)

    def die(name):
        if name == "ledger:run_opened":
            raise KeyboardInterrupt

    places = OneCluster(pipeline, new_cluster())
    with pytest.raises(KeyboardInterrupt), no_waiting_for_disks():
        drive(pipeline, on="slurm:there", workers=3, places=places, hooks=Hooks(boundary=die))
    assert (state_of(pipeline).on, state_of(pipeline).workers) == ("slurm:there", 3)
    with pytest.raises(ConfigError, match="no cluster profile 'there'"):
        drive(pipeline)
