"""The encoder of sentences: its sizes are the published ones, and padding changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from _sentence_stores import make_sentence_facts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from neurodecode.models.conv_conformer import Config, build
from neurodecode.models.conv_conformer.network import ConvConformer, EncoderOutput
from neurosweep.core.errors import ConfigError, DataError

PAPER = {
    "merger_channels": 270,
    "fourier_grid": 32,
    "merger_dropout": 0.2,
    "mixed_channels": 512,
    "conv_width": 1500,
    "num_convs": 4,
    "dropout_input": 0.2,
    "dropout_conv": 0.5,
    "width": 1024,
    "num_layers": 4,
    "num_heads": 4,
    "ffn_width": 1024,
    "conformer_kernel": 17,
    "dropout": 0.3,
    "dropout_attention": 0.3,
    "spare_classes": 1,
}
TINY = {
    "merger_channels": 8,
    "fourier_grid": 4,
    "mixed_channels": 8,
    "conv_width": 16,
    "width": 16,
    "ffn_width": 16,
    "num_layers": 1,
    "conformer_kernel": 5,
}


def _encoder(channels: int = 5, subjects: int = 2, **options: Any) -> ConvConformer:
    torch.manual_seed(0)
    encoder = build(Config.model_validate(TINY | options), make_sentence_facts(channels, subjects))
    for module in encoder.modules():
        if hasattr(module, "running_mean_D"):
            nn.init.normal_(module.running_mean_D)
    return encoder


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _of_item(output: EncoderOutput, place: int) -> list[torch.Tensor]:
    frames = int(output.frames_B[place])
    return [values[place, :frames] for values in output[:3]]


def test_the_published_sizes_give_the_published_counts() -> None:
    with torch.device("meta"):
        encoder = build(Config.model_validate(PAPER), make_sentence_facts(306, 9))
    assert _count(encoder.merger) == 9 * 552_960
    assert encoder.merger.embedding_CP.shape == (306, 2048)
    assert _count(encoder.mix) == 138_752
    assert _count(encoder.subject) == 9 * 769_500
    assert _count(encoder.convs) == 41_449_024
    assert _count(encoder.downsampling) == 2_065
    assert [_count(layer) for layer in encoder.layers] == [11_576_320] * 4
    assert _count(encoder.head) == 29_725
    assert _count(encoder.feedback) == 30_720
    assert round(_count(encoder) / 1e6, 2) == 99.86
    dilations = [block.conv.conv.dilation[1] for block in encoder.convs.blocks]
    assert [*dilations, encoder.convs.last.conv.dilation[1]] == [1, 2, 4, 1]


def test_two_hundred_subjects_take_352_million() -> None:
    with torch.device("meta"):
        encoder = build(Config.model_validate(PAPER), make_sentence_facts(306, 200))
    assert round(_count(encoder) / 1e6, 1) == 352.4


def test_frames_are_those_with_all_their_samples() -> None:
    encoder = _encoder()
    assert [encoder.num_frames(t) for t in (100, 400, 600, 1000)] == [22, 97, 147, 247]
    lengths = torch.tensor([100, 400, 600, 1000, 3])
    assert encoder.num_frames(lengths).tolist() == [22, 97, 147, 247, 1]


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    padding=st.integers(0, 60),
    garbage=st.booleans(),
)
@example(lengths=[1], padding=1, garbage=False)
def test_an_item_is_the_same_whatever_is_around_it(
    lengths: list[int], padding: int, garbage: bool
) -> None:
    encoder = _encoder().eval().double()  # float32 differs by more where kernels block otherwise
    rng = np.random.default_rng(len(lengths) + padding)
    x_BTC = torch.zeros(len(lengths), max(lengths) + padding, 5, dtype=torch.float64)
    for place, length in enumerate(lengths):
        x_BTC[place, :length] = torch.from_numpy(rng.normal(size=(length, 5)))
        if garbage:
            x_BTC[place, length:] = 100.0
    subject_B = torch.from_numpy(rng.integers(0, 2, len(lengths)))
    with torch.inference_mode():
        joint = encoder(x_BTC, torch.tensor(lengths), subject_B)
        assert joint.frames_B.tolist() == [encoder.num_frames(length) for length in lengths]
        for place, length in enumerate(lengths):
            alone = encoder(
                x_BTC[place : place + 1, :length],
                torch.tensor([length]),
                subject_B[place : place + 1],
            )
            for values, expected in zip(_of_item(joint, place), _of_item(alone, 0), strict=True):
                torch.testing.assert_close(values, expected, atol=1e-12, rtol=1e-10)


def test_a_training_step_learns_the_same_whatever_the_padding() -> None:
    """Statistics of the batch count valid samples only, and no gradient comes from padding."""
    x_BTC = torch.randn(3, 80, 5, dtype=torch.float64)
    lengths = torch.tensor([80, 50, 33])
    options = {"merger_dropout": 0.0, "dropout_input": 0.0, "dropout_conv": 0.0, "dropout": 0.0}
    found = []
    for padding in (0, 37):
        encoder = _encoder(**options).train().double()
        padded_BTC = torch.cat([x_BTC, x_BTC.new_full((3, padding, 5), 9.0)], dim=1)
        output = encoder(padded_BTC, lengths, torch.tensor([0, 1, 0]))
        loss = sum(values.square().sum() for i in range(3) for values in _of_item(output, i))
        loss.backward()
        found.append((encoder, {n: p.grad for n, p in encoder.named_parameters()}))
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, atol=1e-9, rtol=1e-9, msg=name)
    for name, values in found[0][0].state_dict().items():
        torch.testing.assert_close(found[1][0].state_dict()[name], values, msg=name)


def test_every_parameter_learns() -> None:
    encoder = _encoder().train()
    output = encoder(torch.randn(2, 70, 5), torch.tensor([70, 60]), torch.tensor([0, 1]))
    (output.logits_BFK.square().sum() + output.aux_logits_BFK.square().sum()).backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_subjects_have_weights_of_their_own_and_start_alike() -> None:
    encoder = _encoder().eval()
    x_BTC = torch.randn(1, 40, 5).expand(2, -1, -1)
    lengths, subjects = torch.tensor([40, 40]), torch.tensor([0, 1])
    first = encoder(x_BTC, lengths, subjects).logits_BFK
    torch.testing.assert_close(first[0], first[1])
    with torch.no_grad():
        encoder.subject.bias_NE[1] += 1.0
        encoder.merger.heads_NMP[1] += torch.randn_like(encoder.merger.heads_NMP[1])
    second = encoder(x_BTC, lengths, subjects).logits_BFK
    torch.testing.assert_close(second[0], first[0])
    assert not torch.allclose(second[1], first[1], atol=1e-2)


def test_the_auxiliary_head_shares_its_weights_and_feeds_the_stream() -> None:
    encoder = _encoder(num_layers=0).eval()
    x_BTC, lengths, subjects = torch.randn(1, 40, 5), torch.tensor([40]), torch.tensor([0])
    output = encoder(x_BTC, lengths, subjects)
    assert output.logits_BFK.shape == output.aux_logits_BFK.shape == (1, 7, 28)
    assert output.feature_BFD.shape == (1, 7, 16)
    assert not torch.allclose(output.logits_BFK, output.aux_logits_BFK)
    with torch.no_grad():
        encoder.feedback.weight.zero_()
        encoder.feedback.bias.zero_()
    silent = encoder(x_BTC, lengths, subjects)
    torch.testing.assert_close(silent.logits_BFK, silent.aux_logits_BFK)
    torch.testing.assert_close(silent.logits_BFK, encoder.head(encoder.norm(silent.feature_BFD)))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.width: is 18, .* multiple of model.num_heads, 4"):
        _encoder(width=18)
    with pytest.raises(DataError, match="none of 3 sensors has a place"):
        build(Config.model_validate(TINY), make_sentence_facts(3, unplaced=(0, 1, 2)))
