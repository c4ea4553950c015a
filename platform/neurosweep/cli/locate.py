"""Find a study by its id, its folder, or the file it was started from."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neurosweep.core.errors import StudyError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.ids import parse_trial_id
from neurosweep.research.status import find_study as find_by_id
from neurosweep.research.status import list_studies


def find_study(text: str, open_home: Callable[[], Home]) -> StudyDir:
    """Return the study that a person means.

    Parameters
    ----------
    text
        A study's id, its folder, a file in its folder, or a study.toml: then the newest study
        of that name.
    open_home
        Returns the home where ids and names are looked up; not called for a folder.

    Raises
    ------
    StudyError
        When there is no such study; lists those that exist.
    """
    path = Path(text)
    for folder in (path, path.parent):
        if path.exists() and (folder / "ledger.jsonl").is_file():
            return StudyDir(folder.absolute())
    home = open_home()
    if path.suffix == ".toml" and path.is_file():
        name = load_name(path)
        same = [study for study in studies_of(home) if study_name(study) == name]
        if same:
            return same[-1]
        start = f"neurosweep study start {text}"
        msg = f"no study named '{name}' was started in {home.root} yet; start it with: {start}"
        raise StudyError(msg)
    return find_by_id(home, text)


def find_trial(text: str, open_home: Callable[[], Home], study: str = "") -> tuple[StudyDir, str]:
    """Return study and trial id that a person means.

    Parameters
    ----------
    text
        STUDY/TRIAL, the path of a trial's folder, or a trial of `study`.
    open_home
        Returns the home where ids are looked up.
    study
        Which study, as `find_study` takes it; empty for the newest of the home.

    Raises
    ------
    StudyError
        When there is no such study, or the text is no trial's id.
    """
    named, slash, trial = text.rstrip("/").rpartition("/")
    named = named.removesuffix("/trials")
    parse_trial_id(trial)
    if slash and study:
        msg = f"{text}: names a study and so does --study; give one of them"
        raise StudyError(msg)
    if slash or study:
        return find_study(named or study, open_home), trial
    studies = studies_of(open_home())
    if not studies:
        msg = f"{trial}: there is no study in {open_home().root}; name one: STUDY/{trial}"
        raise StudyError(msg)
    return studies[-1], trial


def studies_of(home: Home) -> list[StudyDir]:
    """Return the studies of a home, oldest first."""
    return [home.study(name) for name in list_studies(home)]


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


def load_name(path: Path) -> str:
    """Return the name that a study.toml gives its study.

    Raises
    ------
    StudyError
        When the file is not TOML.
    """
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("name", ""))
    except (OSError, ValueError) as error:
        msg = f"{path}: is not valid TOML ({error})"
        raise StudyError(msg) from error
