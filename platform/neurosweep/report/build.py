"""Write a study's report: figures as PNG and SVG, and one page."""

from __future__ import annotations

from pathlib import Path

from neurosweep.core.files import atomic_write_text
from neurosweep.core.layout import StudyDir
from neurosweep.report import theme
from neurosweep.report.data import ReportData
from neurosweep.report.effects import Effects
from neurosweep.report.page import render_page
from neurosweep.report.running import RunningBest
from neurosweep.report.subjects import draw_subjects, subject_rows


def build(study: StudyDir) -> Path:
    """Write the whole report into the study's folder and return the path of its page.

    The figure of a closed round never changes, so one that exists is left alone.

    Equal ledgers give equal files, but for links into MLflow, which carry MLflow's own ids.

    Parameters
    ----------
    study
        Folder of the study; its ledger and schema are read, and of trials what is shown of them.

    Raises
    ------
    LedgerError
        When the ledger is absent or damaged.
    StudyError
        When the ledger holds no study.
    """
    data = ReportData(study)
    study.report_dir.mkdir(parents=True, exist_ok=True)
    with theme.style():
        if data.search or data.floor:
            figure = RunningBest(data).draw()
            theme.write_files(figure, study.report_dir, "running_best")
        if data.scored and data.searched:
            theme.write_files(Effects(data).together(), study.report_dir, "effects")
        if subject_rows(data):
            theme.write_files(draw_subjects(data), study.report_dir, "subjects")
        for round_state in data.rounds:
            name = f"round-{round_state.number:02d}"
            if round_state.closed and not (study.report_dir / f"{name}.svg").exists():
                figure = RunningBest(ReportData(study, up_to=round_state.number)).draw()
                theme.write_files(figure, study.report_dir, name)
        page = study.report_dir / "index.html"
        atomic_write_text(page, render_page(data))
    return page


def round_figure(study: StudyDir, number: int) -> Path:
    """Draw the study up to a round, as PNG and SVG, and return the path of the PNG.

    Parameters
    ----------
    study
        Folder of the study.
    number
        Round, from 1; 0 shows the floor alone.

    Raises
    ------
    LedgerError
        When the ledger is absent or damaged.
    StudyError
        When the ledger holds no study.
    """
    data = ReportData(study, up_to=number)
    study.report_dir.mkdir(parents=True, exist_ok=True)
    name = f"round-{number:02d}"
    with theme.style():
        theme.write_files(RunningBest(data).draw(), study.report_dir, name)
    return study.report_dir / f"{name}.png"
