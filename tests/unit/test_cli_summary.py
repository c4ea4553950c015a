"""Figures of a study as JSON, and the words made of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _study_builder import StudyBuilder, build_study

from neurosweep.cli.gates import figures
from neurosweep.cli.locate import find_study
from neurosweep.cli.outcomes import last_failures
from neurosweep.cli.summary import _end, pace, summarize
from neurosweep.cli.wording import (
    best_text,
    cost_text,
    duration,
    failure_lines,
    grid_table,
    headline,
    next_steps,
    progress_line,
    results_table,
)
from neurosweep.core.errors import StudyError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.cost import hours_text
from neurosweep.records.endings import refilled_text
from neurosweep.records.fold import load_state
from neurosweep.records.state import Phase
from neurosweep.records.trial import Kind, Outcome, Purpose

KEYS = (
    "v study name recipe agent state reason driver round rounds trials objective floor default "
    "best chance improvements failures refilled errors pace throttle core_hours cost "
    "seconds created test_part test_openings folder report"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    built, _ = build_study(tmp_path_factory.mktemp("home"), rounds=2, per_round=10)
    built.study_toml.write_text('name = "speller"\n', encoding="utf-8")
    return built


def of(study: StudyDir, **changes: Any) -> dict[str, Any]:
    return summarize(study, load_state(study), now=2e9, detail=True) | changes


def test_the_keys_that_programs_rely_on(study: StudyDir) -> None:
    summary = of(study)
    assert list(summary) == KEYS.split()
    trials, best = summary["trials"], summary["best"]
    assert " ".join(trials) == "planned done failed running queued fallback"
    assert " ".join(best) == "trial value low high metrics intervals overrides"
    assert list(summary["default"]) == ["seeds", "mean", "low", "high"]
    assert list(summary["floor"]) == ["planned", "done", "failed"]
    assert list(summary["pace"]) == ["trials_per_minute", "eta_s"]


def test_the_figures_are_those_of_the_ledger(study: StudyDir) -> None:
    summary, state = of(study), load_state(study)
    trials = summary["trials"]
    assert (trials["planned"], trials["done"] + trials["failed"]) == (20, 20)
    assert summary["state"] == "complete"
    values = [v for t in state.of(Purpose.SEARCH) if (v := state.value(t)) is not None]
    assert summary["best"]["value"] == min(values) == figures(summary)["best"]
    assert summary["improvements"][-1]["trial"] == summary["best"]["trial"]
    seeds = [v for t in state.of(Purpose.FLOOR) if (v := state.value(t)) is not None]
    assert summary["default"]["mean"]["val_cer"] == pytest.approx(sum(seeds) / len(seeds))
    assert summary["default"]["low"]["val_cer"] == min(seeds)
    assert summary["pace"]["eta_s"] == 0.0
    assert summary["pace"]["trials_per_minute"] > 0


def test_every_kind_of_failure_shows_its_last_error_what_to_do_and_its_log(study: StudyDir) -> None:
    summary, state = of(study), load_state(study)
    assert {error["kind"] for error in summary["errors"]} == set(summary["failures"])
    assert {e["kind"]: e["count"] for e in summary["errors"]} == summary["failures"]
    assert (
        sum(summary["failures"].values())
        == summary["trials"]["failed"] + summary["floor"]["failed"]
    )
    ends = []
    for error in summary["errors"]:
        assert error["log"].endswith(f"trials/{error['trial']}/attempts/1/log.txt")
        first, *rest = failure_lines(error)
        assert error["trial"] in first
        assert any(error["advice"] in line for line in rest)
        assert rest[-1].endswith("log.txt")
        ends.append(state.trials[error["trial"]].attempts[0].ended_t)
    assert ends == sorted(ends, reverse=True)


def test_a_throttle_is_said_while_it_matters_and_a_refused_one_is_none(study: StudyDir) -> None:
    state = load_state(study)
    state.controls.append({"action": "throttle", "value": 0.0})
    state.controls.append({"action": "throttle", "value": 9.0, "refused": "too many"})
    summary = summarize(study, state, now=2e9)
    assert summary["throttle"] == 0
    assert "throttled" not in progress_line(summary)
    assert "| throttled to 0 at a time" in progress_line(summary | {"state": "running"})


def test_what_the_driver_ended_says_why_it_did(study: StudyDir) -> None:
    state = load_state(study)
    trial = next(t for t in state.trials.values() if t.phase is Phase.FAILED)
    data = {"trial": trial.plan.trial, "attempt": len(trial.attempts), "reason": "dull"}
    state.controls.append({"action": "end_attempt", **data})
    trial.attempts[-1].ended_t = "2099-01-01T00:00:00.000Z"
    assert last_failures(study, state)[0]["text"] == "dull"


def test_no_pace_is_told_of_the_first_moments(study: StudyDir) -> None:
    state = load_state(study)
    state.closed = None
    ends = sorted(end for t in state.trials.values() if (end := _end(t)) is not None)
    for trial in list(state.trials.values()):
        if (end := _end(trial)) is not None and end > ends[3]:
            trial.phase = Phase.RUNNING
    assert pace(state, ends[0] + 9.0)["trials_per_minute"] is None or ends[3] - ends[0] >= 10
    told = pace(state, ends[0] + 60.0)["trials_per_minute"]
    assert told == pytest.approx(3.0)
    for trial in list(state.trials.values()):
        if (end := _end(trial)) is not None and end > ends[1]:
            trial.phase = Phase.RUNNING
    assert pace(state, ends[0] + 60.0) == {"trials_per_minute": None, "eta_s": None}


def test_what_ran_again_is_counted_apart_from_the_trials_that_failed(study: StudyDir) -> None:
    state = load_state(study)
    before = summarize(study, state, now=2e9)
    again = next(t for t in state.trials.values() if t.phase is Phase.SCORED)
    lost = replace(again.attempts[0], outcome=Outcome.FAILED, kind=Kind.LOST)
    again.attempts.insert(0, lost)
    after = summarize(study, state, now=2e9)
    assert after["failures"] == before["failures"]
    assert after["refilled"] == {
        **before["refilled"],
        "lost": before["refilled"].get("lost", 0) + 1,
    }
    assert "lost" in refilled_text(after["refilled"])


def test_errors_of_one_kind_that_differ_are_shown_apart(study: StudyDir) -> None:
    state = load_state(study)
    trials = list(state.of(Purpose.SEARCH))[:3]
    for trial, type_ in zip(trials, ("OSError", "OSError", "SIGSEGV"), strict=True):
        trial.phase = Phase.FAILED
        trial.attempts[-1].kind = trial.kind = Kind.USER_ERROR
        trial.attempts[-1].error = {"type": type_, "text": "no"}
    shown = {error["type"]: error for error in last_failures(study, state)}
    assert (shown["OSError"]["count"], shown["SIGSEGV"]["count"]) == (2, 1)
    assert shown["SIGSEGV"]["meaning"] == "its process crashed, in compiled code"
    assert failure_lines(shown["OSError"])[0].startswith("  2 user_error (OSError), last ")


def test_the_cost_is_that_of_all_rounds_and_is_said_in_a_line(study: StudyDir) -> None:
    cost = of(study)["cost"]
    assert cost["core_hours"] == pytest.approx(
        sum(one["core_hours"] for one in cost["rounds"]), abs=1e-4
    )
    assert [one["round"] for one in cost["rounds"]] == [0, 1, 2]
    text = cost_text(cost)
    assert text.startswith(f"{hours_text(cost['core_hours'])} core-hours")
    assert "waited 1 s on average, 1 s at most" in text
    gpu = cost_text(cost | {"gpu_hours": 3.0, "lost_gpu_hours": 1.0, "restarts": 2})
    assert "3.00 GPU-hours, 1.00 of them without a score" in gpu
    assert "2 restarts" in gpu


def test_a_study_without_driver_can_be_resumed(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=4)
    builder.create()
    summary = of(builder.dir)
    assert summary["state"] == "resumable"
    assert summary["best"] is None
    assert summary["pace"] == {"trials_per_minute": None, "eta_s": None}
    assert best_text(summary) == "-"
    assert "floor 0 of 5" in progress_line(summary)
    assert next_steps(summary, " --home x") == [
        (f"neurosweep study resume {summary['study']} --home x", "go on")
    ]


def test_the_table_compares_default_best_and_chance(study: StudyDir) -> None:
    summary = of(study)
    header, rows = results_table(summary)
    assert header[0] == "metric"
    assert header[1] == "default, mean of 5 seeds (range)"
    assert header[2] == f"best ({summary['best']['trial']})"
    assert header[3] == "chance"
    assert rows[0][0] == "val_cer (character error rate)"
    assert rows[0][3] == "0.9615"
    assert f"{summary['best']['value']:.4f} [" in rows[0][2]
    assert all(len(row) == 4 for row in rows)


def test_columns_with_nothing_in_them_are_left_out(study: StudyDir) -> None:
    none = {"seeds": 0, "mean": {}, "low": {}, "high": {}}
    assert len(results_table(of(study, default=none))[0]) == 3
    assert len(results_table(of(study, best=None))[0]) == 3


def test_the_best_of_seeds_of_one_configuration_is_not_called_a_result(study: StudyDir) -> None:
    header, _ = results_table(of(study, agent="default"))
    assert not any(title.startswith("best") for title in header)


def test_one_line_says_where_a_study_stands(study: StudyDir) -> None:
    summary = of(study)
    assert headline(summary) == f"{study.study_id}: complete, 20 of 20 search trials ended"
    stopped = of(study, state="incomplete", reason="cancelled on request")
    assert "incomplete (cancelled on request)" in headline(stopped)
    line = progress_line(summary)
    assert line.startswith("round 2 of 2 | ")
    assert best_text(summary) in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3599.7, "1 h 00 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_study_is_found_by_id_folder_file_and_name(study: StudyDir, tmp_path: Path) -> None:
    home = Home(study.root.parent.parent)
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "speller"\n', encoding="utf-8")
    for text in (study.study_id, str(study.root), str(study.ledger), str(mine)):
        assert find_study(text, lambda: home).root == study.root


@pytest.mark.parametrize(
    ("text", "part"),
    [("speler-20260921-ab12", "did you mean 'speller-20260921-ab12'?"), ("zzz", "there are: spel")],
)
def test_an_unknown_study_lists_those_there_are(study: StudyDir, text: str, part: str) -> None:
    home = Home(study.root.parent.parent)
    with pytest.raises(StudyError) as caught:
        find_study(text, lambda: home)
    assert part in str(caught.value)
    assert f"'{text}'" in str(caught.value)


def test_a_file_that_was_never_started_says_how_to_start_it(
    study: StudyDir, tmp_path: Path
) -> None:
    home = Home(study.root.parent.parent)
    other = tmp_path / "other.toml"
    other.write_text('name = "other"\n', encoding="utf-8")
    with pytest.raises(StudyError, match=f"'other'.*neurosweep study start {other}"):
        find_study(str(other), lambda: home)
    other.write_text("name = ", encoding="utf-8")
    with pytest.raises(StudyError, match="not valid TOML"):
        find_study(str(other), lambda: home)


def test_the_test_part_is_offered_only_while_it_is_sealed(study: StudyDir) -> None:
    def offers(**changes: Any) -> bool:
        steps = next_steps(of(study, state="complete", test_part=True, **changes), "")
        return any("confirm" in command for command, _ in steps)

    assert offers(test_openings=0)
    assert not offers(test_openings=1)


def test_a_grid_lists_every_combination_with_its_result_failures_last(study: StudyDir) -> None:
    state = load_state(study)
    assert "grid" not in of(study)
    spec = {**state.spec, "agent": {**state.spec["agent"], "name": "grid"}}
    state.created = {**state.created, "spec": spec}
    summary = summarize(study, state, now=2e9, detail=True)
    values = [row["value"] for row in summary["grid"] if row["value"] is not None]
    assert len(summary["grid"]) == 20
    assert values == sorted(values)
    assert all(row["value"] is None for row in summary["grid"][len(values) :])
    header, rows = grid_table(summary)
    assert (header[0], header[-1]) == ("trial", "val_cer")
    assert "lr" in header
    assert rows[0][-1].startswith(f"{values[0]:.4f} [")
    failed = {row["kind"] for row in summary["grid"] if row["state"] == "failed"}
    assert failed == {row[-1] for row in rows[len(values) :]}
