"""The command line as a whole: parsing, exit codes, errors for people and for programs."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from neurosweep.cli import app, exits, main
from neurosweep.cli.parser import UsageError, parse
from neurosweep.core.errors import DataError
from neurosweep.core.plugins import find_plugins

REPO = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def breaking(error: BaseException) -> Callable[[object], int]:
    def run(_args: object) -> int:
        raise error

    return run


def test_every_module_of_the_verbs_is_a_verb_and_says_what_the_list_says() -> None:
    assert list(find_plugins("neurosweep.cli.verbs")) == sorted(app.VERBS)
    for verb, line in app.VERBS.items():
        parser = app.build_parser(verb)
        module = import_module(f"neurosweep.cli.verbs.{verb}")
        assert callable(module.run)
        assert " ".join(line.split()) in " ".join(parser.format_help().split())


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == exits.OK
    assert f"usage: neurosweep {verb}" in capsys.readouterr().out


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == exits.OK
    shown = capsys.readouterr().out
    assert sorted(exits.MEANINGS) == [0, 1, 2, 3, 130]
    assert all(meaning in shown for meaning in exits.MEANINGS.values())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from neurosweep import __version__

    assert main(["--version"]) == exits.OK
    assert capsys.readouterr().out == f"neurosweep {__version__}\n"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["studdy"], ["unknown verb 'studdy'", "did you mean 'study'?", "allowed: demo, data"]),
        (["zzz"], ["unknown verb 'zzz'; allowed: demo", "See: neurosweep --help"]),
        (["study", "statsu"], ["'statsu'", "did you mean 'status'?", "neurosweep study --help"]),
        (["study", "start"], ["FILE", "neurosweep study start --help"]),
        (["study", "start", "a.toml", "--rouns", "3"], ["'--rouns'", "did you mean '--rounds'?"]),
        (["study", "start", "a.toml", "--rounds", "0"], ["--rounds", "'0'", "at least 1"]),
        (["study", "start", "a.toml", "--round", "2"], ["unknown option '--round'"]),
        (["demo", "now"], ["unexpected argument 'now'"]),
        (["doctor", "--need", "slrum"], ["--need", "did you mean 'slurm'?", "local, slurm"]),
        ([], ["VERB"]),
    ],
)
def test_a_wrong_command_line_is_one_line_with_what_is_allowed(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == exits.USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("neurosweep: error: ")
    assert captured.err.count("\n") == 1
    assert [part for part in parts if part not in captured.err] == []


def test_an_expected_error_has_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("neurosweep.cli.verbs.ui.run", breaking(DataError("a.eeg: is cut")))
    assert main(["ui"]) == exits.USER_ERROR
    assert capsys.readouterr().err == "neurosweep: error: a.eeg: is cut\n"


def test_an_unexpected_error_is_one_line_and_a_log_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("neurosweep.cli.verbs.ui.run", breaking(KeyError("surprise")))
    assert main(["ui"]) == exits.UNEXPECTED
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "Traceback" not in shown
    (log,) = tmp_path.glob("neurosweep-*.log")
    assert str(log) in shown
    text = log.read_text(encoding="utf-8")
    assert text.startswith("neurosweep ui\n")
    assert "Traceback" in text
    assert "surprise" in text


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (OSError(28, "No space left on device", "/home/x/ledger.jsonl"), "make room"),
        (PermissionError(13, "Permission denied", "/home/x"), "--home"),
    ],
)
def test_a_full_or_forbidden_disk_is_a_users_problem(
    error: OSError,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("neurosweep.cli.verbs.ui.run", breaking(error))
    assert main(["ui"]) == exits.USER_ERROR
    shown = capsys.readouterr().err
    assert part in shown
    assert str(error.filename) in shown


def test_an_interruption_has_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("neurosweep.cli.verbs.ui.run", breaking(KeyboardInterrupt()))
    assert main(["ui"]) == exits.INTERRUPTED
    assert "Interrupted" in capsys.readouterr().err


def test_with_json_an_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "status", "--home", "/nowhere/at/all", "--json"]) == exits.USER_ERROR
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["v"] == 1
    assert answer["exit_code"] == exits.USER_ERROR
    assert answer["error"]["type"] == "StudyError"
    assert "/nowhere/at/all" in answer["error"]["text"]


def test_only_the_chosen_verb_is_imported() -> None:
    code = (
        "import sys; from neurosweep.cli.app import build_parser; build_parser('doctor');"
        "print([m for m in sys.modules if m.startswith('neurosweep.cli.verbs.')])"
    )
    env = {"PYTHONPATH": str(REPO / "platform")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['neurosweep.cli.verbs.doctor']"


def test_an_error_names_the_parser_that_met_it() -> None:
    with pytest.raises(UsageError, match="neurosweep data check --help"):
        parse(app.build_parser("data"), ["data", "check", "speller", "--hme", "x"])


def test_a_missing_package_is_named_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ModuleNotFoundError("No module named 'git'", name="git.repo")
    monkeypatch.setattr("neurosweep.cli.verbs.doctor.run", breaking(error))
    assert main(["doctor"]) == exits.USER_ERROR
    assert "pip install GitPython" in capsys.readouterr().err


def test_pages_of_a_named_server_are_not_served_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["ui", "--home", str(tmp_path)]) == exits.OK
    assert "served at http://127.0.0.1:9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "module", "part"),
    [
        (["data", "prepare"], "neurosweep.core.entry", "data prepare left nothing half-made"),
        (["run"], "neurosweep.research.describe", "before the study existed"),
    ],
)
def test_an_interruption_while_data_are_prepared_says_what_to_do(
    words: list[str],
    module: str,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.call_entry", interrupt)
    words = [*words, "instant", "--entry", "neurosweep.testing", "--home", str(tmp_path)]
    assert main(words) == exits.INTERRUPTED
    error = capsys.readouterr().err
    assert part in error
    assert "again" in error
