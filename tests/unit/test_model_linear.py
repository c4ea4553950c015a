"""The linear classifier: its closed-form start is the shrinkage discriminant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _window_stores import make_facts, make_windows

from neurodecode.models.linear import Config, build
from neurodecode.models.linear.network import Linear, shrunk_covariance


def test_the_covariance_is_the_one_of_ledoit_and_wolf() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    rng = np.random.default_rng(0)
    z_WD = rng.normal(size=(60, 40)) @ rng.normal(size=(40, 40))
    z_WD -= z_WD.mean(axis=0)
    expected_DD, _ = covariance.ledoit_wolf(z_WD, assume_centered=True)
    np.testing.assert_allclose(shrunk_covariance(z_WD), expected_DD, rtol=1e-6, atol=1e-8)


def test_more_shrinkage_leaves_less_correlation() -> None:
    rng = np.random.default_rng(1)
    z_WD = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5))
    loose, tight = (shrunk_covariance(z_WD, factor) for factor in (0.1, 10.0))
    off = ~np.eye(5, dtype=bool)
    assert np.abs(tight[off]).sum() < np.abs(loose[off]).sum()
    assert np.trace(tight) == pytest.approx(np.trace(loose))


def test_the_start_agrees_with_scikit_learn() -> None:
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    facts = make_facts(classes=3)
    windows = make_windows(300, facts, seed=2, signal=0.3)
    model = build(Config(samples_per_feature=1), facts)
    assert isinstance(model, Linear)
    model.initialise(windows.x_WCT, windows.targets())
    x_WD = windows.x_WCT.reshape(300, -1).astype(np.float64)
    within_WD = x_WD - np.stack(
        [x_WD[windows.targets() == k].mean(axis=0) for k in windows.targets()]
    )
    reference = discriminant.LinearDiscriminantAnalysis(
        solver="lsqr",
        priors=[1 / 3] * 3,
        covariance_estimator=_Fixed(shrunk_covariance(within_WD)),
    ).fit(x_WD, windows.targets())
    fresh = make_windows(200, facts, seed=3, signal=0.3)
    with torch.no_grad():
        logits = model(*fresh.batch(np.arange(200), torch.device("cpu"))).numpy()
    guess = reference.predict(fresh.x_WCT.reshape(200, -1))
    assert (logits.argmax(axis=1) == guess).mean() > 0.98


class _Fixed:
    """An estimator that gives the pooled covariance, whichever class it is asked for."""

    def __init__(self, covariance_: np.ndarray) -> None:
        self.covariance_ = covariance_

    def fit(self, _: np.ndarray) -> _Fixed:
        return self


def test_a_class_without_windows_is_never_chosen() -> None:
    facts = make_facts(classes=3)
    windows = make_windows(100, make_facts(classes=2), seed=4)
    model = build(Config(), facts)
    assert isinstance(model, Linear)
    model.initialise(windows.x_WCT, windows.targets())
    with torch.no_grad():
        logits = model(*windows.batch(np.arange(100), torch.device("cpu")))
    assert set(logits.argmax(dim=1).tolist()) <= {0, 1}
