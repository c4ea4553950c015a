"""Find the verb, run it, and turn every ending into an exit code."""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from neurosweep import __version__
from neurosweep.cli import exits
from neurosweep.cli.parser import Parser, parse
from neurosweep.core.errors import NeurosweepError, missing_package

VERBS: Mapping[str, str] = {
    "demo": "search on simulated MEG of typed sentences, from data to report, in 15 minutes",
    "data": "make, prepare, check or describe the data of a recipe",
    "run": "train a recipe as it is, over one or more seeds",
    "sweep": "train a recipe with every combination of given values",
    "study": "start, resume, watch, steer, report or confirm a study",
    "trial": "look at one trial of a study, stop it, or run it again changed",
    "arena": "compare agents: several studies under one driver, slots fairly shared",
    "pipeline": "run stages that follow from each other, such as encoder, adapters, soup",
    "decode": "read the sentences of a recording with what a trial trained",
    "rerun": "run one trial of a study again and compare",
    "ui": "open MLflow on what was recorded",
    "doctor": "say what is missing on this machine or cluster, and how to get it",
}
_FILE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE}
)


class _Version(argparse.Action):
    """Print the version."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        sys.stdout.write(f"neurosweep {__version__}\n")
        parser.exit(0)


def build_parser(verb: str | None) -> Parser:
    """Return the parser with the arguments of one verb; the others only have their help line."""
    parser = Parser(
        prog="neurosweep",
        description="Hyperparameter search for brain-to-text decoding, on SLURM or this machine.",
        epilog="exit codes:\n" + exits.table(),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    for name, line in VERBS.items():
        if name == verb:
            importlib.import_module(f"neurosweep.cli.verbs.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=line)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; None takes the process's own.

    Returns
    -------
    int
        An exit code of `neurosweep.cli.exits`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((text for text in arguments if not text.startswith("-")), None)
    wants_json = "--json" in arguments
    _configure_logging("--verbose" in arguments)
    try:
        args = parse(build_parser(verb), arguments)
        signal.signal(signal.SIGTERM, _interrupt)
        return int(importlib.import_module(f"neurosweep.cli.verbs.{args.verb}").run(args))
    except SystemExit as ending:
        return int(ending.code or 0)
    except KeyboardInterrupt as error:
        text = str(error) or "ended on request; what was recorded is whole"
        return _fail(exits.INTERRUPTED, "Interrupted", text, as_json=wants_json)
    except NeurosweepError as error:
        return _fail(error.exit_code, type(error).__name__, str(error), as_json=wants_json)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "neurosweep":
            return _unexpected(error, arguments, as_json=wants_json)
        text = str(missing_package(error, f"neurosweep {verb}"))
        return _fail(exits.USER_ERROR, "MissingPackageError", text, as_json=wants_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except OSError as error:
        if error.errno in _FILE_ERRNOS:
            return _fail(exits.USER_ERROR, "OSError", _file_error(error), as_json=wants_json)
        return _unexpected(error, arguments, as_json=wants_json)
    except Exception as error:  # noqa: BLE001 - the last resort: one line and a log file
        return _unexpected(error, arguments, as_json=wants_json)


def _configure_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="neurosweep: %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("neurosweep").setLevel(logging.INFO)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _file_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "make room and try again" if full else "choose a place you may write with --home"
    return f"{where}{error.strerror}; {advice}. What was recorded is whole and can be resumed"


def _unexpected(error: Exception, arguments: list[str], *, as_json: bool) -> int:
    log = _write_traceback(error, arguments)
    where = f"; details in {log}" if log else ""
    text = str(error).split("\n")[0] or "no message"
    return _fail(
        exits.UNEXPECTED, type(error).__name__, f"unexpected error: {text}{where}", as_json=as_json
    )


def _write_traceback(error: Exception, arguments: list[str]) -> Path | None:
    lines = "".join(traceback.format_exception(error))
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"neurosweep-{stamp}-", suffix=".log", text=True)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"neurosweep {' '.join(arguments)}\n{lines}")
    except OSError:
        sys.stderr.write(lines)
        return None
    return Path(name)


def _fail(code: int, kind: str, text: str, *, as_json: bool) -> int:
    label = kind if code in (exits.UNEXPECTED, exits.INTERRUPTED) else "error"
    sys.stderr.write(f"neurosweep: {label}: {text}\n")
    if as_json:
        body = {"v": 1, "error": {"type": kind, "text": text}, "exit_code": code}
        sys.stdout.write(json.dumps(body) + "\n")
    return code
