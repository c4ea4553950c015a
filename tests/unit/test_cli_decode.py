"""Decoding a recording with what a trial trained."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurosweep.cli import exits, main
from neurosweep.core.layout import Home, StudyDir


@pytest.fixture(autouse=True, scope="module")
def _keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with one study of two trials, the second without its checkpoint."""
    home = tmp_path_factory.mktemp("home")
    words = ["staged", "--entry", "neurosweep.testing", "--seeds", "2", "--home", str(home)]
    code = main(["run", *words, "--set", "data.items=3", "--on", "inline", "--no-mlflow"])
    assert code == exits.OK
    shutil.rmtree(_study(home).trial("r01t001").attempt(1).ckpt)
    return home


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "meg.txt"
    path.write_text("the quiet river\n\nsleeps\n", encoding="utf-8")
    return path


def _study(home: Path) -> StudyDir:
    (folder,) = Home(home).studies_dir.iterdir()
    return StudyDir(folder)


def test_a_recording_is_read_with_the_trials_code_and_checkpoint(
    home: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"{_study(home).study_id}/r01t000"
    words = ["decode", str(recording), "--run", run, "--home", str(home)]
    assert main([*words, "--beam", "3"]) == exits.OK
    shown = capsys.readouterr().out
    for part in (
        f"with r01t000 of {_study(home).study_id}",
        "decoding 3 sentences with a beam of 3",
        "start_s  stop_s  hypothesis       greedy         reference        logp",
        "0.00     1.00    tha quiat rivar  th quit rivr  the quiet river  -0.00",
        "3 sentences, 7 bytes of weights, beam 3",
    ):
        assert " ".join(part.split()) in " ".join(shown.split()), part
    assert main([*words, "--json"]) == exits.OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["trial"] == "r01t000"
    assert answer["lines"] == ["3 sentences, 7 bytes of weights, beam 8"]
    assert [s["hypothesis"] for s in answer["sentences"]] == ["tha quiat rivar", "", "slaaps"]


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_what_was_read_is_written_by_suffix(home: Path, recording: Path, suffix: str) -> None:
    out = recording.with_name(f"read{suffix}")
    trial = _study(home).trial("r01t000").root
    assert main(["decode", str(recording), "--run", f"{trial}/", "--out", str(out)]) == exits.OK
    lines = out.read_text(encoding="utf-8").splitlines()
    if suffix == ".jsonl":
        assert json.loads(lines[2])["reference"] == "sleeps"
        assert len(lines) == 3
    else:
        assert lines[0].split("\t") == [
            "start_s",
            "stop_s",
            "hypothesis",
            "greedy",
            "reference",
            "logp",
        ]
        assert lines[3].split("\t")[:5] == ["2.000000", "3.000000", "slaaps", "slps", "sleeps"]
    assert set(out.parent.iterdir()) == {recording, out}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--run", "STUDY/r01t001"], "no checkpoint in"),
        (["--run", "STUDY/r01t001"], "best first: r01t000"),
        (["--run", "STUDY/r01t009"], "has no trial 'r01t009'"),
        (["--run", "STUDY/best"], "is not a trial id"),
        (["--run", "nowhere/r01t000"], "nowhere"),
        (["--run", "STUDY/r01t000", "--beam", "0"], "--beam: '0' is not a whole number"),
        (["--run", "STUDY/r01t000", "--out", "read.csv"], "unknown suffix '.csv'; allowed: .tsv"),
        (["--run", "STUDY/r01t000", "--out", "/no/such/read.tsv"], "its folder does not exist"),
        (["--run", "STUDY/r01t000", "--events", "no.tsv"], "no.tsv: does not exist"),
        ([], "--run"),
    ],
)
def test_what_cannot_be_decoded_is_one_clear_error(
    home: Path,
    recording: Path,
    words: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = _study(home).study_id
    words = [word.replace("STUDY", study) for word in words]
    code = main(["decode", str(recording), *words, "--home", str(home)])
    assert code == exits.USER_ERROR
    assert part in capsys.readouterr().err


def test_an_absent_or_wrong_recording_is_an_error(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--run", "r01t000", "--home", str(home)]
    assert main(["decode", str(tmp_path / "absent.fif"), *run]) == exits.USER_ERROR
    assert "absent.fif: does not exist" in capsys.readouterr().err
    wrong = tmp_path / "wrong.fif"
    wrong.write_bytes(b"\xff\xfe")
    assert main(["decode", str(wrong), *run]) == exits.USER_ERROR
    assert "wrong.fif: is no recording of text" in capsys.readouterr().err


def test_the_variants_of_a_trial_reach_its_status(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = _study(home).study_id
    assert main(["study", "status", study, "--home", str(home), "--json"]) == exits.OK
    best = json.loads(capsys.readouterr().out)["best"]
    names = {f"val_{rate}_{name}" for rate in ("wer", "cer") for name in ("greedy", "no_meg")}
    assert names <= set(best["metrics"])
    assert names <= set(best["intervals"])
    assert main(["study", "status", study, "--home", str(home)]) == exits.OK
    shown = capsys.readouterr().out
    assert "val_wer_greedy (word error rate, Greedy CTC)" in shown
    page = (_study(home).report_dir / "index.html").read_text(encoding="utf-8")
    assert '<section id="sentences">' in page
