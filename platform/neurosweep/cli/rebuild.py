"""Make again what is derived from a ledger: the report, MLflow's copy, the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.options import home_flag
from neurosweep.cli.summary import home_of, links_of, show_path
from neurosweep.core.errors import ConfigError
from neurosweep.core.layout import StudyDir


def rebuild(study: StudyDir, console: Console, *, mlflow: bool, export: Path | None) -> int:
    """Build the report, bring MLflow up to date and write the export, as asked.

    Raises
    ------
    ConfigError
        When the export cannot be written where it is asked for.
    """
    if export is not None and (export.is_dir() or not export.absolute().parent.is_dir()):
        msg = f"--export {export}: expected a file in a folder that exists"
        raise ConfigError(msg)
    from neurosweep.report.build import build

    page = build(study)
    console.line(f"report: {show_path(page)}")
    result: dict[str, Any] = {"v": 1, "study": study.study_id, "report": str(page)}
    code = exits.OK
    if mlflow:
        result["mlflow"] = _bring_mlflow(study, console)
        if not result["mlflow"]["caught_up"]:
            code = exits.NOT_REACHED
    if export is not None:
        result["export"] = str(_write_export(study, export))
        console.line(f"export: {show_path(export)}")
    console.data(result)
    return code


def _bring_mlflow(study: StudyDir, console: Console) -> dict[str, Any]:
    from neurosweep.records.mirror import Mirror

    home = home_of(study)
    outcome = Mirror(study, home).sync(force=True)
    links = dict(links_of(study))
    if outcome.caught_up:
        console.line(f"MLflow is up to date; open it with: neurosweep ui{home_flag(home)}")
    else:
        console.line(f"MLflow is not up to date ({outcome.pending} runs missing): {outcome.error}")
    return {
        "caught_up": outcome.caught_up,
        "pending": outcome.pending,
        "error": outcome.error,
        **links,
    }


def _write_export(study: StudyDir, path: Path) -> Path:
    from neurosweep.core.files import atomic_write_text, canonical_json
    from neurosweep.records.export import export_study

    atomic_write_text(path, canonical_json(export_study(study)) + "\n")
    return path
