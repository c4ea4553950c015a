"""Show where studies stand, from their ledgers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosweep.cli.console import Console
from neurosweep.cli.launch import result_data, show_summary
from neurosweep.cli.live import view_for
from neurosweep.cli.locate import studies_of
from neurosweep.cli.options import home_flag
from neurosweep.cli.summary import home_of, summarize
from neurosweep.cli.wording import best_text, progress_line
from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.errors import LedgerError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.fold import load_state
from neurosweep.research.progress import note_held

_WATCH_S = 2.0


def show_status(study: StudyDir, console: Console) -> None:
    """Print where one study stands."""
    state = load_state(study)
    note_held(study, state)
    summary = summarize(study, state, SystemClock().now(), detail=True)
    flag = home_flag(home_of(study))
    console.line(progress_line(summary))
    show_summary(console, summary, flag)
    if console.as_json:
        console.data(result_data(summary, flag))


def watch(study: StudyDir, console: Console, clock: Clock | None = None) -> None:
    """Show a study until its driver has ended."""
    clock = clock or SystemClock()
    with view_for(console, clock) as view:
        while True:
            summary = summarize(study, load_state(study), clock.now())
            view.update(lambda shown=summary: shown, force=console.is_terminal)  # type: ignore[misc]
            if summary["state"] != "running":
                return
            clock.sleep(_WATCH_S)


def list_all(home: Home, console: Console) -> None:
    """Print one line for every study of a home, oldest first; a damaged one says so."""
    now = SystemClock().now()
    listed = [_entry(study, now) for study in studies_of(home)]
    if not listed:
        console.line(f"no studies in {home.root} yet; start one with: neurosweep demo")
    else:
        header = ("study", "state", "agent", "ended", "best")
        console.table(header, [_row(entry) for entry in listed])
    console.data({"v": 1, "home": str(home.root), "studies": listed})


def _entry(study: StudyDir, now: float) -> dict[str, Any]:
    try:
        return summarize(study, load_state(study), now)
    except LedgerError as error:
        return {"v": 1, "study": study.study_id, "state": "damaged", "reason": str(error)}


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if entry["state"] == "damaged":
        return (entry["study"], "damaged", "", "", entry["reason"])
    trials = entry["trials"]
    ended = f"{trials['done'] + trials['failed']} of {trials['planned']}"
    return (entry["study"], entry["state"], entry["agent"], ended, best_text(entry))
