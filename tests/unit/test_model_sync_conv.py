"""The synchronous encoder: options change what they say."""

from __future__ import annotations

import torch
from _window_stores import make_facts

from neurodecode.models.sync_conv import Config, build
from neurodecode.models.sync_conv.network import SyncConv


def _network(subjects: int = 1, **options: object) -> SyncConv:
    torch.manual_seed(0)
    model = build(Config.model_validate(options), make_facts(subjects=subjects))
    assert isinstance(model, SyncConv)
    return model


def test_dilations_double_and_restart() -> None:
    model = _network(num_blocks=5, dilation_period=3)
    assert [block.conv.dilation for block in model.blocks] == [(1,), (2,), (4,), (1,), (2,)]


def test_the_subject_layer_exists_only_where_there_are_several() -> None:
    assert _network(subjects=1).subject is None
    assert _network(subjects=2).subject is not None
    assert _network(subjects=2, subject_layer=False).subject is None


def test_the_subject_changes_the_answer() -> None:
    model = _network(subjects=2).eval()
    assert model.subject is not None
    with torch.no_grad():
        model.subject.bias_ND[1] = 1.0
    x_BCT = torch.randn(1, 3, 20)
    first, second = (model(x_BCT, torch.tensor([subject])) for subject in (0, 1))
    assert not torch.allclose(first, second)


def test_no_spatial_channels_leaves_channels_as_they_are() -> None:
    assert not list(_network(spatial_channels=0).spatial.parameters())
    assert list(_network(spatial_channels=4).spatial.parameters())


def test_strides_make_fewer_frames() -> None:
    for stride, frames in ((1, 20), (2, 10), (4, 5)):
        model = _network(stride=stride)
        assert model.stem(model.spatial(torch.randn(1, 3, 20))).shape[-1] == frames


def test_the_latency_of_a_response_can_be_told() -> None:
    """Attention with learned places separates early from late; a plain mean cannot see it."""
    model = _network(pooling="attention", dropout=0.0, dropout_input=0.0)
    early, late = torch.zeros(1, 3, 20), torch.zeros(1, 3, 20)
    early[..., 8], late[..., 12] = 3.0, 3.0
    model.eval()
    subject = torch.zeros(1, dtype=torch.int64)
    assert not torch.allclose(model(early, subject), model(late, subject), atol=1e-4)
