"""Requests to a driver: what may be asked, and what a file that asks for nonsense comes to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import DataError, StudyError
from neurosweep.core.layout import Home
from neurosweep.research.control import ACTIONS, parse, pending_requests, send_request
from neurosweep.testing.fake import FakeClock

START = 1_800_000_000.0


@pytest.fixture
def study(tmp_path):
    study = Home(tmp_path).study("small")
    study.root.mkdir(parents=True)
    study.ledger.touch()
    return study


def test_requests_are_read_in_order_and_nonsense_is_set_aside(study):
    clock = FakeClock(START)
    for action in ("pause", "cancel"):
        send_request(study, action, reason=f"to {action}", clock=clock)
        clock.sleep(1.0)
    (study.control_dir / "0.json").write_text("{")
    (study.control_dir / "1.json").write_text('{"action": "format the disk"}')
    assert [request.action for request in pending_requests(study)] == ["pause", "cancel"]
    assert [r.reason for r in pending_requests(study)] == ["to pause", "to cancel"]
    assert len(list(study.control_dir.glob("*.refused"))) == 2


@pytest.mark.parametrize(
    ("action", "given", "data"),
    [
        ("cancel", {}, {}),
        ("stop", {"trial": "r01t002"}, {"trial": "r01t002"}),
        ("throttle", {"value": 0}, {"value": 0.0}),
        ("poll", {"value": 2.5}, {"value": 2.5}),
        (
            "clone",
            {"trial": "r01t002", "overrides": {"a.b": 1, "c": "x"}},
            {"trial": "r01t002", "overrides": {"a.b": 1, "c": "x"}},
        ),
        ("clone", {"trial": "r01t002"}, {"trial": "r01t002", "overrides": {}}),
    ],
)
def test_what_is_sent_is_what_is_read(study, action, given, data):
    sent = send_request(study, action, reason="why", **given)
    (request,) = pending_requests(study)
    assert request.to_dict() == {"action": action, "request": sent, "reason": "why", **data}


@pytest.mark.parametrize(
    ("action", "given", "text"),
    [
        ("explode", {}, "allowed are cancel, pause, stop, clone, throttle, poll"),
        ("stop", {}, "'stop' and 'clone' name one trial"),
        ("pause", {"trial": "r01t000"}, "no other request names one"),
        ("pause", {"value": 3}, "'pause' takes no value"),
        ("throttle", {}, "'throttle' is None, not a whole number of trials from 0"),
        ("throttle", {"value": 2.5}, "'throttle' is 2.5"),
        ("throttle", {"value": -1}, "'throttle' is -1"),
        ("throttle", {"value": float("nan")}, "'throttle' is nan"),
        ("throttle", {"value": 10**400}, "'throttle' is 1000"),
        ("throttle", {"value": True}, "'throttle' is True"),
        ("poll", {"value": 0}, "'poll' is 0, not seconds above 0"),
        ("poll", {"value": float("inf")}, "'poll' is inf"),
        ("stop", {"trial": "r01t000", "overrides": {"a": 1}}, "'stop' takes no overrides"),
        ("clone", {"trial": "r01t000", "overrides": {"a": [1]}}, "a: is no number"),
        ("clone", {"trial": "r01t000", "overrides": {"a": float("nan")}}, "a: is no number"),
    ],
)
def test_a_wrong_request_is_refused_by_its_sender(study, action, given, text):
    with pytest.raises(StudyError, match=text):
        send_request(study, action, **given)
    assert not study.control_dir.exists()


def test_all_that_is_wrong_is_said_at_once(study):
    with pytest.raises(StudyError) as caught:
        send_request(study, "pause", trial="r01t000", value=3, overrides={"a": 1})
    assert all(text in str(caught.value) for text in ("one trial", "no value", "no overrides"))


def test_a_request_to_no_study_is_refused(tmp_path):
    with pytest.raises(StudyError, match="is not a study"):
        send_request(Home(tmp_path).study("absent"), "pause")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"action": st.sampled_from(ACTIONS) | json_values},
        optional={
            "trial": st.sampled_from(["", "r01t000"]) | json_values,
            "value": json_values,
            "overrides": json_values,
        },
    )
    | json_values
)
def test_whatever_a_file_holds_it_is_a_request_that_can_be_recorded_or_none(tmp_path_factory, body):
    path = tmp_path_factory.getbasetemp() / "asked.json"
    try:
        request = parse(path, body)
    except DataError:
        return
    assert request.action in ACTIONS
    json.dumps(request.to_dict(), allow_nan=False)
