"""Follow a driver while it runs: show its state, tell of it, and draw its report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neurosweep.cli.console import Console
from neurosweep.cli.live import view_for
from neurosweep.cli.summary import summarize
from neurosweep.core.clock import SystemClock
from neurosweep.core.layout import StudyDir
from neurosweep.records.state import StudyState

if TYPE_CHECKING:
    from neurosweep.research.notify import Notifier

logger = logging.getLogger(__name__)

_REPORT_EVERY_S = 60.0


class Progress:
    """Follow a driver: show its state, tell of it, and build the report when a round closes.

    Parameters
    ----------
    study
        Folder of the study.
    console
        Where its state is shown.
    notifier
        Who tells a person.
    """

    def __init__(self, study: StudyDir, console: Console, notifier: Notifier) -> None:
        self._study = study
        self._notifier = notifier
        self._console = console
        self._clock = SystemClock()
        self._view = view_for(console)
        self._state: StudyState | None = None
        self._built = self._clock.monotonic()

    def __enter__(self) -> Progress:
        self._view.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._view.__exit__(None, None, None)

    def on_tick(self, state: StudyState) -> None:
        """Show the state, at most a few times a second."""
        self._state = state
        self._view.update(self._summary)
        self._notifier.tick(state)

    def on_executor(self, error: str) -> None:
        """Take note of whether the executor answers."""
        self._notifier.executor(error)

    def on_round_closed(self, _study: StudyDir, number: int) -> None:
        """Show the round's end and draw it; the last page follows when the study closes."""
        if self._state is not None:
            self._view.update(self._summary, force=True)
        last = self._state is not None and number == self._state.spec["budget"]["rounds"]
        if number and not last:
            self._report(
                number if self._clock.monotonic() - self._built < _REPORT_EVERY_S else None
            )

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Build the last report when the study closes, before MLflow is brought up to date."""
        if event["event"] == "study_closed":
            self._report()
        self._notifier.on_event(event)

    def _summary(self) -> Mapping[str, Any]:
        assert self._state is not None
        return summarize(self._study, self._state, self._clock.now())

    def _report(self, only_round: int | None = None) -> None:
        """Build the page, or of one round only its figure, which is much quicker."""
        try:
            from neurosweep.report.build import build, round_figure

            if only_round is not None:
                round_figure(self._study, only_round)
                return
            build(self._study)
            self._built = self._clock.monotonic()
        except Exception as error:  # noqa: BLE001 - a page that fails costs no trial
            logger.warning(
                "the report could not be built (%s); try: neurosweep study report %s",
                error,
                self._study.study_id,
            )
