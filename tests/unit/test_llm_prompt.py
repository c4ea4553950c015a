"""What the language model is given to read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _tiny_lm import tiny_backend
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.llm.backend import Backend
from neurodecode.llm.prompt import IGNORED, Dropout, Prompter, Reading, length_batches


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return tiny_backend(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    rng = np.random.default_rng(0)
    texts = (("tge cat", "the cat"), ("", "a"), ("so it gies on", "so it goes on"))
    return [
        Reading(f"i{n}", greedy, rng.standard_normal((max(1, len(greedy.split())), 16)), target)
        for n, (greedy, target) in enumerate(texts)
    ]


def _expected(backend: Backend, reading: Reading) -> torch.Tensor:
    def embed(text: str) -> torch.Tensor:
        return backend.embed(backend.encode(text))

    words = torch.tensor(reading.words_WH, dtype=torch.float32)
    read = embed("CTC: " + reading.greedy + "\nMEG: ")
    return torch.cat([read, words, embed("\nOutput: ")])


def test_a_prompt_is_its_pieces_padded_on_the_left(
    backend: Backend, readings: list[Reading]
) -> None:
    prompter = Prompter(backend)
    batch = prompter.prompts(readings)
    for b, reading in enumerate(readings):
        expected = _expected(backend, reading)
        assert prompter.length(reading) == len(expected) == int(batch.mask_BL[b].sum())
        assert torch.equal(batch.input_BLH[b, -len(expected) :], expected)
        assert bool(batch.mask_BL[b, -len(expected) :].all())
        assert not batch.input_BLH[b, : -len(expected)].any()
    assert int((batch.label_BL != IGNORED).sum()) == 0


def test_an_example_is_prompt_and_target_padded_on_the_right(
    backend: Backend, readings: list[Reading]
) -> None:
    batch = Prompter(backend).examples(readings)
    for b, reading in enumerate(readings):
        answer = [*backend.encode(reading.target or ""), backend.eos_id]
        expected = torch.cat([_expected(backend, reading), backend.embed(answer)])
        assert torch.equal(batch.input_BLH[b, : len(expected)], expected)
        assert not batch.input_BLH[b, len(expected) :].any()
        labels = batch.label_BL[b]
        assert labels[labels != IGNORED].tolist() == answer
        assert (labels != IGNORED).nonzero()[-1] == len(expected) - 1
        assert batch.mask_BL[b].tolist() == [*[True] * len(expected)] + [False] * (
            batch.mask_BL.shape[1] - len(expected)
        )


def test_without_words_their_heading_stays(backend: Backend, readings: list[Reading]) -> None:
    bare = readings[0].without_words()
    batch = Prompter(backend).prompts([bare])
    text = f"CTC: {bare.greedy}\nMEG: \nOutput: "
    assert torch.equal(batch.input_BLH[0], backend.embed(backend.encode(text)))
    assert readings[0].words_WH.shape == (2, 16)


def test_a_reading_without_target_is_no_example(backend: Backend) -> None:
    reading = Reading("i7", "abc", np.zeros((1, 16), np.float32))
    with pytest.raises(ValueError, match="i7: has no target"):
        Prompter(backend).examples([reading])


def test_only_text_tokens_and_words_are_zeroed(backend: Backend, readings: list[Reading]) -> None:
    reading = readings[2]
    dropout = Dropout(1.0, 1.0, np.random.default_rng(0))
    batch = Prompter(backend).examples([reading], dropout)
    zero_L = ~batch.input_BLH[0].any(1)
    text, words = len(reading.greedy), len(reading.words_WH)
    start = 5 + text + 6
    expected = [*range(5, 5 + text), *range(start, start + words)]
    assert zero_L.nonzero()[:, 0].tolist() == expected


def test_rates_of_zeroing_are_kept_apart(backend: Backend) -> None:
    reading = Reading("i", "a" * 200, np.ones((100, 16), np.float32), "b")
    prompter = Prompter(backend)
    rng = np.random.default_rng(0)
    zeros = np.zeros((40, 2))
    for row in zeros:
        zero_L = ~prompter.examples([reading], Dropout(0.1, 0.4, rng)).input_BLH[0].any(1)
        row[:] = zero_L[5:205].float().mean(), zero_L[211:311].float().mean()
    assert zeros.mean(0) == pytest.approx([0.1, 0.4], abs=0.02)
    assert abs(np.corrcoef(zeros.T)[0, 1]) < 0.5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 12), st.integers(0, 9))
def test_every_row_is_in_one_batch(lengths: list[int], num: int, seed: int) -> None:
    num = min(num, len(lengths))
    batches = length_batches(lengths, num, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = {len(batch) for batch in batches}
    assert len(batches) == num
    assert max(sizes) - min(sizes) <= 1


def test_batches_hold_similar_lengths_and_change() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 80, 200).tolist()
    first, second = (length_batches(lengths, 25, rng) for _ in range(2))
    spread = np.mean([np.ptp(np.array(lengths)[batch]) for batch in first])
    assert spread < 0.5 * np.ptp(lengths)
    groups = [{frozenset(batch.tolist()) for batch in batches} for batches in (first, second)]
    assert len(groups[0] & groups[1]) < 3
