from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.records.mlflow_names import clean_text, run_name, short_names, show_value


def test_run_name_is_readable_and_leads_with_the_known_parameters() -> None:
    overrides = {
        "model.pooling": "max",
        "training.weight_decay": 0.01,
        "training.learning_rate": 0.00032,
    }
    assert run_name("r03t017", overrides) == "r03t017 lr=3.2e-04 wd=0.01 pooling=max"


def test_run_name_of_many_parameters_is_cut() -> None:
    name = run_name("r01t000", {f"section.parameter_{i}": i for i in range(60)})
    assert len(name) <= 120
    assert name.startswith("r01t000 parameter_0=0")


def test_names_that_would_collide_keep_their_section() -> None:
    names = short_names(["a.size", "b.size", "model.learning_rate"])
    assert names == {"a.size": "a.size", "b.size": "b.size", "model.learning_rate": "lr"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1.0e-04"), (0.0, "0"), (0.25, "0.25"), (64, "64"), (False, "off"), (None, "None")],
)
def test_values_are_written_as_people_write_them(value: object, text: str) -> None:
    assert show_value(value) == text  # type: ignore[arg-type]


@given(st.text(), st.integers(min_value=1, max_value=60))
def test_clean_text_is_one_short_line_that_can_be_encoded(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert len(cleaned) <= limit
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert not any(unicodedata.category(c) == "Cc" for c in cleaned)
    assert clean_text(cleaned, limit) == cleaned


def test_direction_overrides_cannot_disguise_text() -> None:
    assert clean_text("safe\u202egnp.exe") == "safe gnp.exe"
