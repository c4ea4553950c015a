"""Notification: what is told, once, and that the command can do no harm to the driver."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from _loop_kit import START, drive, new_study, state_of

from neurosweep.core.errors import LockedError, StudyError
from neurosweep.research import notify, notify_run
from neurosweep.research.control import send_request
from neurosweep.research.journal import Hooks
from neurosweep.research.notify import Notifier, run_beside, user_shell
from neurosweep.testing.fake import FakeClock, FakeCluster, Fate


class Told:
    """Keep what a notifier would have run."""

    def __init__(self):
        self.env = []

    def __call__(self, command, env):
        assert command == "tell me"
        self.env.append(dict(env))

    @property
    def events(self):
        return [env["NEUROSWEEP_EVENT"] for env in self.env]

    @property
    def texts(self):
        return [env["NEUROSWEEP_TEXT"] for env in self.env]


def notifier(study, told, clock=None, **given):
    return Notifier("tell me", study, clock=clock or FakeClock(START), run=told, **given)


def driven(study, told, cluster=None):
    """Run a study with a notifier; return how it ended."""
    cluster = cluster or FakeCluster(FakeClock(START))
    tells = notifier(study, told, cluster.clock)
    hooks = Hooks(on_event=tells.on_event, on_tick=tells.tick)
    return drive(study, cluster, hooks=hooks)


def test_the_end_of_every_round_and_of_the_study_is_told(tmp_path):
    study, told = new_study(tmp_path), Told()
    driven(study, told)
    assert told.events == ["round_closed"] * 3 + ["study_closed"]
    assert "the floor is over: 1 scored, 0 failed" in told.texts[0]
    assert "round 2 of 2 is over: 3 scored, 0 failed; best val_" in told.texts[2]
    assert "complete: 6 scored and 0 failed of 6 search trials; best" in told.texts[3]
    assert {env["NEUROSWEEP_STUDY"] for env in told.env} == {study.study_id}
    assert {env["NEUROSWEEP_REPORT"] for env in told.env} == {""}, "there is no page"
    assert all("\n" not in text for text in told.texts)


def test_the_page_is_named_once_there_is_one_and_an_address_always(tmp_path):
    study, told = new_study(tmp_path), Told()
    page = study.report_dir / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    tells = notifier(study, told)
    tells.trouble("one", "no page yet")
    page.write_text("<html>", encoding="utf-8")
    tells.trouble("two", "now there is one")
    notifier(study, told, report_url="https://lab/page").trouble("three", "an address")
    shown = [env["NEUROSWEEP_REPORT"] for env in told.env]
    assert shown == ["", str(page), "https://lab/page"]


def test_one_burst_of_failures_is_told_once(tmp_path):
    study, told = new_study(tmp_path, budget={"rounds": 1, "trials_per_round": 10}), Told()
    cluster = FakeCluster(
        FakeClock(START), lambda t, _k: (t[0] == "r" and Fate.USER_ERROR) or Fate.DONE
    )
    driven(study, told, cluster)
    bursts = [text for text in told.texts if "in a row" in text or "of the 10 trials" in text]
    assert len(bursts) == 1


def test_a_command_that_fails_at_every_event_is_one_warning(tmp_path, caplog):
    study = new_study(tmp_path)
    tells = Notifier("echo x; exit 7", study)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            tells.trouble(str(number), "no")
        log = study.root / "notify.log"
        deadline = time.monotonic() + 20.0
        while not (log.is_file() and log.read_text() == "x\n" * 3 and "ended" in caplog.text):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for thread in threading.enumerate():
            if thread.name == "notify":
                thread.join(20.0)
    assert caplog.text.count("ended with 7") == 1


def test_a_driver_that_is_started_again_tells_nothing_twice(tmp_path):
    study, told = new_study(tmp_path), Told()
    driven(study, told)
    again = notifier(study, told)
    for line in (
        {"event": "round_closed", "data": {"round": 2}},
        {"event": "study_closed", "data": {}},
    ):
        again.on_event(line)
    assert len(told.env) == 4


def test_without_a_command_nothing_is_read_or_written(tmp_path):
    study = new_study(tmp_path)
    silent = Notifier(None, study, run=Told())
    drive(study, hooks=Hooks(on_event=silent.on_event, on_tick=silent.tick))
    silent.trouble("disk", "full")
    assert not (study.root / "notified.json").exists()


def test_three_failures_in_a_row_are_trouble_once_a_round(tmp_path):
    study, told = new_study(tmp_path, budget={"rounds": 1, "trials_per_round": 10}), Told()
    fates = {f"r01t{k:03d}": Fate.USER_ERROR for k in range(4, 10)}
    driven(study, told, FakeCluster(FakeClock(START), lambda t, _k: fates.get(t, Fate.DONE)))
    troubles = [text for text in told.texts if "failed in round 1" in text or "trials of" in text]
    assert len([text for text in troubles if "3 attempts in a row failed in round 1" in text]) == 1
    assert any("user_error (the training code raised an error)" in text for text in troubles)


def test_what_the_driver_ended_is_told_with_its_reason(tmp_path):
    study, told = new_study(tmp_path, budget={"rounds": 1, "trials_per_round": 4}), Told()
    ends = {"f": Fate.DONE, "r": Fate.USER_ERROR}
    drive(study, FakeCluster(FakeClock(START), lambda trial, _k: ends[trial[0]]))
    state = state_of(study)
    for trial in state.trials.values():
        data = {"trial": trial.plan.trial, "attempt": len(trial.attempts)}
        state.controls.append({"action": "end_attempt", "reason": "no progress for 26 s", **data})
    for found in state.rounds.values():
        found.closed = False
    notifier(study, told).tick(state)
    assert "no progress for 26 s" in told.texts[0]


def test_a_fifth_of_a_round_that_failed_is_trouble(tmp_path):
    study, told = new_study(tmp_path, budget={"rounds": 1, "trials_per_round": 10}), Told()
    fates = {"r01t000": Fate.USER_ERROR, "r01t005": Fate.USER_ERROR}
    driven(study, told, FakeCluster(FakeClock(START), lambda t, _k: fates.get(t, Fate.DONE)))
    assert any("2 of the 10 trials of round 1 failed" in text for text in told.texts)
    assert told.events.count("trouble") == 1


def test_one_failure_of_a_small_round_and_trials_stopped_on_request_are_no_trouble(tmp_path):
    study, told = new_study(tmp_path), Told()
    fates = {"r01t000": Fate.USER_ERROR}
    driven(study, told, FakeCluster(FakeClock(START), lambda t, _k: fates.get(t, Fate.DONE)))
    assert "trouble" not in told.events


def test_a_pause_by_the_loop_is_trouble_and_a_pause_on_request_is_not(tmp_path):
    study, told = new_study(tmp_path, reserve={"floor": 2, "confirm": 0}), Told()
    driven(study, told, FakeCluster(FakeClock(START), lambda *_: Fate.USER_ERROR))
    assert any("paused: all 2 trials of the unchanged recipe failed" in text for text in told.texts)
    other, told = new_study(tmp_path / "other"), Told()
    send_request(other, "pause", reason="lunch")
    driven(other, told)
    assert told.events == []


def test_a_budget_that_is_used_up_is_told_and_so_is_the_end(tmp_path):
    study, told = new_study(tmp_path, budget={"gpu_hours": 1e-4}), Told()
    driven(study, told)
    assert told.events == ["trouble", "round_closed", "study_closed"]
    assert "the budget of 0.0001 core-hours is used up" in told.texts[0]
    assert "incomplete (the budget" in told.texts[-1]


def test_an_executor_is_trouble_when_it_is_silent_for_long_and_again_after_an_hour(tmp_path):
    study, told, clock = new_study(tmp_path), Told(), FakeClock(START)
    tells = notifier(study, told, clock)
    for _ in range(100):
        tells.executor("squeue: connection refused")
        clock.sleep(60.0)
    assert len(told.env) == 2
    assert "in trouble for 5 min: squeue: connection refused" in told.texts[0]
    tells.executor("")
    tells.executor("once more")
    assert len(told.env) == 2


def test_a_command_that_cannot_be_started_is_a_warning(tmp_path, caplog):
    study = new_study(tmp_path)

    def refuse(_command, _env):
        raise OSError(12, "cannot fork")

    with caplog.at_level(logging.WARNING):
        notifier(study, refuse).trouble("disk", "the disk is full")
    assert "nobody could be told that the disk is full" in caplog.text


def test_a_full_disk_is_told_although_nothing_can_be_noted(tmp_path, monkeypatch):
    study, told = new_study(tmp_path), Told()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notify, "atomic_write_json", full)
    tells = notifier(study, told)
    with pytest.raises(StudyError), tells.told_of_errors():
        raise StudyError("the disk is full")
    assert told.events == ["trouble"]
    assert "its driver has ended: the disk is full" in told.texts[0]


def test_a_driver_that_finds_another_one_there_tells_nobody(tmp_path):
    study, told = new_study(tmp_path), Told()
    with pytest.raises(LockedError), notifier(study, told).told_of_errors():
        raise LockedError("another driver works on it")
    assert told.events == []


def test_a_damaged_file_of_what_was_told_is_started_anew(tmp_path):
    study, told = new_study(tmp_path), Told()
    (study.root / "notified.json").write_text('{"told": [1]}')
    notifier(study, told).trouble("disk", "full")
    assert told.events == ["trouble"]


def test_the_command_runs_in_the_users_shell_with_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/sh")
    study = new_study(tmp_path)
    out = study.root / "out.txt"
    tells = Notifier(
        f'printf "%s|%s" "$NEUROSWEEP_EVENT" "$NEUROSWEEP_TEXT" > {out}.new; '
        f"echo said; mv {out}.new {out}",
        study,
    )
    tells.round_closed(_finished_floor(study), 0)
    _wait_for(out)
    assert out.read_text().startswith(f"round_closed|{study.study_id}: the floor is over")
    assert (study.root / "notify.log").read_text() == "said\n"


def _finished_floor(study):
    drive(study)
    return state_of(study)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20.0
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_that_fails_is_a_warning_with_its_log(tmp_path, caplog):
    study = new_study(tmp_path)
    with caplog.at_level(logging.WARNING):
        run_beside("echo no such host; exit 7", {}, study)
        deadline = time.monotonic() + 20.0
        while "ended with 7" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert (study.root / "notify.log").read_text() == "no such host\n"


def test_a_command_that_hangs_is_ended_with_all_its_processes(tmp_path):
    mark = tmp_path / "alive"
    script = [sys.executable, "-I", "-S", notify_run.__file__, "0.3", "/bin/sh"]
    before = time.monotonic()
    done = subprocess.run(
        [*script, f"(sleep 2; touch {mark}) & sleep 30"], capture_output=True, check=False
    )
    assert done.returncode == 124
    assert time.monotonic() - before < 10.0
    time.sleep(max(0.0, 2.2 - (time.monotonic() - before)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("shell", "used"),
    [("/bin/sh", "/bin/sh"), ("", "/bin/sh"), ("/usr/sbin/nologin", "/bin/sh"), ("zsh", "/bin/sh")],
)
def test_a_shell_that_is_none_is_replaced(monkeypatch, shell, used):
    monkeypatch.setenv("SHELL", shell)
    assert user_shell() == used


def test_the_limits_are_those_that_are_documented():
    assert (notify.IN_A_ROW, notify.SHARE, notify.UNREACHABLE_S) == (3, 0.2, 300.0)
