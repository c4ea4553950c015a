from __future__ import annotations

import json
from pathlib import Path

import pytest
from _study_builder import build_study
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_bytes
from neurosweep.records import mlflow_files
from neurosweep.records.fold import load_state
from neurosweep.records.metric_names import variant_label, variant_of
from neurosweep.records.mlflow_files import (
    adapter_files,
    curve_points,
    failure_tags,
    kept,
    predictions_table,
    trial_artifacts,
)
from neurosweep.records.score_files import read_scores
from neurosweep.records.state import Phase
from neurosweep.records.trial import POLICY


def write_lines(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_log_cannot_leave_its_block_of_the_description(tmp_path: Path) -> None:
    study, _ = build_study(tmp_path, rounds=1, per_round=6, fail_share=0.9)
    trial = next(t for t in load_state(study).trials.values() if t.phase is Phase.FAILED)
    log = study.trial(trial.plan.trial).attempt(1).log
    log.write_text("a\n````\n# not a title <b>x</b>\n", encoding="utf-8")
    note = failure_tags(study, trial)["mlflow.note.content"]
    assert note.endswith("`````text\na\n````\n# not a title <b>x</b>\n`````")
    assert POLICY[trial.kind].advice in note


@given(st.integers(min_value=64, max_value=20_000))
def test_long_curves_are_thinned_to_a_bounded_number_per_doubling(length: int) -> None:
    kept_here = sum(kept(index) for index in range(length // 2, length))
    assert kept_here <= 65


def test_the_start_of_a_curve_is_kept_whole() -> None:
    assert all(kept(index) for index in range(64))
    assert [index for index in range(126, 140) if kept(index)] == [126, 128, 132, 136]


def test_a_growing_curve_only_ever_gains_points(tmp_path: Path) -> None:
    lines: list[object] = [{"step": i, "t": 1.0 + i, "loss": 1 / (i + 1)} for i in range(900)]
    final = curve_points(write_lines(tmp_path / "all.jsonl", lines), 0, final=True)
    seen: list[object] = []
    for length in (1, 64, 65, 200, 511, 900):
        path = write_lines(tmp_path / f"{length}.jsonl", lines[:length])
        now = curve_points(path, 0, final=False)
        assert now[: len(seen)] == seen
        seen = list(now)
    assert set(seen) <= set(final)
    assert final[-1] == ("curve/loss", 1 / 900, 900_000, 899)
    assert len(final) < 250


def test_a_job_cannot_name_its_own_scores(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", [{"step": 0, "t": 5.0, "val_cer": 0.0}])
    assert curve_points(path, 0, final=True) == [("curve/val_cer", 0.0, 5000, 0)]


def test_hostile_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    good = json.dumps({"step": 3, "t": "2026-01-02T00:00:00.000Z", "a b'c": 2, "flag": True})
    lines = [
        "[1, 2]",
        '{"step": "x", "loss": 1}',
        '{"step": 1, "loss": NaN}',
        '{"step": true, "loss": 1}',
        "\x00\x01",
        '{"step": 1, "loss": "high", "other": null}',
        good,
        '{"step": 4, "loss": 1.0',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert curve_points(path, 0, final=True) == [("curve/a b_c", 2.0, 1767312000000, 3)]


def test_a_job_cannot_flood_the_mirror_with_names(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", [{"step": 0, f"name{i}": 1.0} for i in range(500)])
    assert len({point[0] for point in curve_points(path, 0, final=True)}) == 40


def test_links_planted_by_a_job_are_not_followed(tmp_path: Path) -> None:
    secret = write_lines(tmp_path / "secret", [{"step": 0, "loss": 1.0, "item": "a"}])
    for name in ("metrics.jsonl", "predictions.jsonl"):
        (tmp_path / name).symlink_to(secret)
    assert curve_points(tmp_path / "metrics.jsonl", 0, final=True) == []
    references = write_lines(tmp_path / "refs", [{"item": "a", "reference": "X"}])
    assert predictions_table(tmp_path / "predictions.jsonl", references) == b""


def test_predictions_stand_beside_references_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    given_ = write_lines(
        tmp_path / "p", [{"item": "a", "hypothesis": "X"}, {"item": "zz", "hypothesis": "Q"}]
    )
    refs = write_lines(
        tmp_path / "r", [{"item": "a", "reference": "Y"}, {"item": "b", "reference": "Z"}]
    )
    rows = [json.loads(line) for line in predictions_table(given_, refs).splitlines()]
    assert rows == [
        {"item": "a", "reference": "Y", "hypothesis": "X"},
        {"item": "b", "reference": "Z", "hypothesis": ""},
    ]


def _adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "ckpt" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_bytes(b"{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


WHOLE = {"adapter/adapter_config.json": b"{}", "adapter/adapter_model.safetensors": b"weights"}


def test_of_an_adapter_only_plain_weights_and_json_are_taken(tmp_path: Path) -> None:
    folder = _adapter(tmp_path)
    secret = tmp_path / "secret.json"
    secret.write_text("secret")
    (folder / "README.md").write_text("<script>")
    (folder / "weights.bin").write_bytes(b"pickle")
    (folder / "link.json").symlink_to(secret)
    (folder / "folder.json").mkdir()
    (folder / "a b\n.json").write_bytes(b"{}")
    (folder / ".hidden.json").write_bytes(b"{}")
    assert adapter_files(tmp_path / "ckpt") == WHOLE


@pytest.mark.parametrize("linked", ["ckpt", "adapter"])
def test_a_linked_folder_is_no_adapter(tmp_path: Path, linked: str) -> None:
    folder = _adapter(tmp_path)
    other = tmp_path / "other"
    if linked == "ckpt":
        other.symlink_to(folder.parent)
    else:
        other.mkdir()
        (other / "adapter").symlink_to(folder)
    assert adapter_files(other) == {}
    assert adapter_files(tmp_path / "absent") == {}
    assert adapter_files(folder / "adapter_config.json") == {}


def test_an_adapter_that_is_too_large_is_left_out_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _adapter(tmp_path)
    monkeypatch.setattr(mlflow_files, "_MAX_ADAPTER_BYTES", 9)
    assert adapter_files(tmp_path / "ckpt") == WHOLE
    monkeypatch.setattr(mlflow_files, "_MAX_ADAPTER_BYTES", 8)
    assert adapter_files(tmp_path / "ckpt") == {}


def test_scores_that_the_ledger_does_not_know_are_not_shown(tmp_path: Path) -> None:
    study, home = build_study(tmp_path, per_round=1, rounds=1, floor=1, fail_share=0.0)
    state = load_state(study)
    trial = state.trials["r01t000"]
    path = study.trial("r01t000").scores_json
    assert "scores.json" in trial_artifacts(study, home, state, trial)
    assert read_scores(path, trial.scores_sha)["metrics"] == trial.metrics
    path.write_text(path.read_text().replace("val_cer", "val_cur"))
    assert "scores.json" not in trial_artifacts(study, home, state, trial)
    with pytest.raises(DataError, match=r"scores.json: was changed after it had been scored"):
        read_scores(path, trial.scores_sha)


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"a": NaN}', b"\xff"])
def test_scores_are_strict_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"scores.json: is"):
        read_scores(path, sha256_bytes(content))


def test_metrics_of_variants_have_names() -> None:
    assert variant_of("val_wer_no_meg") == ("val_wer", "no_meg")
    assert variant_of("test_cer_greedy") == ("test_cer", "greedy")
    assert [variant_of(name) for name in ("val_wer", "val_acc", "val_window_err", "val_wer_")] == [
        None
    ] * 4
    assert variant_label("no_meg") == "Without MEG tokens"
    assert variant_label("beam_of_one") == "Beam of one"
