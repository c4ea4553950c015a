"""The helmet's order, and sensors that a file has in another order, place, unit, or not at all."""

from __future__ import annotations

import copy
from typing import Any

import mne
import numpy as np
import pytest
from _neuromag_maker import make_raw
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.datasets._neuromag.helmet import (
    canonical_name,
    flat_positions,
    reference_helmet,
)
from neurodecode.datasets._neuromag.sensors import map_sensors, moved_sensors
from neurosweep.core.errors import DataError


@pytest.fixture(scope="module")
def channels() -> list[dict[str, Any]]:
    return list(make_raw(0.1).info["chs"])


def changed(channels: list[dict[str, Any]], index: int, **values: Any) -> list[dict[str, Any]]:
    copied = copy.deepcopy(channels)
    copied[index].update(values)
    return copied


def test_helmet_has_the_order_of_the_layout() -> None:
    names = mne.channels.read_layout("Vectorview-all").names
    assert reference_helmet().names == tuple(name.replace(" ", "") for name in names)


def test_helmet_has_102_magnetometers_and_204_gradiometers_at_102_sites() -> None:
    helmet = reference_helmet()
    assert (helmet.kinds.count("mag"), helmet.kinds.count("grad")) == (102, 204)
    assert len(np.unique(helmet.place_mm, axis=0)) == 102
    assert all(
        (kind == "mag") == name.endswith("1")
        for name, kind in zip(helmet.names, helmet.kinds, strict=True)
    )


def test_axes_of_coils_are_orthogonal_unit_vectors() -> None:
    helmet = reference_helmet()
    for vectors in (helmet.along, helmet.normal):
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(306), abs=2e-3)
    assert (helmet.along * helmet.normal).sum(axis=1) == pytest.approx(np.zeros(306), abs=3e-3)


def test_flat_positions_fill_the_unit_square() -> None:
    places = flat_positions()
    assert places.shape == (306, 2)
    assert places.dtype == np.float32
    assert places.min(axis=0).tolist() == [0.0, 0.0]
    assert places.max(axis=0).tolist() == [1.0, 1.0]
    assert len(np.unique(places, axis=0)) == 306
    with pytest.raises(ValueError, match="read-only"):
        places[0, 0] = 5.0


def test_flat_positions_show_front_and_left() -> None:
    """MEG0511 is frontal, MEG2121 occipital, MEG0211 left, MEG1321 right."""
    x, y = flat_positions().T
    index = reference_helmet().names.index
    assert y[index("MEG0511")] > 0.8 > 0.2 > y[index("MEG2121")]
    assert x[index("MEG0211")] < 0.3 < 0.7 < x[index("MEG1321")]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("MEG 0113", "MEG0113"),
        ("MEG0113", "MEG0113"),
        ("MEG 0113 ", "MEG0113"),
        ("EEG 001", None),
        ("MEG 113", None),
        ("MLC11", None),
    ],
)
def test_names_with_and_without_space_are_one(name: str, plain: str | None) -> None:
    assert canonical_name(name) == plain


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(307)))
def test_sensors_are_found_in_any_order(order: list[int]) -> None:
    channels = make_raw(0.1).info["chs"]
    shuffled = [channels[i] for i in order]
    sensors = map_sensors(shuffled, "here")
    assert [shuffled[row]["ch_name"] for row in sensors.rows] == list(reference_helmet().names)
    assert sensors.missing == ()


def test_reference_recording_has_not_moved(channels: list[dict[str, Any]]) -> None:
    assert moved_sensors(channels, map_sensors(channels, "here"), 0.1) == []


def test_missing_sensors_are_named(channels: list[dict[str, Any]]) -> None:
    sensors = map_sensors([c for c in channels if c["ch_name"] != "MEG2642"], "here")
    assert sensors.missing == ("MEG2642",)
    assert sensors.rows[reference_helmet().names.index("MEG2642")] == -1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"unit": 107}, "MEG0113 (grad) is in unit 107, not tesla/m"),
        ({"unit_mul": -15}, "MEG0113 has the unit multiplier 10^-15, not 1"),
        ({"coil_type": 3024}, "MEG0113 has coil type 3024, which is no Neuromag grad"),
        ({"ch_name": "MEG9993"}, "no Neuromag-306 sensor has the name MEG9993"),
        ({"ch_name": "MEG0112"}, "MEG0112 is there twice"),
    ],
)
def test_channels_that_do_not_fit_are_refused(
    channels: list[dict[str, Any]], values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DataError) as caught:
        map_sensors(changed(channels, 0, **values), "rec.fif")
    assert problem in str(caught.value)
    assert "rec.fif" in str(caught.value)


def test_other_systems_are_refused() -> None:
    channels = mne.create_info(["Fp1", "Cz"], 100.0, "eeg")["chs"]
    with pytest.raises(DataError, match=r"no MEG sensors \(its 2 channels start with Fp1, Cz\)"):
        map_sensors(channels, "here")


def test_moved_sensors_come_worst_first(channels: list[dict[str, Any]]) -> None:
    moved = copy.deepcopy(channels)
    moved[0]["loc"][0] += 0.005
    moved[7]["loc"][2] += 0.012
    found = moved_sensors(moved, map_sensors(moved, "here"), 2.0)
    assert found == [f"{moved[7]['ch_name']} (12.0 mm)", f"{moved[0]['ch_name']} (5.0 mm)"]
    assert moved_sensors(moved, map_sensors(moved, "here"), 20.0) == []


def test_turned_gradiometer_is_found_and_a_turned_square_magnetometer_is_not(
    channels: list[dict[str, Any]],
) -> None:
    turned = copy.deepcopy(channels)
    for index in (0, 2):
        loc = turned[index]["loc"]
        loc[3:6], loc[6:9] = loc[6:9].copy(), loc[3:6].copy()
    assert [turned[index]["ch_name"] for index in (0, 2)] == ["MEG0113", "MEG0111"]
    found = moved_sensors(turned, map_sensors(turned, "here"), 2.0)
    assert found == ["MEG0113 (turned by 90 degrees)"]


def test_sensors_without_a_position_are_found(channels: list[dict[str, Any]]) -> None:
    for value in (0.0, np.nan):
        lost = changed(channels, 3, loc=np.full(12, value))
        assert moved_sensors(lost, map_sensors(lost, "here"), 2.0) == ["MEG0122 (no position)"]
