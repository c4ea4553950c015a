"""What simulated sensors measure: units, sizes, places, rhythms and noise."""

from __future__ import annotations

from functools import cache
from typing import Any

import mne
import numpy as np
import pytest
from scipy import signal

from neurodecode.datasets._neuromag.helmet import reference_helmet
from neurodecode.datasets._typing_sim import background, presses
from neurodecode.datasets._typing_sim.bundle import ERM_BAND_HZ, read_room
from neurodecode.datasets._typing_sim.forward import far_fields, lead_field, tangential
from neurodecode.datasets._typing_sim.keyboard import all_keys
from neurodecode.datasets._typing_sim.layouts import resting_place, sensor_info
from neurodecode.datasets._typing_sim.options import Config
from neurodecode.datasets._typing_sim.person import Person, Session, draw_person, draw_session
from neurodecode.datasets._typing_sim.rhythms import rhythm_level, rhythm_sources
from neurodecode.datasets._typing_sim.spectra import coloured_noise, knee, peak, power_law

LEFT_HAND_AREA = np.array([[-0.038, 0.0, 0.095]])
MAGS = np.array([kind == "mag" for kind in reference_helmet().kinds])


@cache
def neuromag(sfreq_hz: float = 250.0) -> Any:
    return sensor_info("neuromag306", sfreq_hz, resting_place("neuromag306"))


def typist(number: int = 0) -> tuple[Person, Session]:
    person = draw_person(Config(subjects=3), number, np.random.default_rng([1, number]))
    return person, draw_session(person, 306, np.random.default_rng(2))


def test_sensors_are_those_of_the_helmet() -> None:
    info = neuromag()
    helmet = reference_helmet()
    assert tuple(info["ch_names"]) == helmet.names
    assert [mne.channel_type(info, row) for row in range(306)] == list(helmet.kinds)
    for row, channel in enumerate(info["chs"]):
        assert channel["loc"][:3] == pytest.approx(helmet.place_mm[row] / 1e3)
        assert int(channel["unit"]) == (112 if helmet.kinds[row] == "mag" else 201)
    assert info["dev_head_t"]["trans"][:3, 3] == pytest.approx(
        [-6.1e-3, 0.06e-3, 64.7e-3], abs=1e-4
    )


@pytest.mark.parametrize(("layout", "num"), [("opm64", 64), ("opm96", 96), ("opm128", 128)])
def test_opm_sensors_surround_the_head_and_point_outwards(layout: Any, num: int) -> None:
    info = sensor_info(layout, 250.0, resting_place(layout))
    place = np.array([channel["loc"][:3] for channel in info["chs"]])
    normal = np.array([channel["loc"][9:12] for channel in info["chs"]])
    assert place.shape == (num, 3)
    assert np.linalg.norm(place, axis=1) == pytest.approx(0.102)
    assert (place * normal).sum(axis=1) == pytest.approx(0.102)
    distance = np.linalg.norm(place[:, None] - place[None], axis=2) + np.eye(num)
    assert distance.min() > 0.6 * np.sqrt(2 * np.pi * 1.35 / num) * 0.102
    (field,) = lead_field(info, LEFT_HAND_AREA)[:, 0, 1:2].T * 10e-9
    left, right = place[:, 0] < 0, place[:, 0] > 0.03
    assert np.abs(field[left]).max() > 2 * np.abs(field[right]).max()
    assert 100e-15 < np.abs(field).max() < 500e-15


def test_ten_nanoampere_metres_in_the_hand_area_are_tens_of_femtotesla() -> None:
    forward = tangential(LEFT_HAND_AREA, np.array([[0.0, 1.0, 0.0]]))
    field = lead_field(neuromag(), LEFT_HAND_AREA)[:, 0] @ forward[0] * 10e-9
    assert 40e-15 < np.abs(field[MAGS]).max() < 200e-15
    assert 5e-13 < np.abs(field[~MAGS]).max() < 60e-13
    # A gradiometer shows the slope of what magnetometers around it show, over some centimetres.
    assert 0.02 < np.abs(field[MAGS]).max() / np.abs(field[~MAGS]).max() < 0.2


def test_radial_dipoles_are_silent() -> None:
    outward = LEFT_HAND_AREA[0] - [0.0, 0.0, 0.04]
    leads = lead_field(neuromag(), LEFT_HAND_AREA)[:, 0]
    silent = leads @ (outward / np.linalg.norm(outward))
    assert np.abs(silent[MAGS]).max() < 1e-3 * np.abs(leads[MAGS]).max()


def test_far_fields_agree_between_kinds_of_sensors() -> None:
    fields = far_fields(neuromag())
    assert np.linalg.matrix_rank(fields) == 8
    assert np.abs(fields[~MAGS, :3]).max() == 0.0
    assert np.abs(fields[MAGS, :3]).max() == pytest.approx(1.0, abs=1e-3)
    dipole = background.magnetic_dipole(
        neuromag(), np.array([0.0, 0.0, -0.4]), np.array([0, 0, 1e-7])
    )
    # Straight above it the field is mu0 / 4 pi * 2 m / r^3.
    top = int(np.argmax(reference_helmet().place_mm[:, 2] * MAGS))
    distance = reference_helmet().place_mm[top, 2] / 1e3 + 0.4
    assert dipole[top] == pytest.approx(2e-14 / distance**3, rel=0.15)


def test_every_key_has_a_field_of_its_own_on_the_side_opposite_to_the_hand() -> None:
    person, session = typist()
    fields = presses.key_fields(neuromag(), person, session, np.random.default_rng(0)) * 40e-9
    assert fields.shape == (306, 28, 4)
    x = reference_helmet().place_mm[:, 0]
    for number, key in enumerate(all_keys()):
        size = np.sqrt((fields[:, number] ** 2).sum(axis=1))[~MAGS & (np.abs(x) > 30)]
        side = x[~MAGS & (np.abs(x) > 30)] < 0
        left, right = size[side].max(), size[~side].max()
        assert (left > right) == (key.hand == "right"), key
        assert 50e-15 < np.abs(fields[MAGS, number]).max() < 1000e-15
    patterns = fields.reshape(306 * 4, 28)[np.repeat(MAGS, 4)]
    alike = np.corrcoef(patterns.T) - np.eye(28)
    assert alike.max() < 0.995


def test_a_key_looks_alike_in_all_recordings_and_different_in_another_subject() -> None:
    person, session = typist()
    later = draw_session(person, 306, np.random.default_rng(9))
    other, other_session = typist(1)

    def pattern(who: Person, when: Session, seed: int) -> np.ndarray:
        info = sensor_info("neuromag306", 250.0, when.device_to_head)
        return presses.key_fields(info, who, when, np.random.default_rng(seed))[MAGS].ravel()

    first = pattern(person, session, 0)
    same = np.corrcoef(first, pattern(person, later, 0))[0, 1]
    different = np.corrcoef(first, pattern(other, other_session, 1))[0, 1]
    assert 0.9 < same < 0.9999
    assert different < same


def test_the_course_of_a_press_follows_its_components() -> None:
    courses = presses.press_courses(
        np.array([2.0]), np.array([5]), 1000, 250.0, np.random.default_rng(0)
    )
    assert courses.shape == (28, 4, 1000)
    assert np.abs(np.delete(courses, 5, axis=0)).max() == 0.0
    peaks = courses[5].argmax(axis=1) / 250.0 - 2.0
    expected = [component.latency_s for component in presses.COMPONENTS]
    assert peaks == pytest.approx(expected, abs=0.05)
    assert courses[5].max(axis=1) == pytest.approx(1.0, abs=0.6)


def test_rhythms_fall_with_keys_and_beta_rebounds() -> None:
    press_s = np.arange(4.0, 8.0, 0.2)
    weight = np.ones(len(press_s))
    mu, beta = (rhythm_level(name, press_s, weight, 3000, 250.0) for name in ("mu", "beta"))
    times = np.arange(3000) / 250.0
    during = (times > 4.5) & (times < 7.5)
    rest = times < 2.0
    assert mu[rest] == pytest.approx(1.0)
    assert mu[during].max() < 0.5
    assert beta[during].max() < 0.6
    assert beta[(times > 8.5) & (times < 9.2)].max() > 1.3
    assert mu.max() <= 1.0 + 1e-9
    assert (beta > 0).all()


def test_rhythms_fall_more_opposite_to_the_hand() -> None:
    press_s = np.arange(5.0, 35.0, 0.25)
    person, _ = typist()
    fields, courses = rhythm_sources(
        neuromag(),
        person,
        press_s,
        np.ones(len(press_s), dtype=bool),
        10_000,
        np.random.default_rng(0),
    )
    assert len(courses) == fields.shape[1] == 18
    left_beta, right_beta = courses[9:12, 1500:8500].var(), courses[15:18, 1500:8500].var()
    assert right_beta < left_beta
    frequency, power = signal.welch(courses[0], 250.0, nperseg=1000)
    assert frequency[power.argmax()] == pytest.approx(person.alpha_hz, abs=1.2)


def test_noise_has_the_spectrum_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    law = coloured_noise(rng, 20, 50_000, 250.0, power_law(1.0, (0.1, 100.0)))
    frequency, power = signal.welch(law, 250.0, nperseg=2000)
    level = power.mean(axis=0)
    slow, fast = (level[np.argmin(np.abs(frequency - hertz))] for hertz in (4.0, 40.0))
    assert slow / fast == pytest.approx(10.0, rel=0.2)
    assert coloured_noise(rng, 20, 50_000, 250.0, peak(10.0, 1.0)).var() == pytest.approx(
        1, rel=0.1
    )
    flat = coloured_noise(rng, 20, 50_000, 250.0, knee(8.0, 2.0))
    level = signal.welch(flat, 250.0, nperseg=2000)[1].mean(axis=0)
    assert level[8:16].mean() == pytest.approx(1.0, rel=0.15)
    assert level[64] == pytest.approx(0.5, rel=0.25)


def test_room_noise_has_the_covariance_of_the_real_room() -> None:
    real = np.sqrt(np.diag(read_room().covariance_CC))
    assert np.median(real[MAGS]) == pytest.approx(381e-15, rel=0.01)
    assert np.median(real[~MAGS]) == pytest.approx(61e-13, rel=0.01)
    rate = 2.0 * ERM_BAND_HZ[1]
    noise = background.room_noise("neuromag306", neuromag(rate), 20_000, np.random.default_rng(0))
    own = noise.std(axis=1)
    assert np.median(own[MAGS] / real[MAGS]) == pytest.approx(1.0, abs=0.25)
    assert np.median(own[~MAGS] / real[~MAGS]) == pytest.approx(1.0, abs=0.2)
    mags_CC = np.corrcoef(noise[MAGS])
    scale = np.sqrt(np.diag(read_room().covariance_CC)[MAGS])
    real_CC = read_room().covariance_CC[np.ix_(MAGS, MAGS)] / np.outer(scale, scale)
    upper = np.triu_indices(102, 1)
    assert np.corrcoef(mags_CC[upper], real_CC[upper])[0, 1] > 0.9


def test_opm_noise_is_that_of_the_same_room() -> None:
    info = sensor_info("opm64", 250.0, resting_place("opm64"))
    noise = background.room_noise("opm64", info, 20_000, np.random.default_rng(0))
    assert 100e-15 < np.median(noise.std(axis=1)) < 800e-15
    level = signal.welch(noise, 250.0, nperseg=1000)[1].mean(axis=0)
    assert np.sqrt(level[320:].mean()) == pytest.approx(12e-15, rel=0.3)


def test_cortex_and_artefacts_have_the_size_of_real_ones() -> None:
    person, _ = typist()
    rng = np.random.default_rng(0)
    cortex = background.cortex_noise(neuromag(), 20_000, rng)
    assert 50e-15 < np.median(cortex[MAGS].std(axis=1)) < 300e-15
    assert 10e-13 < np.median(cortex[~MAGS].std(axis=1)) < 60e-13
    fields, courses = background.artefacts(neuromag(), person, 20_000, rng)
    heart, blinks, mains, _ = (np.outer(f, c) for f, c in zip(fields.T, courses, strict=True))
    assert 200e-15 < np.abs(heart[MAGS]).max() < 2e-12
    assert 500e-15 < np.abs(blinks[MAGS]).max() < 5e-12
    loudest = np.argsort(np.abs(fields[:, 1]) * MAGS)[-8:]
    assert reference_helmet().place_mm[loudest, 1].mean() > 50.0
    beats = signal.find_peaks(courses[0], height=0.7)[0]
    assert len(beats) / 80.0 == pytest.approx(person.heart_hz, rel=0.05)
    frequency, power = signal.welch(mains[0], 250.0, nperseg=1000)
    assert frequency[power.argmax()] == pytest.approx(50.0, abs=0.3)
