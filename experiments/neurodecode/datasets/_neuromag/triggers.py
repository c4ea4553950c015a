"""Events from the trigger channel of a recording."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from neurodecode.datasets._neuromag.files import MNE_ERRORS, open_raw
from neurodecode.events import Event
from neurosweep.core.errors import ConfigError, DataError


def read_triggers(
    path: Path, channel: str, codes: Mapping[str, str], event_type: str, like: Event
) -> list[Event]:
    """Return an event, labelled in ``button``, for every rise of the channel to one of the codes.

    Parameters
    ----------
    path
        Recording.
    channel
        Name of the STI channel; a space in it does not matter.
    codes
        Trigger code, as text, to the label of the event.
    event_type
        Type of the events.
    like
        Any event of the timeline: gives subject, session, task.

    Raises
    ------
    ConfigError
        When a code is no number.
    DataError
        When the channel is absent or no code ever occurs.
    """
    import mne

    wanted = _codes(codes)
    raw = open_raw(path)
    names = {name.replace(" ", ""): name for name in raw.ch_names}
    stim = [raw.ch_names[i] for i in mne.pick_types(raw.info, meg=False, stim=True)]
    plain = channel.replace(" ", "")
    if plain not in names:
        close = difflib.get_close_matches(channel, stim, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ";"
        msg = f"{path}: has no trigger channel '{channel}'{hint} It has"
        raise DataError(f"{msg} {', '.join(stim) or 'no trigger channel at all'}")
    try:
        found = mne.find_events(raw, names[plain], shortest_event=1, verbose="ERROR")
    except MNE_ERRORS as error:
        msg = f"{path}: triggers of '{channel}' cannot be read ({error}); use an events table"
        raise DataError(msg) from error
    sfreq = float(raw.info["sfreq"])
    events = [
        replace(
            like,
            type=event_type,
            start=float(sample - raw.first_samp) / sfreq,
            duration=0.0,
            button=wanted[int(code)],
            filepath="",
            frequency=None,
            text="",
            trial_id="",
            extra={},
        )
        for sample, _, code in found
        if int(code) in wanted
    ]
    if not events:
        seen = ", ".join(str(code) for code in sorted({int(row[2]) for row in found})[:20])
        msg = f"{path}: none of the codes {', '.join(codes)} occurs in '{channel}'; it has"
        raise DataError(f"{msg} {seen or 'no trigger'}")
    return events


def _codes(codes: Mapping[str, str]) -> dict[int, str]:
    wrong = [code for code in codes if not code.strip().isdigit()]
    if wrong or not codes:
        given = f"'{wrong[0]}'" if wrong else "no code"
        msg = f"data.trigger_codes: has {given}; expected whole numbers with their labels, such as"
        raise ConfigError(f"{msg} {{'97' = 'a'}}")
    return {int(code): label for code, label in codes.items()}
