"""Files of trained encoders: whole, or told why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from _limits import files_of_at_most
from _sentence_stores import make_sentence_facts

from neurodecode.models.conv_conformer import Config, build
from neurodecode.training.checkpoint import load_encoder, save_encoder, write_safetensors
from neurosweep.core.errors import DataError

FACTS = make_sentence_facts(4)
CONFIG = Config.model_validate(
    {
        "merger_channels": 8,
        "fourier_grid": 4,
        "mixed_channels": 8,
        "conv_width": 16,
        "num_convs": 1,
        "width": 16,
        "num_layers": 1,
        "ffn_width": 16,
    }
)


def _saved(folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(CONFIG, FACTS)
    save_encoder(folder, model, CONFIG, FACTS)
    return model


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    model = _saved(tmp_path)
    again, facts = load_encoder(tmp_path)
    assert facts == FACTS
    assert not again.training
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_on_a_full_disk_the_old_weights_stay(tmp_path: Path) -> None:
    model = _saved(tmp_path / "encoder")
    before = {path.name: path.read_bytes() for path in (tmp_path / "encoder").iterdir()}
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large"):
        write_safetensors(tmp_path / "encoder" / "encoder.safetensors", model)
    assert {path.name: path.read_bytes() for path in (tmp_path / "encoder").iterdir()} == before


@pytest.mark.parametrize(
    "facts",
    [
        {"positions_C2": [[0.1, 0.2, 0.3]]},
        {"positions_C2": [["left", "right"]]},
        {"positions_C2": 3},
        {"more": 1},
    ],
)
def test_a_damaged_description_is_said(tmp_path: Path, facts: dict[str, Any]) -> None:
    _saved(tmp_path)
    path = tmp_path / "encoder.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description["facts"] |= facts
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DataError, match=r"is no encoder that can be loaded .*encoder\.safetensors"):
        load_encoder(tmp_path)


def test_options_that_the_family_does_not_have_are_said(tmp_path: Path) -> None:
    _saved(tmp_path)
    path = tmp_path / "encoder.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description["model"]["width"] = "wide"
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DataError, match="is no encoder that can be loaded"):
        load_encoder(tmp_path)
