"""Find a study by its id, its folder, or the file it was started from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from neurosweep.cli.parser import hint
from neurosweep.core.errors import StudyError
from neurosweep.core.layout import Home, StudyDir


def list_studies(home: Home) -> list[StudyDir]:
    """Return the studies of a home, oldest first."""
    if not home.studies_dir.is_dir():
        return []
    found = [home.study(path.name) for path in home.studies_dir.iterdir()]
    studies = [study for study in found if study.ledger.is_file()]
    return sorted(studies, key=lambda study: (str(_first_event(study).get("t", "")), study.root))


def find_study(text: str, home: Home | None) -> StudyDir:
    """Return the study that a person means.

    Parameters
    ----------
    text
        A study's id, its folder, a file in its folder, or a study.toml: then the newest study
        of that name.
    home
        Where ids and names are looked up; None when only a folder will do.

    Raises
    ------
    StudyError
        When there is no such study; lists those that exist.
    """
    path = Path(text)
    for folder in (path, path.parent):
        if path.exists() and (folder / "ledger.jsonl").is_file():
            return StudyDir(folder.absolute())
    studies = [] if home is None else list_studies(home)
    by_id = {study.study_id: study for study in studies}
    if text in by_id:
        return by_id[text]
    if path.suffix == ".toml" and path.is_file():
        name = _name_in(path)
        same = [study for study in studies if study_name(study) == name]
        if same:
            return same[-1]
        msg = (
            f"no study named '{name}' was started yet; start it with: neurosweep study start {text}"
        )
        raise StudyError(msg)
    where = "" if home is None else f" in {home.root}"
    listed = ", ".join(list(by_id)[-5:]) or "none"
    msg = (
        f"there is no study '{text}'{where}{hint(text, by_id)}expected a study's id, its "
        f"folder or its study.toml. Latest studies: {listed}"
    )
    raise StudyError(msg)


def study_name(study: StudyDir) -> str:
    """Return the name in a study's specification, without reading the whole ledger."""
    return str(_first_event(study).get("data", {}).get("spec", {}).get("name", ""))


def _first_event(study: StudyDir) -> dict[str, Any]:
    try:
        with study.ledger.open(encoding="utf-8") as file:
            event = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return event if isinstance(event, dict) else {}


def _name_in(path: Path) -> str:
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("name", ""))
    except (OSError, ValueError) as error:
        msg = f"{path}: is not valid TOML ({error})"
        raise StudyError(msg) from error
