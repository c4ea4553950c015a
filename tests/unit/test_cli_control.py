"""Steering a study from the command line, and looking at one trial."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest
from _loop_kit import START, copy_study, drive, new_study, state_of

from neurosweep.cli import app, exits
from neurosweep.cli.console import Console
from neurosweep.cli.control import Asked, clone_problems, control, one_value_each
from neurosweep.core.errors import ConfigError, StudyError
from neurosweep.records.trial import POLICY, Kind, Purpose
from neurosweep.research.control import pending_requests, send_request
from neurosweep.research.journal import Hooks
from neurosweep.testing.fake import FakeClock, FakeCluster, Fate


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A study that was paused after its first round, of which one trial failed."""
    study = new_study(tmp_path_factory.mktemp("begun"))
    fates = {"r01t001": Fate.USER_ERROR}

    def pause(line):
        if line["event"] == "round_closed" and line["data"]["round"] == 1:
            send_request(study, "pause", reason="lunch")

    cluster = FakeCluster(FakeClock(START), lambda trial, _k: fates.get(trial, Fate.DONE))
    drive(study, cluster, hooks=Hooks(on_event=pause))
    return study


@pytest.fixture
def study(begun, tmp_path):
    return copy_study(begun, tmp_path)


def say(study, capsys, *words):
    """Run a command of the home of a study; return exit code, what it said and its JSON."""
    home = str(study.root.parent.parent)
    code = app.main([*words, "--home", home])
    told = capsys.readouterr()
    data = json.loads(told.out) if "--json" in words else {}
    return SimpleNamespace(code=code, out=told.out, err=told.err, json=data)


def test_requests_without_a_driver_are_kept_for_the_next_one(study, capsys):
    learned = "training.learning_rate"
    for words in (
        ("study", "throttle", study.study_id, "2"),
        ("study", "poll", study.study_id, "7.5"),
        ("trial", "clone", "r01t000", "--set", f"{learned}=0.001", "--reason", "closer"),
    ):
        told = say(study, capsys, *words)
        assert (told.code, "obeyed when it is resumed" in told.out) == (exits.OK, True), told.err
    asked = [request.to_dict() for request in pending_requests(study)]
    assert [one["action"] for one in asked] == ["throttle", "poll", "clone"]
    assert (asked[0]["value"], asked[1]["value"]) == (2.0, 7.5)
    assert (asked[2]["trial"], asked[2]["overrides"]) == ("r01t000", {learned: 0.001})
    drive(study)
    state = state_of(study)
    clone = next(t for t in state.of(Purpose.SEARCH) if t.plan.source == "clone")
    assert (clone.plan.round, clone.plan.overrides[learned]) == (2, 0.001)
    assert len(list(state.of(Purpose.SEARCH))) == 6


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("trial", "stop", "r01t000"), ["r01t000 has ended already: scored; nothing to stop"]),
        (("trial", "stop", "r01t001"), ["r01t001 has ended already: user_error"]),
        (("trial", "stop", "r09t000", "--study", "small"), ["r09t000"]),
        (("trial", "clone", "f000"), ["f000: is outside the search; only search trials"]),
        (("trial", "clone", "r01t00"), ["r01t00"]),
        (
            ("trial", "clone", "r01t000", "--set", "training.learning_rat=1"),
            ["unknown field; did you mean 'training.learning_rate'", "this study searches: "],
        ),
        (
            ("trial", "clone", "r01t000", "--set", "training.learning_rate=900"),
            ["training.learning_rate: is 900, not in ["],
        ),
        (
            ("trial", "clone", "r01t000", "--set", "training.learning_rate=1,2"),
            ["a clone takes one value"],
        ),
        (("study", "throttle", "small", "-1"), ["'throttle' is -1"]),
        (("study", "poll", "small", "0"), ["'poll' is 0"]),
        (("study", "pause", "small"), ["has no driver, so it rests already"]),
        (("trial", "show", "r09t000"), ["no trial 'r09t000'"]),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reasons(study, capsys, words, parts):
    told = say(study, capsys, *words)
    assert told.code == exits.USER_ERROR
    for part in parts:
        assert part in told.err
    assert list(pending_requests(study)) == []


def test_every_reason_against_a_clone_is_said(study):
    state = state_of(study)
    problems = clone_problems(
        study, state, "r01t000", {"training.learning_rate": 900.0, "model.color": "red"}
    )
    text = "\n".join(problems)
    assert "model.color: unknown field" in text
    assert "training.learning_rate: is 900.0" in text
    assert "this study searches" in text
    drive(study)
    with pytest.raises(StudyError, match="has ended"):
        control(study, Console(), Asked("clone", trial="r01t000"))


def test_no_clone_is_promised_when_the_budget_is_planned(study):
    for number in range(3):
        send_request(study, "clone", trial="r01t000", reason=str(number))
    assert clone_problems(study, state_of(study), "r01t000", {}) == []
    seen = []

    def look(line):
        if line["event"] == "round_planned" and line["data"]["round"] == 2:
            seen.extend(clone_problems(study, state_of(study), "r01t000", {}))

    drive(study, hooks=Hooks(on_event=look))
    assert seen == ["every trial of the budget is planned; a clone takes a place of its own"]


@pytest.mark.parametrize("text", ["a=1,2", "a", "=1"])
def test_an_assignment_that_is_none_is_refused(text):
    with pytest.raises(ConfigError):
        one_value_each([text])
    with pytest.raises(ConfigError, match="given twice"):
        one_value_each(["a=1", "a=2"])


class Answering(FakeClock):
    """Obey or refuse a request while its sender waits."""

    def __init__(self, study, answer):
        super().__init__(START)
        self._study, self._answer = study, answer

    def sleep(self, seconds):
        super().sleep(seconds)
        if self._answer is None:
            return
        for request in list(pending_requests(self._study)):
            from neurosweep.research.journal import Journal

            refused = {"refused": self._answer} if self._answer else {}
            Journal(self._study).record("control", request.to_dict() | refused)
            request.path.unlink()


@pytest.mark.parametrize(
    ("answer", "code", "part"),
    [
        ("", exits.OK, "it runs 3 trials at a time"),
        ("no slot of this size", exits.USER_ERROR, "it refused: no slot of this size"),
        (None, exits.OK, "it has not answered yet"),
    ],
)
def test_the_answer_of_a_driver_is_waited_for(study, capsys, monkeypatch, answer, code, part):
    monkeypatch.setattr("neurosweep.research.lock.live_driver", lambda *_: "pid 7 on here")
    console = Console(as_json=True)
    clock = Answering(study, answer)
    assert control(study, console, Asked("throttle", value=3.0), clock=clock) == code
    told = capsys.readouterr()
    assert part in told.err
    assert "asked the driver of small-20260101-0000 (pid 7 on here)" in told.err
    data = json.loads(told.out)
    assert (data["obeyed"], data["refused"]) == (answer == "", answer or None)


def test_a_trial_that_failed_shows_why_what_to_do_and_the_end_of_its_log(study, capsys):
    log = study.trial("r01t001").attempt(1).log
    log.write_text("step 1\n\x1b[31mRuntimeError: no\x1b[0m\n")
    told = say(study, capsys, "trial", "show", "r01t001", "--study", study.study_id)
    assert told.code == exits.OK
    policy = POLICY[Kind.USER_ERROR]
    for part in (
        f"r01t001 of {study.study_id}, round 1: failed",
        "training.learning_rate=",
        f"user_error: {policy.meaning}\nwhat it said: ",
        f"what to do: {policy.advice}",
        "its place in the round is spent; the sampler is not told of it",
        "cost: < 0.001 core-hours",
        "  RuntimeError: no\n",
    ):
        assert part in told.out
    assert "\x1b" not in told.out


def test_a_scored_trial_shows_its_result_and_nothing_about_failures(study, capsys):
    told = say(study, capsys, "trial", "show", f"{study.study_id}/r01t000", "--json")
    assert (told.json["state"], told.json["kind"]) == ("scored", "none")
    assert told.json["attempts"][0]["outcome"] == "done"
    assert told.json["metrics"][told.json["metric"]] >= 0
    assert "result: val_" in told.err
    assert "what to do" not in told.err


def test_a_trial_that_waits_says_so(study, capsys):
    def look(line):
        if line["event"] == "round_planned" and line["data"]["round"] == 2:
            raise KeyboardInterrupt

    drive(study, hooks=Hooks(on_event=look))
    told = say(study, capsys, "trial", "show", "r02t000")
    assert "not submitted yet" in told.out


def test_a_request_is_not_read_half_written(study):
    """A driver that looks all the time meets whole requests only."""
    seen, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            seen.extend(request.action for request in pending_requests(study))

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(20):
        send_request(study, "poll", value=2.0)
    stop.set()
    thread.join()
    assert set(seen) <= {"poll"}
    assert list(study.control_dir.glob("*.refused")) == []


def test_a_study_cancelled_without_a_driver_says_what_it_came_to_and_has_its_page(study, capsys):
    told = say(study, capsys, "study", "cancel", study.study_id, "--reason", "enough")
    assert told.code == exits.OK
    assert "incomplete (enough), " in told.out
    assert f"neurosweep study report {study.study_id}" in told.out
    assert (study.report_dir / "index.html").is_file()


@pytest.mark.parametrize(("key", "verb"), [("arms", "arena start"), ("stages", "pipeline run")])
def test_a_file_of_another_verb_is_sent_there(study, capsys, tmp_path, key, verb):
    file = tmp_path / "other.toml"
    file.write_text(f"name = 'x'\n[{key}.one]\nlabel = 'a'\n", encoding="utf-8")
    told = say(study, capsys, "study", "start", str(file))
    assert told.code == exits.USER_ERROR
    assert f"neurosweep {verb} {file}" in told.err


def test_an_interrupt_before_anything_was_begun_is_said_in_words(study, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("neurosweep.core.config.load_toml", interrupt)
    told = say(study, capsys, "study", "start", "some.toml")
    assert told.code == exits.INTERRUPTED
    assert told.err == ("neurosweep: Interrupted: ended on request; what was recorded is whole\n")
