"""The projector: means over frames, sizes, learning, early stop, same outcome again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from _readings import HIDDEN, NUM_FEATURES, WORDS, readings, sentences, targets

from neurodecode.llm.config import ProjectorConfig
from neurodecode.llm.projector import Projector, pack_words
from neurodecode.llm.projector_fit import fit_projector
from neurosweep.core.errors import DataError
from neurosweep.exec.job_api import Diverged

CONFIG = ProjectorConfig(hidden=24, epochs=12, batch_size=8, learning_rate=5e-3)


def data(num: int, seed: int, wrong: float = 0.1) -> tuple[Any, list[str]]:
    texts = sentences(num, seed)
    return readings(texts, seed, wrong), texts


def test_sizes_are_those_of_the_paper() -> None:
    projector = Projector(1024, 1024, 2048)
    count = sum(p.numel() for p in projector.frames.parameters())
    assert count == 2 * (1024 * 1024 + 1024 + 2 * 1024) == 2_103_296
    assert sum(p.numel() for p in projector.adapter.parameters()) == 1024 * 2048 + 2048
    assert isinstance(Projector(1024, 1024, 1024).adapter, torch.nn.Identity)


def test_a_word_is_the_mean_of_its_frames() -> None:
    torch.manual_seed(0)
    projector = Projector(6, 5, 4).eval()
    feature_FD = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
    cuts = ((0, 3), (4, 5), (5, 9))
    together_WH = projector(pack_words([(feature_FD, cuts)]))
    for row, (first, end) in enumerate(cuts):
        x_FD = projector.frames(torch.from_numpy(feature_FD[first:end]))
        assert torch.allclose(together_WH[row], projector.adapter(x_FD.mean(dim=0)), atol=1e-6)


def test_words_do_not_depend_on_their_neighbours_nor_on_the_batch() -> None:
    torch.manual_seed(0)
    projector = Projector(6, 5, 4, dropout=0.5, noise=1.0).eval()
    rng = np.random.default_rng(0)
    one, two = (rng.standard_normal((n, 6)).astype(np.float32) for n in (7, 12))
    alone_WH = projector(pack_words([(one, [(0, 3), (3, 7)])]))
    with_WH = projector(pack_words([(two, [(2, 12)]), (one, [(0, 3), (3, 7)])]))
    assert torch.allclose(alone_WH, with_WH[1:], atol=1e-6)


def test_a_sentence_without_a_frame_has_a_finite_vector() -> None:
    words = pack_words([(np.zeros((0, 6), dtype=np.float32), [(0, 0)])])
    assert torch.isfinite(Projector(6, 5, 4).eval()(words)).all()


def test_noise_is_for_training_and_has_the_size_of_each_feature() -> None:
    projector = Projector(3, 8, 4, noise=0.5)
    frame_ND = torch.randn(500, 3) * torch.tensor([1.0, 10.0, 0.0]) + 4.0
    projector.standardise(frame_ND)
    assert projector.mean_D.tolist() == pytest.approx(frame_ND.mean(dim=0).tolist())
    assert float(projector.sd_D[2]) == pytest.approx(1e-6)
    words = pack_words([(frame_ND.numpy()[:, :2].repeat(2, 1)[:, :3], [(0, 500)])])
    first, second = projector.train()(words), projector(words)
    assert not torch.equal(first, second)
    assert torch.equal(projector.eval()(words), projector(words))


def test_it_learns_which_word_was_read() -> None:
    curve: list[dict[str, float]] = []
    projector, result = fit_projector(
        data(120, 1), data(30, 900), targets(), CONFIG, seed=3, log=lambda _, **m: curve.append(m)
    )
    assert result.dev_accuracy is not None
    assert result.dev_accuracy > 0.9 > 3 / len(WORDS)
    assert curve[-1]["dev_loss"] < 0.7 * curve[0]["dev_loss"]
    assert result.dev_loss == min(one["dev_loss"] for one in curve)
    assert not projector.training
    assert projector.adapter.out_features == HIDDEN
    assert projector.mean_D.shape == (NUM_FEATURES,)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    few = CONFIG.model_copy(update={"epochs": 2})

    def weights(seed: int) -> torch.Tensor:
        projector, _ = fit_projector(data(20, 1), data(5, 900), targets(), few, seed=seed)
        return torch.cat([p.detach().ravel() for p in projector.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_patience_ends_training_and_the_best_weights_stay() -> None:
    config = CONFIG.model_copy(update={"epochs": 200, "patience": 2, "learning_rate": 0.05})
    _, result = fit_projector(data(20, 1), data(10, 900), targets(), config, seed=0)
    assert result.epochs == result.best_epoch + 2 < 200


def test_without_dev_the_last_weights_stay() -> None:
    few = CONFIG.model_copy(update={"epochs": 3})
    _, result = fit_projector(data(10, 1), ([], []), targets(), few, seed=0)
    assert (result.epochs, result.best_epoch, result.dev_accuracy) == (3, 3, None)


def test_nothing_to_learn_from_is_refused() -> None:
    texts = ["", ""]
    with pytest.raises(DataError, match="no training sentence has a typed word"):
        fit_projector((readings(["the", "tree"], 0), texts), ([], []), targets(), CONFIG, seed=0)


def test_a_vector_that_is_not_finite_ends_training() -> None:
    broken, texts = data(4, 1)
    broken[0].feature_FD[:] = np.nan
    with pytest.raises(Diverged, match=r"lower projector\.learning_rate"):
        fit_projector((broken, texts), ([], []), targets(), CONFIG, seed=0)
