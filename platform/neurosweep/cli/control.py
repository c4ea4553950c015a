"""Ask the driver of a study for something, or do it here when there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.parser import hint
from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.errors import ConfigError, StudyError
from neurosweep.core.layout import StudyDir
from neurosweep.core.schema import Value
from neurosweep.records.fold import load_state
from neurosweep.records.state import Phase, StudyState
from neurosweep.records.trial import Purpose

_ANSWER_S = 5.0
_LOOK_S = 0.1
_NUM_NAMED = 8


@dataclass(frozen=True)
class Asked:
    """Hold what a person asks of a study.

    Attributes
    ----------
    action, reason, trial, value, overrides
        As in `neurosweep.research.control.Request`.
    """

    action: str
    reason: str = ""
    trial: str = ""
    value: float | None = None
    overrides: Mapping[str, Value] = field(default_factory=dict)


def control(study: StudyDir, console: Console, asked: Asked, *, clock: Clock | None = None) -> int:
    """Leave a request for the driver and wait a moment for its answer; cancel without a driver.

    Raises
    ------
    StudyError
        When the request cannot be obeyed; all that is wrong is said, and nothing is left.
    """
    from neurosweep.research.control import send_request
    from neurosweep.research.lock import live_driver

    state = load_state(study)
    _check(study, state, asked)
    holder = live_driver(study.lock)
    if holder is None and asked.action == "pause":
        msg = f"study {study.study_id}: has no driver, so it rests already; nothing to pause"
        raise StudyError(msg)
    request = send_request(
        study,
        asked.action,
        reason=asked.reason,
        trial=asked.trial,
        value=asked.value,
        overrides=asked.overrides,
    )
    answer: str | None = None
    if holder is not None:
        console.line(f"asked the driver of {study.study_id} ({holder})")
        answer = _answer(study, request, clock or SystemClock())
        console.line(_said(study, state, asked, answer))
    elif asked.action == "cancel":
        _drive_to_end(study)
        _tell_end(study, console)
    else:
        console.line(f"study {study.study_id} has no driver; obeyed when it is resumed")
    console.data(
        {
            "v": 1,
            "study": study.study_id,
            "action": asked.action,
            "request": request,
            "trial": asked.trial or None,
            "value": asked.value,
            "overrides": dict(asked.overrides),
            "driver": holder is not None,
            "obeyed": answer == "",
            "refused": answer or None,
        }
    )
    return exits.USER_ERROR if answer else exits.OK


def _check(study: StudyDir, state: StudyState, asked: Asked) -> None:
    where = f"study {study.study_id}"
    if state.closed is not None:
        msg = f"{where}: has ended ({state.closed['reason']}); nothing to {asked.action}"
        raise StudyError(msg)
    if asked.action == "stop":
        found = state.trials.get(asked.trial)
        if found is not None and found.phase.final:
            how = found.kind.value if found.phase is Phase.FAILED else found.phase.value
            msg = f"{where}: {asked.trial} has ended already: {how}; nothing to stop"
            raise StudyError(msg)
        if found is None:
            open_ones = [name for name, trial in state.trials.items() if not trial.phase.final]
            raise StudyError(_no_trial(where, asked.trial, "to stop", open_ones, "have not ended"))
    if asked.action == "clone":
        problems = clone_problems(study, state, asked.trial, asked.overrides)
        if problems:
            listed = "\n  ".join(problems)
            msg = f"{where}: {asked.trial} cannot be cloned so\n  {listed}"
            raise StudyError(msg)


def _no_trial(where: str, trial: str, what_for: str, known: Sequence[str], which: str) -> str:
    shown = ", ".join(known[:_NUM_NAMED]) or "none"
    more = f" and {len(known) - _NUM_NAMED} more" if len(known) > _NUM_NAMED else ""
    text = f"{where}: no trial '{trial}' {what_for}{hint(trial, known)}"
    return f"{text}trials that {which}: {shown}{more}"


def clone_problems(
    study: StudyDir, state: StudyState, trial: str, overrides: Mapping[str, Value]
) -> list[str]:
    """Return everything that speaks against a clone of a trial; empty when nothing does."""
    from neurosweep.research.planning import RunFolders
    from neurosweep.research.turns import rooms_left

    found = state.trials.get(trial)
    if found is None or found.plan.purpose is not Purpose.SEARCH:
        known = [one.plan.trial for one in state.of(Purpose.SEARCH)]
        why = "is outside the search" if found is not None else "is no trial of this study"
        return [f"{trial}: {why}; only search trials are cloned{hint(trial, known)}".rstrip("; ")]
    schema = RunFolders(study, state.created).schema()
    problems = schema.check_proposal({**found.plan.overrides, **overrides})
    if any(path not in schema for path in overrides):
        problems.append(f"this study searches: {', '.join(schema)}")
    if rooms_left(state) < 1:
        problems.append("every trial of the budget is planned; a clone takes a place of its own")
    return problems


def one_value_each(assignments: Sequence[str]) -> dict[str, Value]:
    """Return the paths and values that ``--set`` gives a clone.

    Raises
    ------
    ConfigError
        When one is no assignment, has several values, or a path is given twice.
    """
    from neurosweep.core.config import parse_assignment

    overrides: dict[str, Value] = {}
    for text in assignments:
        path, values = parse_assignment(text)
        if len(values) > 1:
            msg = f"--set {text}: a clone takes one value; for several give several commands"
            raise ConfigError(msg)
        if path in overrides:
            msg = f"--set {path}: is given twice"
            raise ConfigError(msg)
        overrides[path] = values[0]
    return overrides


def _answer(study: StudyDir, request: str, clock: Clock) -> str | None:
    """Return why the driver refused, nothing when it obeyed, or None when it said nothing yet."""
    path: Path = study.control_dir / f"{request}.json"
    deadline = clock.monotonic() + _ANSWER_S
    while path.exists():
        if clock.monotonic() >= deadline:
            return None
        clock.sleep(_LOOK_S)
    for line in reversed(load_state(study).controls):
        if line.get("request") == request:
            return str(line.get("refused", ""))
    return None


def _said(study: StudyDir, state: StudyState, asked: Asked, answer: str | None) -> str:
    if answer is None:
        return "it has not answered yet and obeys at its next look"
    if answer:
        return f"it refused: {answer}"
    done: Mapping[str, Callable[[], str]] = {
        "cancel": lambda: "it ends what runs and closes the study as incomplete",
        "pause": lambda: (
            "it lets running trials end and stops; go on with: "
            f"neurosweep study resume {study.study_id}"
        ),
        "stop": lambda: (
            f"it ends {asked.trial}, whose place in the round stays spent; "
            "if it ends by itself before that, its result counts"
        ),
        "clone": lambda: _clone_text(state, asked),
        "throttle": lambda: _throttle_text(asked.value or 0.0),
        "poll": lambda: f"it asks the scheduler every {asked.value:g} s",
    }
    return done[asked.action]()


def _clone_text(state: StudyState, asked: Asked) -> str:
    values = ", ".join(f"{path}={value}" for path, value in asked.overrides.items())
    place = "in the next free slot" if state.asynchronous else "in a place of the next round"
    what = f"with {values}" if values else "as it is, with another seed"
    return f"it runs {asked.trial} again {what} {place}; the budget stays the same"


def _throttle_text(slots: float) -> str:
    if not slots:
        return "it starts no further trial; what runs goes on, and `throttle 1` or more goes on"
    return f"it runs {slots:g} trials at a time; what runs already goes on"


def _drive_to_end(study: StudyDir) -> None:
    from neurosweep.report.build import build
    from neurosweep.research.setup import build_driver

    build_driver(study).run()
    build(study)


def _tell_end(study: StudyDir, console: Console) -> None:
    from neurosweep.cli.options import home_flag
    from neurosweep.cli.summary import home_of, show_path, summarize
    from neurosweep.cli.wording import headline

    summary = summarize(study, load_state(study), SystemClock().now())
    console.line(f"{headline(summary)}; it is closed")
    console.line(f"report: {show_path(summary['report'])}")
    command = f"neurosweep study report {study.study_id}{home_flag(home_of(study))}"
    console.line(f"bring MLflow up to date with: {command}")
