from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosweep.core.errors import DataError, PredictionsError
from neurosweep.evaluation.prediction_lines import Prediction
from neurosweep.evaluation.references import Reference
from neurosweep.evaluation.score import Scores, score


def _case(
    rows: Sequence[tuple[str, str, str, str | None, str | None]],
) -> tuple[dict[str, Prediction], dict[str, Reference]]:
    predictions, refs = {}, {}
    for item, reference, hypothesis, true_windows, windows in rows:
        refs[item] = Reference(item, item.split("/")[0], reference, reference, true_windows)
        predictions[item] = Prediction(item, hypothesis, windows=windows)
    return predictions, refs


SENTENCES = [
    ("s1/r/0", "the cat", "the cat", "0011", "0010"),
    ("s1/r/1", "a dog ran", "a dog", "01", "01"),
    ("s2/r/0", "the cat", "", "0011", "1111"),
]
SYMBOLS = [
    ("s1/r/0", "a", "a", None, None),
    ("s1/r/1", " ", " ", None, None),
    ("s1/r/2", "b", "", None, None),
    ("s1/r/3", "left", "lefd", None, None),
]


def test_sentences_by_hand() -> None:
    scores = score(*_case(SENTENCES), seed=0)
    assert scores.unit == "sentence"
    assert scores.per_subject == {
        "s1": {
            "val_wer": pytest.approx((0 + 1 / 3) / 2),
            "val_cer": pytest.approx((0 + 4 / 9) / 2),
            "val_window_err": pytest.approx((0 / 3 + 1 / 3) / 2),
        },
        "s2": {"val_wer": 1.0, "val_cer": 1.0, "val_window_err": 0.5},
    }
    assert scores.metrics["val_wer"] == pytest.approx((1 / 6 + 1) / 2)
    assert "val_acc" not in scores.metrics
    assert scores.sem["val_wer"] == pytest.approx((1 - 1 / 6) / 2)
    assert scores.corpus == {"wer": 3 / 7, "cer": 11 / 23}
    assert scores.items[1].to_dict() == {
        "item": "s1/r/1",
        "subject": "s1",
        "wer": 1 / 3,
        "cer": 4 / 9,
        "word": {"s": 0, "d": 1, "i": 0, "n": 3},
        "char": {"s": 0, "d": 4, "i": 0, "n": 9},
        "window": {"errors": 0, "n": 2},
    }
    assert scores.interval("val_cer")["method"] == "bootstrap over subjects and items"


def test_symbols_by_hand() -> None:
    scores = score(*_case(SYMBOLS), seed=0)
    assert scores.unit == "symbol"
    assert scores.metrics == {"val_acc": 0.5, "val_cer": 0.5, "val_wer": 0.5}
    assert scores.sem == {"val_acc": None, "val_cer": None, "val_wer": None}
    assert scores.interval("val_acc") == {
        "metric": "val_acc",
        "low": pytest.approx(0.15004, abs=1e-5),
        "high": pytest.approx(0.84996, abs=1e-5),
        "level": 0.95,
        "method": "wilson",
    }
    assert scores.interval("val_window_err") == {}


def test_the_unit_can_be_said() -> None:
    predictions, refs = _case([("s1/r/0", "left hand", "left band", None, None)])
    assert score(predictions, refs).metrics["val_cer"] == pytest.approx(1 / 9)
    assert score(predictions, refs, unit="symbol").metrics["val_cer"] == 1.0


def test_all_right_symbols_of_several_subjects_claim_no_certainty() -> None:
    predictions, refs = _case([(f"s{i % 2}/r/{i}", "a", "a", None, None) for i in range(20)])
    interval = score(predictions, refs).interval("val_cer")
    assert interval["method"] == "wilson"
    assert (interval["low"], interval["high"]) == (0.0, pytest.approx(0.1611, abs=5e-5))


def test_absent_prediction_is_all_deletions() -> None:
    predictions, refs = _case(SENTENCES)
    del predictions["s1/r/0"]
    predictions["s1/r/1"] = Prediction("s1/r/1", missing=True)
    scores = score(predictions, refs)
    assert scores.metrics["val_cer"] == 1.0
    assert scores.num_missing == 2
    assert scores.items[0].char.deletions == 7
    assert scores.to_dict()["items"][0]["missing"] is True


def test_an_item_without_windows_counts_them_wrong_but_nobody_must_predict_them() -> None:
    predictions, refs = _case([("s/r/0", "a", "a", "01", "01"), ("s/r/1", "b", "b", "01", None)])
    scores = score(predictions, refs)
    assert scores.metrics["val_window_err"] == 0.5
    assert scores.items[1].windows == (2, 2)
    predictions["s/r/0"] = Prediction("s/r/0", "a")
    scores = score(predictions, refs)
    assert "val_window_err" not in scores.metrics
    assert scores.items[0].windows is None


def test_wrong_number_of_windows_and_unknown_items_are_refused() -> None:
    predictions, refs = _case([("s/r/0", "a", "a", "01", "010")])
    predictions["s/r/9"] = Prediction("s/r/9", "a")
    with pytest.raises(PredictionsError) as caught:
        score(predictions, refs)
    assert "unknown item 's/r/9'" in str(caught.value)
    assert "item 's/r/0': predicts 3 windows, it has 2" in str(caught.value)


def test_no_references_and_empty_references_are_errors() -> None:
    with pytest.raises(DataError, match="no references"):
        score({}, {})
    predictions, refs = _case(
        [("s/r/0", "two words", "", None, None), ("s/r/1", "", "", None, None)]
    )
    with pytest.raises(DataError, match="s/r/1"):
        score(predictions, refs)


def _random_case(seed: int, num_items: int) -> tuple[dict[str, Prediction], dict[str, Reference]]:
    rng = random.Random(seed)
    rows: list[tuple[str, str, str, str | None, str | None]] = []
    for number in range(num_items):
        texts = ["".join(rng.choice("ab ") for _ in range(6)) + "c" for _ in range(2)]
        windows = ["".join(rng.choice("012") for _ in range(8)) for _ in range(2)]
        item = f"s{rng.randrange(3)}/r/{number}"
        rows.append((item, texts[0], texts[1], windows[0], windows[1]))
    return _case(rows)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.randoms(use_true_random=False))
def test_the_order_of_items_never_matters(seed: int, num_items: int, rng: random.Random) -> None:
    predictions, refs = _random_case(seed, num_items)
    order = list(refs)
    rng.shuffle(order)
    again = score(
        {item: predictions[item] for item in reversed(order)},
        {item: refs[item] for item in order},
        seed=1,
        unit="sentence",
    )
    assert again.to_dict() == score(predictions, refs, seed=1, unit="sentence").to_dict()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_scores_are_consistent_and_strict_json(seed: int, num_items: int) -> None:
    scores = score(*_random_case(seed, num_items), seed=1, unit="sentence")
    data = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert data["v"] == 1
    for name, value in scores.metrics.items():
        interval = scores.interval(name)
        assert interval["low"] <= interval["high"]
        means = [of_subject[name] for of_subject in scores.per_subject.values()]
        assert value == pytest.approx(sum(means) / len(means))
        assert min(means) - 1e-9 <= value <= max(means) + 1e-9


def test_equal_errors_on_other_items_are_exactly_equal() -> None:
    refs: dict[str, Reference] = {}
    for number in range(50):
        item = f"s/r/{number:02d}"
        refs[item] = Reference(item, "s", "abc defg")
    values = set()
    for shift in range(50):
        guesses = {
            item: Prediction(item, "abc defg" if (number + shift) % 50 > 6 else "abc")
            for number, item in enumerate(refs)
        }
        values.add(score(guesses, refs).metrics["val_cer"])
    assert len(values) == 1


def test_the_seed_moves_the_interval_only() -> None:
    predictions, refs = _random_case(0, 20)
    first, second = (score(predictions, refs, seed=seed, unit="sentence") for seed in (1, 2))
    assert isinstance(first, Scores)
    assert first.metrics == second.metrics
    assert first.intervals != second.intervals


def _with_variants(
    texts: dict[str, dict[str, str]],
) -> tuple[dict[str, Prediction], dict[str, Reference]]:
    predictions, refs = _case(SENTENCES)
    for item, variants in texts.items():
        predictions[item] = Prediction(item, predictions[item].hypothesis, variants=variants)
    return predictions, refs


def test_variants_are_scored_beside_the_hypothesis() -> None:
    predictions, refs = _with_variants(
        {
            "s1/r/0": {"greedy": "the hat", "no_meg": ""},
            "s1/r/1": {"greedy": "a dog ran", "no_meg": ""},
            "s2/r/0": {"greedy": "the  cat", "no_meg": ""},
        }
    )
    scores = score(predictions, refs)
    plain = score(*_case([(*row[:3], None, None) for row in SENTENCES]))
    assert {name: scores.metrics[name] for name in plain.metrics} == plain.metrics
    assert {name: scores.intervals[name] for name in plain.metrics} == plain.intervals
    assert scores.metrics["val_wer_greedy"] == pytest.approx((1 / 4 + 0) / 2)
    assert scores.metrics["val_cer_greedy"] == pytest.approx((1 / 14 + 0) / 2)
    assert scores.metrics["val_wer_no_meg"] == 1.0
    assert scores.per_subject["s1"]["val_wer_greedy"] == pytest.approx(1 / 4)
    assert (
        scores.intervals["val_wer_greedy"].low <= 1 / 8 <= scores.intervals["val_wer_greedy"].high
    )
    assert scores.items[0].to_dict()["variants"] == {
        "greedy": {"wer": 1 / 2, "cer": 1 / 7},
        "no_meg": {"wer": 1.0, "cer": 1.0},
    }


def test_an_item_without_prediction_has_empty_variants() -> None:
    predictions, refs = _with_variants(
        {"s1/r/0": {"greedy": "the cat"}, "s1/r/1": {"greedy": "a dog ran"}}
    )
    predictions["s2/r/0"] = Prediction("s2/r/0", missing=True)
    scores = score(predictions, refs)
    assert scores.per_subject["s1"]["val_wer_greedy"] == 0.0
    assert scores.per_subject["s2"]["val_wer_greedy"] == 1.0


def test_a_variant_of_some_items_only_is_refused() -> None:
    predictions, refs = _with_variants(
        {"s1/r/0": {"greedy": "", "no_meg": ""}, "s1/r/1": {"greedy": ""}}
    )
    with pytest.raises(PredictionsError) as caught:
        score(predictions, refs)
    assert "item 's1/r/1': lacks the variant no_meg that other items give" in str(caught.value)
    assert "item 's2/r/0': lacks the variant greedy, no_meg" in str(caught.value)
    assert "'s1/r/0'" not in str(caught.value)


def test_variants_of_symbols_are_right_or_wrong_as_a_whole() -> None:
    predictions, refs = _case(SYMBOLS)
    given = {item: Prediction(item, "a", variants={"greedy": "a"}) for item in predictions}
    scores = score(given, refs)
    assert scores.metrics["val_cer_greedy"] == 0.75
    assert scores.intervals["val_cer"].method == "wilson"
