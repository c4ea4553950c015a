"""From probabilities of windows to a line of predictions."""

from __future__ import annotations

import numpy as np
import pytest

from neurodecode.decoding.config import DecodingConfig
from neurodecode.decoding.items import decode, log_prior
from neurodecode.training.windows import Span, WindowSet
from neurosweep.core.errors import DataError


def _windows(*spans: Span) -> WindowSet:
    count = spans[-1].stop
    x_WCT = np.zeros((count, 1, 2), dtype=np.float32)
    return WindowSet(x_WCT, np.zeros(count, dtype=np.int64), None, spans)


def test_a_single_window_is_its_class() -> None:
    log_p_WK = np.log([[0.2, 0.8], [0.7, 0.3]])
    windows = _windows(Span("s/r/a", 0, 1), Span("s/r/b", 1, 2))
    lines = [h.to_dict() for h in decode(windows, log_p_WK, np.zeros(2), "LR", DecodingConfig())]
    assert [line["hypothesis"] for line in lines] == ["R", "L"]
    assert [line["windows"] for line in lines] == ["1", "0"]
    assert lines[0]["logp"] == pytest.approx(np.log(0.8))
    assert lines[0]["nbest"][1] == ["L", pytest.approx(np.log(0.2))]


def test_codes_choose_among_the_symbols_of_their_item() -> None:
    codes_WS = np.array([[0, 1], [1, 0], [1, 0]], dtype=np.uint8)
    span = Span("s/r/a", 0, 3, codes_WS, ("x", "q"))
    log_p_WK = np.log([[0.1, 0.9], [0.8, 0.2], [0.45, 0.55]])
    (line,) = decode(_windows(span), log_p_WK, np.zeros(2), "LR", DecodingConfig(nbest=1))
    assert line.to_dict()["hypothesis"] == "q"
    assert line.to_dict()["windows"] == "101"
    assert len(line.nbest) == 1


def test_a_rare_class_is_not_held_against_a_code() -> None:
    """Two windows that say no more than the prior leave the symbols equal."""
    prior_K = np.log([0.9, 0.1])
    span = Span("s/r/a", 0, 2, np.array([[0, 1], [0, 1]], dtype=np.uint8), ("a", "b"))
    log_p_WK = np.stack([prior_K, prior_K])
    (line,) = decode(_windows(span), log_p_WK, prior_K, "ab", DecodingConfig())
    assert [log_p for _, log_p in line.nbest] == pytest.approx([np.log(0.5)] * 2)


def test_several_windows_need_codes() -> None:
    with pytest.raises(DataError, match="s/r/a has 2 windows and no codes"):
        list(
            decode(
                _windows(Span("s/r/a", 0, 2)), np.zeros((2, 2)), np.zeros(2), "LR", DecodingConfig()
            )
        )


def test_more_classes_than_characters_write_no_windows() -> None:
    symbols = [str(index) for index in range(70)]
    windows = _windows(Span("s/r/a", 0, 1))
    (line,) = decode(windows, np.zeros((1, 70)), np.zeros(70), symbols, DecodingConfig())
    assert "windows" not in line.to_dict()


def test_the_prior_is_the_share_of_classes_and_never_nothing() -> None:
    prior_K = log_prior(np.array([0, 0, 0, 1]), 3)
    assert np.exp(prior_K) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
