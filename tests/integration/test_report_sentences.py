"""The example sentences of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from _browser import chromium, errors
from _sentence_study import SentenceStudy, build_sentence_study
from _study_builder import build_study

from neurosweep.core.layout import Home, StudyDir
from neurosweep.report.build import build
from neurosweep.report.data import ReportData
from neurosweep.report.page import render_page
from neurosweep.report.sentences import sentence_section

HOSTILE = "</table><script>alert(1)</script> \x00\u202e"


class HostileStudy(SentenceStudy):
    """Every job answers with markup."""

    def spoil(self, text: str, rate: float) -> str:
        return f"{super().spoil(text, rate)} {HOSTILE}"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    return build_sentence_study(tmp_path_factory.mktemp("home"), per_round=6)[0]


def _best_folder(study: StudyDir) -> Path:
    best = ReportData(study).best
    assert best is not None
    return study.trial(best.plan.trial).root


def test_stages_stand_side_by_side_from_the_best_sentence_to_the_worst(study: StudyDir) -> None:
    data = ReportData(study)
    section = sentence_section(data)
    assert section is not None
    assert section["outputs"] == ["Greedy CTC", "LLM", "Without MEG tokens"]
    assert section["resampled"] == "sentences"
    rates = [float(row["cells"][1]["wer"].rstrip(" %") or 0) for row in section["rows"]]
    assert len(rates) == 10
    assert rates == sorted(rates)
    scores = json.loads((_best_folder(study) / "scores.json").read_text())
    worst = max(item["wer"] for item in scores["items"])
    assert rates[-1] == pytest.approx(100 * worst, abs=0.5)
    assert sentence_section(data) == section


def test_rates_stand_beside_default_and_chance_with_paired_differences(study: StudyDir) -> None:
    data = ReportData(study)
    section = sentence_section(data)
    assert section is not None
    assert data.best is not None
    rows = {row["name"]: row for row in section["rates"]}
    assert list(rows) == [
        "Greedy CTC",
        "LLM",
        "Without MEG tokens",
        "LLM, default recipe (3 seeds)",
        "Chance",
    ]
    metrics = data.best.metrics
    assert rows["LLM"]["wer"] == f"{metrics['val_wer']:.3f}"
    assert rows["Greedy CTC"]["cer"] == f"{metrics['val_cer_greedy']:.3f}"
    low, high = data.interval(data.best) or (0.0, 0.0)
    assert rows["LLM"]["interval"] == f"{low:.3f} to {high:.3f}"
    match = re.fullmatch(r"(\S+) \((\S+) to (\S+)\)", rows["Greedy CTC"]["difference"])
    assert match
    mean, below, above = map(float, match.groups())
    assert mean == pytest.approx(metrics["val_wer"] - metrics["val_wer_greedy"], abs=6e-4)
    assert below < mean < above
    assert rows["LLM"]["difference"] == rows["Chance"]["difference"] == ""
    assert rows["Chance"]["wer"] == "0.970"


def test_variants_are_no_columns_of_the_best_table(study: StudyDir) -> None:
    page = render_page(ReportData(study))
    best = page[page.index('<section id="best"') : page.index('<section id="sentences"')]
    assert "CER" in best
    assert "reedy" not in best
    assert "no_meg" not in best


def test_text_of_jobs_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_sentence_study.SentenceStudy", HostileStudy)
    hostile, _ = build_sentence_study(tmp_path, per_round=2, floor=0, fail_share=0.0)
    page = render_page(ReportData(hostile))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\x00" not in page


@pytest.mark.parametrize("damage", ["scores", "predictions", "references", "no scores"])
def test_only_what_the_ledger_knows_is_shown(tmp_path: Path, damage: str) -> None:
    study, builder = build_sentence_study(tmp_path, per_round=2, floor=0, fail_share=0.0)
    assert sentence_section(ReportData(study)) is not None
    folder = _best_folder(study)
    if damage == "scores":
        text = (folder / "scores.json").read_text()
        (folder / "scores.json").write_text(text.replace('"wer":', '"wer": '))
    elif damage == "predictions":
        path = folder / "attempts" / "1" / "predictions.jsonl"
        path.write_text(path.read_text().replace("boat", "goat"))
    elif damage == "references":
        builder.references.unlink()
    else:
        (folder / "scores.json").unlink()
    assert sentence_section(ReportData(study)) is None
    assert 'id="sentences"' not in build(study).read_text(encoding="utf-8")


def test_a_study_of_symbols_or_without_scores_has_no_such_section(tmp_path: Path) -> None:
    symbols, _ = build_study(tmp_path / "a", per_round=3, rounds=1, floor=1)
    assert sentence_section(ReportData(symbols)) is None
    builder = SentenceStudy(Home(tmp_path / "b"), rounds=1, per_round=2)
    builder.create()
    assert sentence_section(ReportData(builder.dir)) is None


def test_a_small_screen_scrolls_the_tables_only(study: StudyDir, tmp_path: Path) -> None:
    page = build(study)
    with chromium(tmp_path / "profile") as window:
        window.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
        )
        window.get(page.as_uri())
        assert window.execute_script("return document.documentElement.scrollWidth") <= 360
        heard = window.find_elements("css selector", "#sentences .heard")
        assert heard
        assert max(element.size["width"] for element in heard) <= 1
        assert errors(window) == []
