"""Simulated MEG to sentences, through the command line: data, studies of both stages, decode."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurosweep.cli import exits
from neurosweep.core.files import read_jsonl
from neurosweep.core.provenance import code_env

SMALL = {
    "data.layout": "opm64",
    "data.recordings": "2",
    "data.train_sentences": "24",
    "data.val_sentences": "5",
    "data.test_sentences": "2",
    "data.max_chars": "16",
    "model.conv_width": "24",
    "model.width": "16",
    "model.num_layers": "1",
    "model.ffn_width": "16",
    "training.epochs": "3",
}
LLM = SMALL | {"projector.epochs": "2", "decoding.beam": "2"}
LIMIT_S = 250.0


@dataclass(frozen=True)
class Lab:
    """A folder in which somebody works."""

    folder: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **code_env(None, 1), "NEUROSWEEP_HOME": str(self.folder / "home")}
        command = [sys.executable, "-m", "neurosweep.cli", *words]
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=LIMIT_S
        )

    def json(self, *words: str) -> dict[str, Any]:
        done = self.run(*words, "--json")
        assert done.returncode == exits.OK, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @property
    def recording(self) -> Path:
        return min((self.folder / "home" / "recordings").rglob("*_meg.fif"))


def settings(values: dict[str, str]) -> list[str]:
    return [word for path, value in values.items() for word in ("--set", f"{path}={value}")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    yield Lab(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tuned(lab: Lab) -> dict[str, Any]:
    """A sweep of the language-model stage: an encoder trained once, two adapters."""
    ranks = ["--set", "llm.lora_rank=2,4", "--no-mlflow", "--workers", "1"]
    return lab.json("sweep", "sentences_llm", *settings(LLM), *ranks)


def test_the_trials_are_scored_by_word_and_character_errors(tuned: dict[str, Any]) -> None:
    assert (tuned["state"], tuned["trials"]["done"], tuned["trials"]["failed"]) == (
        "complete",
        2,
        0,
    )
    assert tuned["objective"]["metric"] == "val_wer"
    metrics = tuned["best"]["metrics"]
    names = {f"val_{rate}{way}" for rate in ("wer", "cer") for way in ("", "_greedy", "_no_meg")}
    assert names <= set(metrics)
    assert tuned["chance"]["val_cer"] > 0.5


def test_no_text_of_validation_or_test_is_given_to_jobs(lab: Lab, tuned: dict[str, Any]) -> None:
    folder = Path(tuned["folder"])
    runs = [json.loads(path.read_text()) for path in folder.glob("trials/*/run.json")]
    stores = {store for run in runs for store in run["stores"]}
    texts = [
        line["reference"]
        for path in (lab.folder / "home" / "secret").rglob("*_refs.jsonl")
        for line in read_jsonl(path)
    ]
    assert len(set(texts)) == 7
    files = [path for store in stores for path in (lab.folder / "home" / store).rglob("*.json")]
    files += [path for run in folder.glob("trials/*") for path in run.glob("run.json")]
    content = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert len(files) > 5
    assert [text for text in texts if f'"{text}"' in content] == []


@pytest.mark.usefixtures("tuned")
def test_an_encoder_is_trained_once_for_all_adapters(lab: Lab) -> None:
    trained = list((lab.folder / "home" / "cache").rglob("encoder.safetensors"))
    assert len(trained) == 1
    before = trained[0].stat().st_mtime_ns
    again = ["--set", "llm.lora_rank=8", "--no-mlflow", "--workers", "1"]
    assert lab.json("sweep", "sentences_llm", *settings(LLM), *again)["trials"]["done"] == 1
    assert trained[0].stat().st_mtime_ns == before
    assert len(list((lab.folder / "home" / "cache").rglob("encoder.safetensors"))) == 1


def test_the_report_shows_sentences_side_by_side(tuned: dict[str, Any]) -> None:
    page = Path(tuned["report"]).read_text(encoding="utf-8")
    assert "Example sentences" in page
    assert "Greedy CTC" in page
    assert "Without MEG tokens" in page


def test_a_recording_is_decoded_with_a_trial(lab: Lab, tuned: dict[str, Any]) -> None:
    run = f"{tuned['study']}/{tuned['best']['trial']}"
    out = lab.folder / "sentences.tsv"
    words = ("decode", str(lab.recording), "--run", run, "--beam", "2", "--out", str(out))
    answer = lab.json(*words)
    assert len(answer["sentences"]) + answer["sealed"] in (15, 16)
    starts = [sentence["start_s"] for sentence in answer["sentences"]]
    assert starts == sorted(starts)
    assert {"hypothesis", "logp", "greedy", "reference"} <= set(answer["sentences"][0])
    assert len(out.read_text(encoding="utf-8").splitlines()) == len(answer["sentences"]) + 1


def test_decode_reads_what_the_trial_predicted(lab: Lab, tuned: dict[str, Any]) -> None:
    """Sentences are found, cut and read from the recording as they were for the trial."""
    best = tuned["best"]["trial"]
    attempt = Path(tuned["folder"]) / "trials" / best / "attempts" / "1"
    predicted = {line["item"]: line for line in read_jsonl(attempt / "predictions.jsonl")}
    refs = {
        line["reference"]: predicted[line["item"]]["hypothesis"]
        for path in (lab.folder / "home" / "secret").rglob("val_refs.jsonl")
        for line in read_jsonl(path)
        if line["item"] in predicted
    }
    read = {
        sentence["reference"]: sentence["hypothesis"]
        for fif in lab.recording.parent.glob("*_meg.fif")
        for sentence in lab.json("decode", str(fif), "--run", f"{tuned['study']}/{best}")[
            "sentences"
        ]
    }
    sealed = {
        line["reference"]
        for path in (lab.folder / "home" / "secret").rglob("test_refs.jsonl")
        for line in read_jsonl(path)
    }
    assert len(refs) == 5
    assert not sealed & set(read)
    assert {text: read[text] for text in refs} == refs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no.fif", "--run", "{run}"), "no.fif"),
        (("{fif}", "--run", "{study}/r09t999"), "r09t999"),
        (("{fif}", "--run", "{run}", "--beam", "0"), "beam"),
        (("{fif}", "--run", "{run}", "--out", "sentences.docx"), "docx"),
        (("{fif}", "--run", "{run}", "--events", "{fif}"), "events table"),
        (("{text}", "--run", "{run}"), "notes.txt"),
    ],
)
def test_wrong_input_to_decode_is_one_clear_error(
    lab: Lab, tuned: dict[str, Any], words: tuple[str, ...], said: str
) -> None:
    (lab.folder / "notes.txt").write_text("not a recording", encoding="utf-8")
    study = tuned["study"]
    known = {"run": f"{study}/{tuned['best']['trial']}", "study": study, "fif": str(lab.recording)}
    known["text"] = str(lab.folder / "notes.txt")
    done = lab.run("decode", *(word.format(**known) for word in words))
    assert done.returncode == exits.USER_ERROR
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_sentences_of_unknown_text_are_read_where_a_table_marks_them(
    lab: Lab, tuned: dict[str, Any], tmp_path: Path
) -> None:
    marks = tmp_path / "marks.tsv"
    rows = [("type", "start", "duration", "timeline", "subject", "filepath")]
    rows += [("Meg", "0", "0", "new", "S01", str(lab.recording))]
    rows += [("Sentence", str(start), "3", "new", "S01", "") for start in (2, 8, 14)]
    marks.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    run = f"{tuned['study']}/{tuned['best']['trial']}"
    answer = lab.json("decode", str(lab.recording), "--run", run, "--events", str(marks))
    times = [(one["start_s"], one["stop_s"]) for one in answer["sentences"]]
    assert times == [(2.0, 5.0), (8.0, 11.0), (14.0, 17.0)]


def test_a_long_recording_without_a_table_is_not_read_as_one_sentence(
    lab: Lab, tuned: dict[str, Any], tmp_path: Path
) -> None:
    alone = Path(shutil.copy(lab.recording, tmp_path / "alone_meg.fif"))
    done = lab.run("decode", str(alone), "--run", f"{tuned['study']}/{tuned['best']['trial']}")
    assert done.returncode == exits.USER_ERROR
    assert "--events" in done.stderr


def test_an_encoder_is_searched_and_its_checkpoint_decodes(lab: Lab) -> None:
    words = ["--set", "training.learning_rate=1e-3,3e-3", "--no-mlflow", "--workers", "1"]
    study = lab.json("sweep", "sentences", *settings(SMALL), *words)
    assert (study["trials"]["done"], study["objective"]["metric"]) == (2, "val_cer")
    run = f"{study['study']}/{study['best']['trial']}"
    read = lab.json("decode", str(lab.recording), "--run", run, "--beam", "4")
    assert all("hypothesis" in sentence for sentence in read["sentences"])
    kept = Path(study["folder"]) / "trials" / study["best"]["trial"] / "attempts/1/ckpt/encoder"
    llm = ["--set", f"encoder.checkpoint={kept}", "--set", "llm.lora_rank=2"]
    tuned = lab.json("sweep", "sentences_llm", *settings(LLM), *llm, "--no-mlflow")
    assert tuned["trials"]["done"] == 1


def test_data_of_sentences_are_described(lab: Lab) -> None:
    answer = lab.json("data", "info", "sentences", *settings(SMALL))
    assert answer["parts"]["val"]["items"] == 5
    lines = lab.json("data", "check", "sentences", *settings(SMALL))["lines"]
    assert all("good" in line for line in lines[:2])


def test_a_stage_that_contradicts_its_recipe_is_refused(lab: Lab) -> None:
    (lab.folder / "study.toml").write_text(
        'name = "x"\nrecipe = "sentences"\nstage = "llm"\n', encoding="utf-8"
    )
    done = lab.run("study", "start", "study.toml")
    assert done.returncode == exits.USER_ERROR
    assert "stage" in done.stderr
