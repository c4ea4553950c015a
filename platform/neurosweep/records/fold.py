"""Fold a ledger into the state of its study; illegal steps are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from neurosweep.core.errors import LedgerError
from neurosweep.core.layout import StudyDir
from neurosweep.records.ledger import read_ledger
from neurosweep.records.state import AttemptState, Phase, RoundState, StudyState, TrialState
from neurosweep.records.trial import POLICY, Kind, Outcome, Purpose, TrialPlan

_Handler = Callable[[StudyState, Mapping[str, Any], str], None]


def fold(events: Iterable[Mapping[str, Any]]) -> StudyState:
    """Return the state that a sequence of ledger events describes.

    Raises
    ------
    LedgerError
        When an event is unknown, comes before the event that it needs, or repeats an end.
    """
    state = StudyState()
    for event in events:
        apply(state, event)
    return state


def load_state(study: StudyDir) -> StudyState:
    """Return the state of a study.

    Raises
    ------
    LedgerError
        When the ledger is absent, empty or damaged.
    """
    state = fold(read_ledger(study.ledger))
    if not state.study:
        msg = f"{study.ledger}: holds no study_created; the study was never made, or was emptied"
        raise LedgerError(msg)
    return state


def apply(state: StudyState, event: Mapping[str, Any]) -> None:
    """Bring a state forward by one event.

    Raises
    ------
    LedgerError
        When the event is not legal in this state.
    """
    handler = _HANDLERS.get(str(event.get("event")))
    if handler is None:
        raise LedgerError(f"ledger line {event.get('seq')}: unknown event {event.get('event')!r}")
    try:
        _require(bool(state.study) or handler is _created, "the study was not created yet")
        handler(state, event["data"], str(event["t"]))
    except (KeyError, ValueError, TypeError) as error:
        msg = f"ledger line {event.get('seq')}: {event.get('event')} cannot follow ({error!r})"
        raise LedgerError(msg) from error
    state.num_events += 1


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


def _created(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    _require(not state.study, "the study was created before")
    state.study, state.created, state.created_t = str(data["study"]), data, t


def _round(state: StudyState, number: int) -> RoundState:
    return state.rounds.setdefault(number, RoundState(number))


def _agent_turn(state: StudyState, data: Mapping[str, Any], _t: str) -> None:
    _round(state, int(data["round"])).turns.append(data)


def _planned(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    round_state = _round(state, int(data["round"]))
    _require(
        not round_state.trials or _piecewise(state, round_state.number, len(data["trials"])),
        f"round {round_state.number} was planned before",
    )
    for item in data["trials"]:
        plan = TrialPlan.from_dict(item)
        late = state.closed is not None and plan.purpose is Purpose.SEARCH
        _require(not late, f"search trial {plan.trial} after the study was closed")
        _require(plan.trial not in state.trials, f"trial {plan.trial} was planned before")
        state.trials[plan.trial] = TrialState(plan)
        round_state.trials.append(plan.trial)
    round_state.planned_t = round_state.planned_t or t


def _piecewise(state: StudyState, number: int, more: int) -> bool:
    """Return whether a round is planned piece by piece and has room for more."""
    room = int(state.spec["budget"]["trials_per_round"]) - len(state.rounds[number].trials)
    return state.asynchronous and number > 0 and more <= room


def _intended(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    token = str(data["token"])
    round_state = _round(state, int(data["round"]))
    _require(token not in round_state.intents, f"token {token} was used before")
    pairs = [(str(trial), int(attempt)) for trial, attempt in data["trials"]]
    for trial_id, number in pairs:
        trial = state.trials[trial_id]
        _require(not trial.phase.final, f"trial {trial_id} has ended for good")
        _require(trial.open_attempt is None, f"trial {trial_id} has an open attempt")
        _require(number == len(trial.attempts) + 1, f"{trial_id}: attempt {number} is out of order")
        trial.attempts.append(AttemptState(number, token=token, intended_t=t))
    round_state.intents[token] = pairs


def _submitted(state: StudyState, data: Mapping[str, Any], _t: str) -> None:
    token = str(data["token"])
    round_state = next((r for r in state.rounds.values() if token in r.intents), None)
    if round_state is None:
        raise ValueError(f"token {token} was never intended")
    round_state.submitted.add(token)
    jobs = data["jobs"]
    for trial_id, number in round_state.intents[token]:
        attempt = state.trials[trial_id].attempts[number - 1]
        attempt.job = str(jobs.get(trial_id, attempt.job))
        if attempt.outcome is None and state.trials[trial_id].phase is not Phase.RUNNING:
            state.trials[trial_id].phase = Phase.SUBMITTED


def _attempt(state: StudyState, data: Mapping[str, Any]) -> tuple[TrialState, AttemptState]:
    trial = state.trials[str(data["trial"])]
    attempt = trial.open_attempt
    if attempt is None or attempt.number != int(data["attempt"]):
        raise ValueError(f"{data['trial']}: attempt {data['attempt']} is not open")
    return trial, attempt


def _started(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    trial, attempt = _attempt(state, data)
    attempt.started_t, attempt.host = t, str(data.get("host", ""))
    attempt.pid = int(data.get("pid", 0))
    attempt.queue_s = float(data.get("queue_s", 0.0))
    attempt.cores, attempt.gpus = int(data.get("cores", 1)), int(data.get("gpus", 0))
    attempt.job = str(data.get("job", attempt.job))
    trial.phase = Phase.RUNNING


def _ended(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    trial = state.trials[str(data["trial"])]
    if trial.phase is Phase.ENDED and data.get("revised"):
        # Ended well, but its predictions were gone or changed before they were scored.
        attempt = trial.attempts[-1]
        _require(attempt.number == int(data["attempt"]), "the attempt is not the last")
        _require(Outcome(data["outcome"]) is Outcome.FAILED, "only a good end can be revised")
    else:
        trial, attempt = _attempt(state, data)
    attempt.outcome, attempt.kind = Outcome(data["outcome"]), Kind(data["kind"])
    attempt.ended_t = t
    attempt.error = data.get("error") or {}
    attempt.seconds = float(data.get("seconds", 0.0))
    attempt.peak_mb = float(data.get("peak_mb", 0.0))
    attempt.cores = int(data.get("cores", 1))
    attempt.gpus = int(data.get("gpus", 0))
    attempt.restarts = int(data.get("restarts", 0))
    held_s = data.get("held_s")
    attempt.held_s = None if held_s is None else max(float(held_s), attempt.seconds)
    attempt.predictions_sha = str(data.get("predictions_sha", ""))
    attempt.progressed = bool(data.get("progressed"))
    if attempt.outcome is Outcome.DONE:
        trial.phase = Phase.ENDED
        return
    trial.kind = attempt.kind
    limit = int(state.spec.get("budget", {}).get("max_attempts", 3))
    # One that got further is not held against the trial: its time limit counts all attempts.
    spent = sum(not earlier.progressed for earlier in trial.attempts)
    refill = POLICY[attempt.kind].refill and spent < limit and not data.get("final")
    trial.phase = Phase.PLANNED if refill else Phase.FAILED


def _scored(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    trial = state.trials[str(data["trial"])]
    _require(trial.phase is Phase.ENDED, f"{data['trial']}: is {trial.phase}, not ended")
    _require(int(data["attempt"]) == trial.attempts[-1].number, "the attempt is not the last")
    trial.phase, trial.scored_t, trial.kind = Phase.SCORED, t, Kind.NONE
    trial.metrics = data["metrics"]
    trial.interval = data.get("interval") or {}
    trial.per_subject = data.get("per_subject") or {}
    trial.scores_sha = str(data.get("scores_sha", ""))


def _round_closed(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    round_state = _round(state, int(data["round"]))
    _require(not round_state.closed, f"round {round_state.number} was closed before")
    unfinished = [i for i in round_state.trials if not state.trials[i].phase.final]
    _require(not unfinished, f"round {round_state.number} has unfinished trials {unfinished[:3]}")
    round_state.closed, round_state.closed_t, round_state.best = True, t, data.get("best")


def _control(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    state.controls.append({**data, "t": t})


def _champion(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    state.champions.append({**data, "t": t})


def _vault(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    state.vault_openings.append({**data, "t": t})


def _closed(state: StudyState, data: Mapping[str, Any], t: str) -> None:
    _require(state.closed is None, "the study was closed before")
    state.closed, state.closed_t = data, t


_HANDLERS: Mapping[str, _Handler] = {
    "study_created": _created,
    "agent_turn": _agent_turn,
    "round_planned": _planned,
    "submit_intended": _intended,
    "submitted": _submitted,
    "attempt_started": _started,
    "attempt_ended": _ended,
    "trial_scored": _scored,
    "round_closed": _round_closed,
    "control": _control,
    "champion_frozen": _champion,
    "vault_opened": _vault,
    "study_closed": _closed,
}
