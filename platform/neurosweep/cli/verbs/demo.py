"""``neurosweep demo``: a whole study on simulated MEG, or on a real EEG recording, in minutes."""

from __future__ import annotations

import argparse
import shlex
from importlib import resources
from typing import TYPE_CHECKING, Any

from neurosweep.cli.options import (
    add_budget,
    add_running,
    execution_changes,
    home_flag,
    open_home,
)
from neurosweep.core.layout import Home, StudyDir

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers

_TEXT = """search on simulated MEG of typed sentences, from data to report, in 15 minutes

People type sentences while their MEG is measured: here a simulator writes such recordings. The
demo simulates them, trains an encoder from signals to characters once, tunes a small language
model on what it reads over 5 seeds, and lets Optuna propose 2 rounds of 50 configurations of that
tuning: learning rate, weight decay, LoRA rank and batch size. All are trained and scored here by
word and character error rate, and a report is built. With --eeg it searches on a real recording
instead, a noise-tag speller: a person looks at one of 25 symbols, all flash in codes of their own,
and the decoder finds the symbol; that takes a few minutes.

Run again it goes on with an unfinished demo, or starts a new one."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = subparsers.add_parser("demo", help=_TEXT.split("\n")[0], description=_TEXT)
    parser.add_argument(
        "--eeg", action="store_true", help="search on a real EEG recording of a speller instead"
    )
    add_budget(parser)
    add_running(parser)
    parser.add_argument("--entry", help=argparse.SUPPRESS)
    parser.add_argument("--recipe", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Start a demo study, or go on with an unfinished one."""
    from neurosweep.cli import exits
    from neurosweep.cli.console import Console
    from neurosweep.cli.launch import RunOptions, create, drive, make_spec

    options = RunOptions.of(args)
    changes = execution_changes(args)
    for name in ("entry", "recipe"):
        if getattr(args, name) is not None:
            changes |= {name: getattr(args, name), "stage": None, "search": {}}
    spec = make_spec(demo_study(eeg=args.eeg), changes, "the demo's study")
    home = open_home(args.home, create=True)
    console = Console(as_json=args.json)
    unfinished = _unfinished(home, spec.model_dump(mode="json"))
    if unfinished is not None:
        console.line(f"going on with the unfinished demo {unfinished.study_id} in {home.root}")
        return drive(unfinished, console, options)
    console.line(f"starting a new demo in {home.root}")
    study = create(spec, home, console)
    code = drive(study, console, options)
    if code == exits.OK:
        console.lines(_next_steps(study, home_flag(home), eeg=args.eeg))
    return code


def demo_study(*, eeg: bool = False) -> dict[str, Any]:
    """Return the specification of a demo as data."""
    import tomllib

    name = "demo_eeg.toml" if eeg else "demo.toml"
    text = resources.files("neurosweep.cli.studies").joinpath(name).read_text("utf-8")
    return tomllib.loads(text)


def _unfinished(home: Home, spec: dict[str, Any]) -> StudyDir | None:
    """Return the newest demo that can go on with the same budget and recipe."""
    from neurosweep.cli.locate import studies_of, study_name
    from neurosweep.core.errors import LedgerError
    from neurosweep.records.fold import load_state

    for study in reversed(studies_of(home)):
        if study_name(study) != spec["name"]:
            continue
        try:
            state = load_state(study)
        except LedgerError:
            continue
        same = all(state.spec.get(key) == spec[key] for key in ("entry", "recipe", "budget"))
        if state.closed is None and same:
            return study
    return None


def _next_steps(study: StudyDir, flag: str, *, eeg: bool) -> list[str]:
    """Return what else can be typed now."""
    sweep = "speller --set training.learning_rate=1e-3,3e-3"
    if not eeg:
        sweep = "sentences_llm --set llm.lora_rank=4,16"
    steps = [
        *_decode_step(study, flag),
        (f"neurosweep sweep {sweep}{flag}", "your own values"),
        ("neurosweep doctor", "what this machine can and cannot do, SLURM and GPU included"),
    ]
    if not eeg:
        steps.append((f"neurosweep demo --eeg{flag}", "the same on a real EEG recording"))
    return [f"{command}  # {what}" for command, what in steps]


def _decode_step(study: StudyDir, flag: str) -> list[tuple[str, str]]:
    """Return how to decode a simulated recording with the best trial, where there are both."""
    from neurosweep.cli.summary import home_of, show_path
    from neurosweep.records.fold import load_state
    from neurosweep.research.best import running_best

    state = load_state(study)
    best = running_best(state)
    folder = state.created["data_info"].get("recordings_folder")
    if best is None or not folder:
        return []
    attempt = state.trials[best.trial].attempts[-1].number
    recordings = sorted((home_of(study).root / str(folder)).rglob("*.fif"))
    if not recordings or not study.trial(best.trial).attempt(attempt).ckpt.is_dir():
        return []
    path = shlex.quote(show_path(recordings[0]))
    command = f"neurosweep decode {path} --run {study.study_id}/{best.trial}{flag}"
    return [(command, "read a recording with the best trial")]
