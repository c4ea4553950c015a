"""Obey what people ask of a running study; each request enters the ledger before it is obeyed."""

from __future__ import annotations

import logging
from typing import Any

from neurosweep.core.layout import StudyDir
from neurosweep.core.schema import Schema
from neurosweep.exec.protocol import Executor
from neurosweep.records.state import StudyState
from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.attempts import AttemptDesk
from neurosweep.research.control import Request, pending_requests
from neurosweep.research.journal import Journal
from neurosweep.research.progress import (
    Spending,
    cancel_reason,
    is_cancelled,
    is_paused,
    last_switch,
)
from neurosweep.research.turns import CLONE, rooms_left

logger = logging.getLogger(__name__)


class Paused(Exception):  # noqa: N818 - a way out of the loop, not an error
    """Leave the loop until somebody resumes the study."""


class Closing(Exception):  # noqa: N818 - a way out of the loop, not an error
    """Leave the loop for good with less than the whole budget."""


class Commands:
    """Consume the requests to a study and know whether it is to go on.

    Parameters
    ----------
    study
        Folder of the study.
    journal
        Ledger and state.
    desk
        Ends attempts.
    executor
        Is given more or fewer slots.
    schema
        What a clone may change.
    owns_slots
        Whether a throttle is applied here; otherwise whoever divides the slots asks for `slots`.

    Attributes
    ----------
    slots
        The throttle that was asked for last, 0 in a pause; None for none.
    """

    def __init__(
        self,
        study: StudyDir,
        journal: Journal,
        desk: AttemptDesk,
        executor: Executor,
        schema: Schema,
        *,
        owns_slots: bool = True,
    ) -> None:
        self._study = study
        self._journal = journal
        self._desk = desk
        self._executor = executor
        self._schema = schema
        self._spending = Spending(study, journal.clock)
        self._owns_slots = owns_slots
        self.slots: int | None = None

    @property
    def _state(self) -> StudyState:
        return self._journal.state

    @property
    def want_out(self) -> bool:
        """Whether no further attempt is to be submitted."""
        return self._desk.closing is not None or is_paused(self._state)

    def take_up(self) -> None:
        """Go on as an earlier driver was told: resumed, with the last throttle and poll."""
        if is_paused(self._state):
            self._journal.record("control", {"action": "resume"})
        for control in self._state.controls:
            self._tune(control)

    def obey(self) -> None:
        """Consume the requests that wait, each into the ledger first."""
        known = {control.get("request") for control in self._state.controls}
        for request in pending_requests(self._study):
            if request.id not in known:
                refused = self._refusal(request)
                data = request.to_dict() | ({"refused": refused} if refused else {})
                self._journal.record("control", data)
                if refused:
                    logger.warning("request %s refused: %s", request.action, refused)
                else:
                    self._tune(data)
            if request.action == "stop":
                self._stop(request)
            request.path.unlink(missing_ok=True)
            self._journal.done("request_consumed")
        if self._desk.closing is None and is_cancelled(self._state):
            self._desk.closing = Kind.CANCELLED_USER
        if is_paused(self._state) and self.slots != 0:
            self._set_slots(0)  # what waits in a queue stays there

    def leave_when_asked(self) -> None:
        """Leave the loop when the study was cancelled or paused.

        Raises
        ------
        Closing, Paused
            Accordingly.
        """
        if self._desk.closing is not None and not self._desk.open_trials():
            raise Closing(cancel_reason(self._state))
        if self._desk.closing is None and is_paused(self._state):
            raise Paused(str(last_switch(self._state).get("reason") or "paused on request"))

    def spend(self) -> None:
        """Close the study when its budget of hours is used up."""
        limit = self._state.spec["budget"]["gpu_hours"]
        if limit is None or self._desk.closing is not None:
            return
        if self._spending.reached(self._state, limit):
            unit = "GPU-hours" if self._executor.allocation.gpus else "core-hours"
            reason = f"the budget of {limit:g} {unit} is used up"
            self._journal.record("control", {"action": "cancel", "by": "budget", "reason": reason})
            self._desk.closing = Kind.CANCELLED_USER

    def _refusal(self, request: Request) -> str:
        if request.action == CLONE:
            return self._clone_refusal(request)
        if request.action == "stop" and request.trial not in self._state.trials:
            return f"there is no trial {request.trial}"
        return ""

    def _clone_refusal(self, request: Request) -> str:
        trial = self._state.trials.get(request.trial)
        if trial is None or trial.plan.purpose is not Purpose.SEARCH:
            return f"there is no search trial {request.trial}"
        if rooms_left(self._state) < 1:
            return "every trial of the budget is planned; a clone takes a place of a later round"
        reasons = self._schema.check_proposal({**trial.plan.overrides, **request.overrides})
        return "; ".join(reasons)

    def _stop(self, request: Request) -> None:
        trial = self._state.trials.get(request.trial)
        if trial is not None and trial.open_attempt is not None:
            self._desk.ask_end(trial, Kind.STOPPED, request.reason or "stopped on request")

    def _set_slots(self, slots: int) -> None:
        self.slots = slots
        if self._owns_slots:
            self._executor.adjust(slots=slots)

    def _tune(self, control: Any) -> None:
        action, value = control.get("action"), control.get("value")
        if value is None or "refused" in control:
            return
        if action == "throttle":
            self._set_slots(int(value))
        elif action == "poll":
            self._executor.adjust(poll_s=float(value))
