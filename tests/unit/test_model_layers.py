"""Layers: shapes, starts, weights that sum to one."""

from __future__ import annotations

import pytest
import torch

from neurodecode.layers.pooling import AttentionPooling, FlattenPooling, MeanPooling
from neurodecode.layers.residual import FrameNorm, ResidualConv
from neurodecode.layers.spatial import SpatialProjection, SubjectAffine


def test_the_spatial_projection_mixes_channels_alike_at_all_times() -> None:
    torch.manual_seed(0)
    layer = SpatialProjection(3, 5)
    x_BCT = torch.randn(2, 3, 7)
    out_BDT = layer(x_BCT)
    assert out_BDT.shape == (2, 5, 7)
    assert torch.allclose(layer(x_BCT.flip(-1)), out_BDT.flip(-1), atol=1e-6)


def test_the_subject_layer_starts_at_the_identity() -> None:
    layer = SubjectAffine(3, 4)
    x_BDT = torch.randn(5, 4, 6)
    assert torch.equal(layer(x_BDT, torch.tensor([0, 1, 2, 0, 1])), x_BDT)


def test_the_subject_layer_changes_only_its_subject() -> None:
    layer = SubjectAffine(2, 4)
    with torch.no_grad():
        layer.change_NDD[1] = torch.randn(4, 4)
        layer.bias_ND[1] = 1.0
    x_BDT = torch.randn(2, 4, 6)
    out_BDT = layer(x_BDT, torch.tensor([0, 1]))
    assert torch.equal(out_BDT[0], x_BDT[0])
    expected_DT = x_BDT[1] + layer.change_NDD[1].T @ x_BDT[1] + 1.0
    assert torch.allclose(out_BDT[1], expected_DT, atol=1e-6)


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("kernel_size", [3, 5, 9])
def test_a_residual_convolution_keeps_the_shape(kernel_size: int, dilation: int) -> None:
    layer = ResidualConv(6, kernel_size, dilation, "batch", 0.1, 0.2)
    assert layer(torch.randn(2, 6, 13)).shape == (2, 6, 13)


def test_a_residual_convolution_without_scale_is_the_identity() -> None:
    layer = ResidualConv(6, 3, 1, "layer", 0.0, 0.0)
    x_BDF = torch.randn(2, 6, 13)
    assert torch.equal(layer(x_BDF), x_BDF)


def test_layer_normalisation_sees_one_frame_only() -> None:
    norm = FrameNorm("layer", 8)
    x_BDF = torch.randn(3, 8, 5)
    changed_BDF = x_BDF.clone()
    changed_BDF[:, :, 0] += 10 * torch.randn(3, 8)
    assert torch.allclose(norm(x_BDF)[:, :, 1:], norm(changed_BDF)[:, :, 1:])
    normed_BDF = norm(x_BDF)
    assert torch.allclose(normed_BDF.mean(dim=1), torch.zeros(3, 5), atol=1e-5)


def test_attention_weights_sum_to_one_over_frames() -> None:
    pooling = AttentionPooling(4, 9, num_heads=3, hidden=4)
    weight_BFH = pooling.weights(torch.randn(2, 4, 9))
    assert weight_BFH.shape == (2, 9, 3)
    assert torch.allclose(weight_BFH.sum(dim=1), torch.ones(2, 3))


def test_attention_can_pick_one_place() -> None:
    pooling = AttentionPooling(4, 9, num_heads=1, hidden=4)
    with torch.no_grad():
        pooling.place_FH.zero_()
        pooling.place_FH[6] = 50.0
    x_BDF = torch.randn(2, 4, 9)
    assert torch.allclose(pooling(x_BDF), x_BDF[:, :, 6], atol=1e-5)


def test_poolings_tell_their_number_of_outputs() -> None:
    x_BDF = torch.randn(2, 4, 9)
    for pooling in (AttentionPooling(4, 9, 3, 4), MeanPooling(4), FlattenPooling(4, 9)):
        assert pooling(x_BDF).shape == (2, pooling.num_outputs)
