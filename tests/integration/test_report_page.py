from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from _study_builder import COMMIT, DATA_FP, StudyBuilder, build_study

from neurosweep.core.errors import LedgerError, StudyError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.trial import Kind
from neurosweep.report.build import build, round_figure
from neurosweep.report.data import ReportData

HOSTILE = "\x00</svg></title><script>alert('x')</script> $x^{2}$ \u202e日本 \U0001f600"


class Outline(HTMLParser):
    """Collect tags, attributes and ids, and check that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    study, _ = build_study(
        tmp_path_factory.mktemp("home"), per_round=16, floor=3, idea=HOSTILE, fail_share=0.2
    )
    build(study)
    return study


@pytest.fixture(scope="module")
def page(study: StudyDir) -> str:
    return (study.report_dir / "index.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for name, value in outline.attributes if name == "href"} - {"ata:,"}
    assert {target for target in targets if not target.startswith("ttp")} <= set(ids)


def test_the_page_needs_nothing_else_and_runs_nothing(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert "script" not in outline.tags
    assert not {"img", "iframe", "object", "embed", "base"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    assert not [value for name, value in outline.attributes if name == "src"]
    assert "default-src 'none'" in page
    css_addresses = re.findall(r"url\(([^)]*)\)", page)
    assert all(address.startswith("#") for address in css_addresses)


def test_text_of_agents_and_jobs_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x00" not in page
    assert "\u202e" not in page


def test_the_page_says_what_was_found_against_default_and_chance(
    page: str, study: StudyDir
) -> None:
    data = ReportData(study)
    assert data.best is not None
    assert data.floor_stats is not None
    assert f"{data.value(data.best):.3f}" in page
    assert f"{data.floor_stats[0]:.3f} ± {data.floor_stats[1]:.3f}" in page
    assert "chance is 0.962" in page
    assert "contiguous blocks of time" in page
    assert "luck alone" in page
    assert COMMIT in page
    assert DATA_FP in page
    assert f"neurosweep rerun {data.best.plan.trial}" in page
    for kind in {trial.kind for trial in data.failed}:
        assert f">{kind.value}<" in page
    assert "1 attempt failed with the infrastructure and ran again: lost 1." in page


def test_every_trial_is_a_dot_with_its_text(page: str, study: StudyDir) -> None:
    data = ReportData(study)
    shown = page[page.index('<div class="wide">') : page.index('<div class="narrow">')]
    tips = set(re.findall(r"<title>(r\d\dt\d\d\d):", shown))
    assert tips == {trial.plan.trial for trial in data.search}
    diamonds = len(re.findall("<title>default,", shown))
    assert diamonds == 3


def test_the_best_table_lists_ten_and_the_default(page: str, study: StudyDir) -> None:
    table = page[page.index('id="best"') : page.index('id="effects"')]
    data = ReportData(study)
    trials = re.findall(r"r\d\dt\d\d\d", table)
    assert trials == [trial.plan.trial for trial in data.scored[:10]]
    assert ">default<" in table


def test_improvements_are_strict_and_name_what_changed(study: StudyDir) -> None:
    data = ReportData(study)
    values = [step.value for step in data.improvements]
    assert values == sorted(set(values), reverse=True)
    assert values[-1] == data.value(data.scored[0])
    assert any("lr " in change for change in data.improvements[0].changes)


def test_rebuilding_gives_equal_files(study: StudyDir) -> None:
    before = {path.name: path.read_bytes() for path in study.report_dir.iterdir()}
    for path in study.report_dir.iterdir():
        path.unlink()
    build(study)
    after = {path.name: path.read_bytes() for path in study.report_dir.iterdir()}
    assert after == before
    assert {"index.html", "running_best.png", "effects.svg", "subjects.png", "round-02.svg"} <= set(
        after
    )


def test_the_figure_of_a_round_does_not_change_with_later_rounds(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=8, floor=2)
    builder.create()
    builder.run_round(0)
    builder.run_round(1)
    first = round_figure(builder.dir, 1).read_bytes()
    builder.run_round(2)
    assert round_figure(builder.dir, 1).read_bytes() == first
    assert first.startswith(b"\x89PNG")


def test_a_study_without_a_single_score_has_a_page(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=4, floor=0, fail_share=1.0)
    builder.create()
    page = build(builder.dir).read_text(encoding="utf-8")
    assert "No search trial has been scored yet." in page
    assert "in progress" in page
    builder.run_round(0)
    builder.run_round(1)
    page = build(builder.dir).read_text(encoding="utf-8")
    assert "0 scored, 4 failed" in page or "1 scored, 3 failed" in page


def test_a_closed_study_that_lacks_trials_says_so(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=4, floor=1)
    builder.create()
    builder.run_round(0)
    builder.run_round(1)
    builder.ledger.append(
        "study_closed", {"reason": "cancelled <i>", "planned": 8, "done": 4, "failed": 0}
    )
    page = build(builder.dir).read_text(encoding="utf-8")
    assert "incomplete: 4 of 8 (cancelled &lt;i&gt;)" in page


def test_a_confirmation_is_shown_as_the_test_result(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=6, floor=3, rounds=1)
    builder.create()
    builder.run_round(0)
    builder.run_round(1)
    builder.close()
    assert 'id="confirmation"' not in build(builder.dir).read_text(encoding="utf-8")
    builder.confirm()
    page = build(builder.dir).read_text(encoding="utf-8")
    section = page[page.index('id="confirmation"') : page.index('id="running-best"')]
    assert f"The configuration of {builder.best_trial} was frozen" in section
    assert "0.2500" in section
    assert "0.962" in section
    assert len(ReportData(builder.dir).search) == 6


def test_an_idea_that_is_said_of_every_trial_tells_nothing(tmp_path: Path) -> None:
    builder = StudyBuilder(Home(tmp_path), per_round=12, rounds=1, floor=1, idea="by TPE")
    builder.create()
    builder.run_round(0)
    builder.idea_every = 1
    builder.run_round(1)
    steps = ReportData(builder.dir).improvements
    assert steps
    assert {step.idea for step in steps} == {""}


def test_a_higher_objective_can_be_the_better_one(tmp_path: Path) -> None:
    study, _ = build_study(
        tmp_path, per_round=14, rounds=1, metric="val_acc", direction="maximize", fail_share=0.0
    )
    data = ReportData(study)
    assert data.best is not None
    assert data.value(data.best) == max(data.value(trial) for trial in data.scored)
    assert "higher is better" in build(study).read_text(encoding="utf-8")


def test_no_ledger_and_no_study_are_clear_errors(tmp_path: Path) -> None:
    study = Home(tmp_path).study("s-20260101-0000")
    study.root.mkdir(parents=True)
    with pytest.raises(LedgerError):
        build(study)
    study.ledger.touch()
    with pytest.raises(StudyError, match="holds no study"):
        build(study)
    assert not study.report_dir.exists()


def test_every_kind_of_failure_has_a_meaning() -> None:
    from neurosweep.records.trial import POLICY

    assert set(POLICY) == set(Kind)
