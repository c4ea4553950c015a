"""A whole simulated study on disk: recordings, events table, and what made them."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from neurodecode.datasets import _neuromag
from neurodecode.datasets._typing_sim.bundle import NOISE_FILE, TYPING_FILE, bundled_folder
from neurodecode.datasets._typing_sim.fif import write_fif
from neurodecode.datasets._typing_sim.keyboard import SPACE
from neurodecode.datasets._typing_sim.options import Config
from neurodecode.datasets._typing_sim.person import Person, draw_person
from neurodecode.datasets._typing_sim.recording import Chances, simulate
from neurodecode.datasets._typing_sim.script import Script, draw_sentences, write_scripts
from neurodecode.events import Event, write_events
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json, read_json, sha256_file
from neurosweep.core.fingerprint import fingerprint

TABLE = "events.tsv"
RECORD = "simulation.json"
_HOLD_S = 0.1
_TEXT_SEED, _PERSON, _SCRIPT = 1, 7, 8
_LANGUAGE = "english"


def default_folder(config: Config, home_root: Path) -> Path:
    """Return where recordings lie that the user did not place."""
    return home_root / "recordings" / simulation_fingerprint(config)


def simulation_fingerprint(config: Config) -> str:
    """Return the name of all options and of all code, text and measurements that they use."""
    options = config.model_dump(mode="json", exclude={"folder"})
    return fingerprint({"options": options, "code": _code_sha()})


@cache
def _code_sha() -> str:
    own = Path(__file__).parent
    text = own.parents[1] / "text"
    files = [
        *(file for file in own.glob("*.py") if not file.name.startswith("fit_")),
        *(bundled_folder() / name for name in (NOISE_FILE, TYPING_FILE)),
        Path(_neuromag.__file__).with_name("helmet.csv"),
        text / "files" / "cc0.txt.gz",
    ]
    return fingerprint({file.name: sha256_file(file) for file in sorted(files)})


def make_study(config: Config, say: Callable[[str], None]) -> list[str]:
    """Write all recordings and the events table, unless they are there.

    The folder appears when it is complete.

    Returns
    -------
    list of str
        Paths of all files, the table first.

    Raises
    ------
    ConfigError
        When the options contradict each other or ask for more text than there is.
    DataError
        When the folder holds something else, or cannot be written.
    """
    if not config.folder:
        raise DataError("data.folder: is empty; name the folder that gets the recordings")
    folder = Path(config.folder)
    if is_made(config):
        say(f"recordings are there: {folder}")
        return study_files(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder}: is there and is not this simulation; remove it, or name another folder"
        raise DataError(f"{msg} in data.folder")
    # Machines that share a disk may give two processes one number.
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    with _writing(folder):
        partial.mkdir(parents=True)
    try:
        _write_study(config, partial, say)
        with _writing(folder):
            if not is_made(config):
                partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return study_files(folder)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into one that says what to do."""
    try:
        yield
    except OSError as error:
        msg = f"{folder}: the recordings cannot be written ({error.strerror or error}); free the"
        raise DataError(f"{msg} disk, or name another folder in data.folder") from error


def is_made(config: Config) -> bool:
    """Return whether the folder holds this simulation, complete."""
    record = Path(config.folder) / RECORD
    if not config.folder or not record.is_file():
        return False
    made: bool = read_json(record).get("fingerprint") == simulation_fingerprint(config)
    return made


def study_files(folder: Path) -> list[str]:
    """Return the paths of the table and of all recordings."""
    return [str(folder / TABLE), *(str(path) for path in sorted(folder.glob("*.fif")))]


def _write_study(config: Config, folder: Path, say: Callable[[str], None]) -> None:
    text_rng = np.random.default_rng([config.seed, _TEXT_SEED])
    sentences = draw_sentences(config, text_rng)
    people = [_person(config, number) for number in range(config.subjects)]
    scripts = [_scripts(config, person, sentences) for person in people]
    total_s = sum(script.duration_s for own in scripts for script in own)
    num_total = config.subjects * config.recordings
    say(f"{num_total} recordings, {total_s / 60:.1f} minutes, {len(sentences)} sentences a subject")
    events: list[Event] = []
    for person, own in zip(people, scripts, strict=True):
        for number, script in enumerate(own):
            timeline = f"R{person.number * config.recordings + number + 1:02d}"
            chances = Chances(config.seed, person.number, number)
            info, data_CT = simulate(config, person, script, chances)
            file = f"{subject_name(person)}_{timeline}_meg.fif"
            with _writing(folder):
                write_fif(folder / file, info, data_CT)
            events += _events(config, person, timeline, file, script)
            say(f"{file}: {script.duration_s / 60:.1f} minutes, {len(script.sentences)} sentences")
    record = {
        "fingerprint": simulation_fingerprint(config),
        "options": config.model_dump(mode="json", exclude={"folder"}),
        "recorded_s": round(total_s, 3),
    }
    with _writing(folder):
        write_events(folder / TABLE, events)
        atomic_write_json(folder / RECORD, record)


def _person(config: Config, number: int) -> Person:
    rng = Chances(config.seed, number, 0).of(_PERSON, shared=True)
    return draw_person(config, number, rng)


def _scripts(config: Config, person: Person, sentences: list[str]) -> list[Script]:
    rng = Chances(config.seed, person.number, 0).of(_SCRIPT, shared=True)
    return write_scripts(sentences, person.log_pace, config, rng)


def subject_name(person: Person) -> str:
    """Return the name of a subject, ``S01`` for the first."""
    return f"S{person.number + 1:02d}"


def _events(
    config: Config, person: Person, timeline: str, file: str, script: Script
) -> list[Event]:
    """Return the rows of one recording: itself, its sentences and their keys."""
    name = subject_name(person)
    row = Event("Meg", 0.0, script.duration_s, timeline, subject=name, task="typing")
    rows = [replace(row, filepath=file, frequency=config.sfreq_hz)]
    for number, sentence in enumerate(script.sentences):
        trial = replace(row, trial_id=f"{number:04d}")
        starts = [round(float(moment), 4) for moment in sentence.press_s]
        rows.append(
            replace(
                trial,
                type="Sentence",
                start=starts[0],
                duration=round(starts[-1] - starts[0] + _HOLD_S, 4),
                text=sentence.reference,
                language=_LANGUAGE,
                extra={"typed": sentence.typed},
            )
        )
        key = replace(trial, type="Keystroke", duration=_HOLD_S)
        for start, character in zip(starts, sentence.typed, strict=True):
            button = SPACE if character == " " else character
            rows.append(replace(key, start=start, text=character, button=button))
    return rows
