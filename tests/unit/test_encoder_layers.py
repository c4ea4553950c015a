"""Layers of the encoder against plain ones, and against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from _sentence_stores import make_sentence_facts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from neurodecode.layers.channel_merger import ChannelMerger
from neurodecode.layers.conformer import ConformerLayer, SelfAttention
from neurodecode.layers.dilated_convs import ConvBlock
from neurodecode.layers.downsampling import TemporalDownsampling
from neurodecode.layers.fourier_positions import fourier_positions, has_place
from neurodecode.layers.masked import (
    Dropout,
    MaskedBatchNorm,
    MaskedGroupNorm,
    TimeConv,
    length_mask,
)
from neurodecode.layers.subject_projection import SubjectProjection

LENGTHS = torch.tensor([9, 4, 1])


def _features(size: int = 6) -> tuple[Tensor, Tensor]:
    return 3.0 + torch.randn(3, 9, size), length_mask(LENGTHS, 9)


def _valid(x_BTD: Tensor) -> Tensor:
    return torch.cat([x_BTD[place, :length] for place, length in enumerate(LENGTHS.tolist())])


def test_batch_norm_counts_valid_samples_only() -> None:
    x_BTD, mask_BT1 = _features()
    masked, plain = MaskedBatchNorm(6), nn.BatchNorm1d(6)
    for norm in (masked, plain):
        for parameter in norm.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.ndim))
    for _ in range(3):
        torch.testing.assert_close(_valid(masked(x_BTD, mask_BT1)), plain(_valid(x_BTD)))
    torch.testing.assert_close(masked.running_mean_D, plain.running_mean)
    torch.testing.assert_close(masked.running_var_D, plain.running_var)
    masked.eval()
    plain.eval()
    torch.testing.assert_close(_valid(masked(x_BTD, mask_BT1)), plain(_valid(x_BTD)))


def test_group_norm_counts_valid_frames_only() -> None:
    x_BFD, mask_BF1 = _features()
    norm = MaskedGroupNorm(6)
    nn.init.normal_(norm.weight_D)
    nn.init.normal_(norm.bias_D)
    normed = norm(x_BFD, mask_BF1)
    for place, length in enumerate(LENGTHS.tolist()):
        item_1DF = x_BFD[place : place + 1, :length].transpose(1, 2)
        expected = functional.group_norm(item_1DF, 1, norm.weight_D, norm.bias_D)
        torch.testing.assert_close(normed[place, :length], expected[0].T)


@pytest.mark.parametrize("norm", [MaskedBatchNorm(2), MaskedGroupNorm(2)])
def test_gradients_of_masked_norms_are_right(norm: nn.Module) -> None:
    norm = norm.double()
    x_BTD = torch.randn(3, 9, 2, dtype=torch.float64, requires_grad=True)
    mask_BT1 = length_mask(LENGTHS, 9).double()
    assert torch.autograd.gradcheck(lambda x: norm(x, mask_BT1) * mask_BT1, (x_BTD,))


@pytest.mark.parametrize(("dilation", "groups"), [(1, 1), (2, 1), (4, 1), (1, 6)])
def test_a_convolution_over_time_is_a_plain_one(dilation: int, groups: int) -> None:
    conv = TimeConv(6, 12, 5, dilation, groups)
    x_BTD = torch.randn(2, 20, 6)
    weight = conv.conv.weight.squeeze(2)
    expected = functional.conv1d(
        x_BTD.transpose(1, 2),
        weight,
        conv.conv.bias,
        padding=2 * dilation,
        dilation=dilation,
        groups=groups,
    )
    torch.testing.assert_close(conv(x_BTD), expected.transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_a_block_adds_a_boosted_branch_and_stays_silent_beyond_the_end() -> None:
    x_BTD, mask_BT1 = _features()
    x_BTD = x_BTD * mask_BT1
    block = ConvBlock(6, 5, 2, layer_scale=0.1, dropout=0.0)
    torch.testing.assert_close(block.scale_D, torch.full((6,), 0.02))
    branch = functional.gelu(block.norm(block.conv(x_BTD), mask_BT1))
    expected = (x_BTD + 0.1 * branch) * mask_BT1
    torch.testing.assert_close(block(x_BTD, mask_BT1), expected)


@settings(max_examples=20, deadline=None)
@given(share=st.sampled_from([0.1, 0.25, 0.5, 0.7]), size=st.integers(1, 40))
def test_dropout_drops_its_share_and_keeps_the_mean(share: float, size: int) -> None:
    torch.manual_seed(size)
    dropout = Dropout(share)
    x = torch.ones(300, size, 7)
    y = dropout.train()(x)
    dropped = float((y == 0).float().mean())
    spread = math.sqrt(share * (1 - share) / y.numel())
    assert dropped == pytest.approx(share, abs=1 / 512 + 5 * spread)
    assert set(y.unique().tolist()) <= {0.0, float(y.max())}
    assert float(y.max()) == pytest.approx(1 / (1 - share), rel=0.01)
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)


def test_positions_are_plane_waves() -> None:
    places_C2 = torch.tensor([[0.0, 0.5], [0.3, 1.0]])
    embedding_CP = fourier_positions(places_C2, 3)
    assert embedding_CP.shape == (2, 18)
    phase = 2 * math.pi * (2 * (0.3 + 0.2) + 1 * (1.0 + 0.2)) / 1.4
    assert float(embedding_CP[1, 2 * 3 + 1]) == pytest.approx(math.cos(phase), abs=1e-5)
    assert float(embedding_CP[1, 9 + 2 * 3 + 1]) == pytest.approx(math.sin(phase), abs=1e-5)
    torch.testing.assert_close(embedding_CP.square().sum(dim=1), torch.full((2,), 9.0))
    assert fourier_positions(places_C2, 32).shape == (2, 2048)
    places_C2 = torch.tensor([[0.0, 1.0], [-0.1, -0.1], [0.5, 1.01]])
    assert has_place(places_C2).tolist() == [True, False, False]


def test_a_merger_averages_sensors_that_have_a_place() -> None:
    facts = make_sentence_facts(12, 3, unplaced=(2, 7))
    merger = ChannelMerger(facts.positions_C2, 3, 4, 8, dropout_radius=0.0)
    nn.init.normal_(merger.heads_NMP)
    weights = merger.weights(torch.arange(3))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 4))
    assert not weights[:, :, [2, 7]].any()
    x_BTC = torch.randn(5, 10, 12)
    subjects = torch.tensor([2, 0, 2, 2, 0])
    expected = torch.einsum("btc,bmc->btm", x_BTC, weights[subjects])
    torch.testing.assert_close(merger(x_BTC, subjects), expected)
    alone = merger(x_BTC[:1], subjects[:1])
    torch.testing.assert_close(alone, expected[:1])


def test_training_leaves_out_sensors_around_a_point() -> None:
    facts = make_sentence_facts(100, 1, unplaced=(0,))
    merger = ChannelMerger(facts.positions_C2, 1, 4, 4, dropout_radius=0.3).train()
    torch.manual_seed(1)
    left_out = [(merger.weights(torch.tensor([0]))[0, 0] == 0).sum().item() for _ in range(30)]
    assert min(left_out) >= 1
    assert 5 < sum(left_out) / 30 < 40
    assert len(set(left_out)) > 5
    merger.eval()
    assert (merger.weights(torch.tensor([0]))[0, 0] == 0).sum() == 1
    single = ChannelMerger([(0.5, 0.5)], 1, 2, 4, dropout_radius=2.0).train()
    assert torch.isfinite(single.weights(torch.tensor([0]))).all()


def test_sharp_mergers_pick_fewer_sensors() -> None:
    facts = make_sentence_facts(100)
    entropies = []
    for sharpness in (1.0, 4.0):
        torch.manual_seed(0)
        merger = ChannelMerger(facts.positions_C2, 1, 8, 16, 0.0, sharpness)
        weights = merger.weights(torch.tensor([0])).detach()
        entropies.append(float(-(weights * weights.log()).sum(-1).mean()))
    assert entropies[1] < entropies[0] - 1.0


def test_subjects_are_projected_by_their_own_matrix() -> None:
    projection = SubjectProjection(3, 4, 6)
    nn.init.normal_(projection.weight_NDE)
    nn.init.normal_(projection.bias_NE)
    x_BTD, subjects = torch.randn(4, 5, 4), torch.tensor([1, 0, 1, 2])
    found = projection(x_BTD, subjects)
    for place, subject in enumerate(subjects.tolist()):
        expected = x_BTD[place] @ projection.weight_NDE[subject] + projection.bias_NE[subject]
        torch.testing.assert_close(found[place], expected)


def test_downsampling_filters_every_feature_alike() -> None:
    down = TemporalDownsampling(6, 16, 4)
    x_BTD = torch.randn(2, 50, 6)
    taps = down.filter.weight.flatten()
    filtered = torch.stack(
        [(x_BTD[:, f * 4 : f * 4 + 16] * taps[:, None]).sum(1) for f in range(9)]
    )
    expected = functional.gelu(down.norm(filtered.transpose(0, 1) + down.filter.bias))
    torch.testing.assert_close(down(x_BTD), expected, atol=1e-5, rtol=1e-4)
    assert down.norm.eps == 1e-8
    assert down(x_BTD[:, :7]).shape == (2, 1, 6)


def test_attention_is_that_of_torch_and_ignores_padding() -> None:
    own = SelfAttention(8, 2, 0.0, 0.0)
    torch_own = nn.MultiheadAttention(8, 2, batch_first=True)
    torch_own.in_proj_weight.data.copy_(own.joint.weight)
    torch_own.in_proj_bias.data.copy_(own.joint.bias)
    torch_own.out_proj.load_state_dict(own.out.state_dict())
    x_BFD, mask_BF1 = _features(8)
    normed = own.norm(x_BFD)
    expected, _ = torch_own(normed, normed, normed, key_padding_mask=mask_BF1[..., 0] == 0)
    torch.testing.assert_close(own(x_BFD, mask_BF1), expected, atol=1e-5, rtol=1e-4)
    thinned = SelfAttention(8, 2, 0.0, 1 / 256).train()
    thinned.load_state_dict(own.state_dict())
    with torch.no_grad():
        close = (thinned(x_BFD, mask_BF1) - expected).abs()
    assert float(close.median()) < 0.05


def test_gradients_of_a_conformer_layer_are_right() -> None:
    layer = ConformerLayer(4, 2, 6, 3, 0.0, 0.0).double()
    x_BFD = torch.randn(3, 9, 4, dtype=torch.float64, requires_grad=True)
    mask_BF1 = length_mask(LENGTHS, 9).double()
    assert torch.autograd.gradcheck(
        lambda x: layer(x, mask_BF1) * mask_BF1, (x_BFD,), fast_mode=True
    )
