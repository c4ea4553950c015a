"""``neurosweep decode``: read the sentences of a recording with what a trial trained."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.cli.options import add_home, add_json, open_home, positive
from neurosweep.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers

_SUFFIXES = (".tsv", ".jsonl")
_COLUMNS = ("start_s", "stop_s", "hypothesis", "greedy", "reference", "logp")
_ALWAYS = ("start_s", "stop_s", "hypothesis")


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    text = "read the sentences of a recording with what a trial trained"
    parser = subparsers.add_parser(
        "decode",
        help=text,
        description=f"{text}. The trial must have been scored and its checkpoint kept.",
        epilog="example:\n"
        "  neurosweep decode sub-01/meg.fif --run demo-20260101-ab12/r02t017 --out read.tsv",
    )
    parser.add_argument("recording", metavar="RECORDING", type=Path, help="file to decode")
    parser.add_argument(
        "--run", required=True, metavar="RUN", help="STUDY/TRIAL, or the path of a trial's folder"
    )
    parser.add_argument(
        "--beam", type=positive, metavar="N", help="width of the search (default: the trial's own)"
    )
    parser.add_argument(
        "--events",
        type=Path,
        metavar="TABLE",
        help="table of the sentences' times (default: the one beside the recording)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write them to FILE.tsv or FILE.jsonl"
    )
    add_home(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Decode the recording, show what was read, and write it where asked.

    Raises
    ------
    StudyError
        When there is no such trial, it was not scored, or it has no checkpoint.
    DataError
        When the recording cannot be decoded.
    ConfigError
        When the file to write has no known suffix or no folder.
    """
    from neurosweep.cli import exits
    from neurosweep.cli.console import Console
    from neurosweep.cli.locate import find_trial
    from neurosweep.cli.summary import show_path
    from neurosweep.core.files import atomic_write_text
    from neurosweep.research.decode import decode

    _check_out(args.out)
    study, trial = find_trial(args.run, lambda: open_home(args.home, create=False))
    console = Console(as_json=args.json)
    console.line(f"decoding {args.recording} with {trial} of {study.study_id}")
    answer = decode(
        study, trial, args.recording, events=args.events, beam=args.beam, say=console.line
    )
    sentences = _sentences(answer)
    if args.out is not None:
        atomic_write_text(args.out, written(sentences, args.out.suffix))
    columns = [c for c in _COLUMNS if c in _ALWAYS or any(c in s for s in sentences)]
    console.line()
    if sentences:
        console.table([*columns], [[_cell(s.get(c)) for c in columns] for s in sentences])
    console.lines([str(line) for line in answer.get("lines") or []])
    if args.out is not None:
        console.line(f"written to {show_path(args.out.absolute())}")
    console.data(
        {
            "v": 1,
            "study": study.study_id,
            "trial": trial,
            "recording": str(args.recording),
            "sentences": sentences,
            "sealed": int(answer.get("sealed") or 0),
            "lines": list(answer.get("lines") or []),
            "out": None if args.out is None else str(args.out),
        }
    )
    return exits.OK


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in _SUFFIXES:
        msg = f"--out {out}: unknown suffix '{out.suffix}'; allowed: {', '.join(_SUFFIXES)}"
        raise ConfigError(msg)
    if not out.absolute().parent.is_dir() or out.is_dir():
        msg = f"--out {out}: its folder does not exist, or it is a folder; name a file"
        raise ConfigError(msg)


def _sentences(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = answer.get("sentences")
    if not isinstance(listed, list) or not all(isinstance(s, dict) for s in listed):
        msg = "the decoder gave no list of sentences; its entry module is of another version"
        raise DataError(msg)
    return listed


def written(sentences: Sequence[Mapping[str, Any]], suffix: str) -> str:
    """Return sentences as the text of a ``.tsv`` or a ``.jsonl`` file."""
    import json

    if suffix == ".jsonl":
        return "".join(json.dumps(dict(s), ensure_ascii=False) + "\n" for s in sentences)
    rows = [[_cell(s.get(column), digits=6) for column in _COLUMNS] for s in sentences]
    return "".join("\t".join(row) + "\n" for row in [list(_COLUMNS), *rows])


def _cell(value: Any, digits: int = 2) -> str:
    from neurosweep.records.mlflow_names import clean_text

    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return clean_text(str(value), 10_000)
