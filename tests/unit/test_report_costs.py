"""Costs and failures of a report's page."""

from __future__ import annotations

import re

import pytest
from _study_builder import StudyBuilder

from neurosweep.core.layout import Home
from neurosweep.records.trial import POLICY, Kind
from neurosweep.report.costs import cost_table
from neurosweep.report.data import ReportData
from neurosweep.report.failures import LOG_LINES, failure_rows, refilled_text
from neurosweep.report.headline import tiles
from neurosweep.report.page import render_page


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = StudyBuilder(Home(tmp_path_factory.mktemp("home")), per_round=12, floor=2)
    made.fail_share = 0.4
    made.create()
    for number in range(3):
        made.run_round(number)
    return made.dir


@pytest.fixture(scope="module")
def data(study):
    return ReportData(study)


def test_a_round_shows_what_it_cost_and_columns_with_nothing_are_left_out(data):
    table = cost_table(data)
    assert table["columns"] == [
        "Core-hours",
        "Without a score",
        "Queue, mean",
        "Queue, longest",
        "Idle slots",
    ]
    assert [row["name"] for row in table["rows"]] == ["floor", "round 01", "round 02", "all"]
    assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"])
    assert table["rows"][-1]["total"]
    assert re.search(r"[\d.]+ core-hours in .*: [\d.]+ cores busy on average", table["note"])


def test_gpus_and_restarts_are_shown_where_there_are_any(study):
    found = ReportData(study)
    for trial in found.state.trials.values():
        for attempt in trial.attempts:
            attempt.gpus, attempt.restarts = 2, 1
    table = cost_table(found)
    assert table["columns"][1] == "GPU-hours"
    assert "Restarts" in table["columns"]
    assert " and " in table["note"]
    last = tiles(found)[-1]
    assert last["name"] == "GPU-hours"
    assert "core-hours; " in last["note"]


def test_a_failure_says_what_it_means_what_to_do_and_how_its_log_ends(data):
    rows = failure_rows(data)
    assert rows
    for row in rows:
        policy = POLICY[Kind(row["kind"])]
        assert (row["meaning"], row["advice"]) == (policy.meaning, policy.advice)
        assert row["log"].startswith(f"{row['trial']}: trained\n</pre><script>")
        assert len(row["log"].split("\n")) <= LOG_LINES
    assert "1 attempt failed with the infrastructure and ran again: lost 1." in refilled_text(data)


def test_what_the_driver_ended_says_why_it_did(study):
    found = ReportData(study)
    row = failure_rows(found)[0]
    attempt = found.state.trials[row["trial"]].attempts[-1]
    told = {"action": "end_attempt", "trial": row["trial"], "attempt": attempt.number}
    found.state.controls.append({**told, "reason": "no progress for 26 s"})
    assert failure_rows(found)[0]["message"] == "no progress for 26 s"


def test_what_a_job_printed_is_text_on_the_page(data):
    page = render_page(data)
    assert "<script" not in page
    assert "&lt;/pre&gt;&lt;script&gt;" in page
    assert "\x1b" not in page
    assert page.count("<pre") == page.count("</pre>") == len(failure_rows(data))
