"""Options that several verbs share, and their first check."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

from neurosweep.cli.parser import hint
from neurosweep.core.errors import ConfigError, StudyError
from neurosweep.core.layout import Home, default_home
from neurosweep.core.plugins import find_plugins

_EXECUTORS = "neurosweep.exec.executors"


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add ``--home``."""
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="where studies and data lie (default: $NEUROSWEEP_HOME, else ./neurosweep-home)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; all else goes to stderr"
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add ``--on`` and ``--workers``."""
    parser.add_argument(
        "--on", metavar="WHERE", help="local, inline, or slurm:PROFILE (default: as the study says)"
    )
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="trials at a time (default: all cores)"
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options of every verb that runs a study."""
    add_place(parser)
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help='exit with 3 when it holds at the end, e.g. "failed>0" or "best>=default"; repeatable',
    )
    parser.add_argument(
        "--no-mlflow",
        action="store_true",
        help="leave MLflow alone; `neurosweep study report` brings it up to date later",
    )
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="shell command at the end of a round, of the study, and on trouble; README says what "
        "it is told",
    )
    parser.add_argument("--verbose", action="store_true", help="show what the driver logs")
    add_home(parser)
    add_json(parser)


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add ``--rounds`` and ``--trials``."""
    parser.add_argument("--rounds", type=positive, metavar="N", help="number of rounds")
    parser.add_argument("--trials", type=positive, metavar="N", help="search trials in every round")


def add_recipe(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """Add ``RECIPE``, ``--set`` and ``--entry``."""
    parser.add_argument("recipe", metavar="RECIPE", help="a bundled recipe or a TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=V1,V2,..." if many else "PATH=VALUE",
        help="a field of the configuration; repeatable",
    )
    parser.add_argument(
        "--entry",
        default="neurodecode",
        metavar="PACKAGE",
        help="package whose entry module describes recipes (default: neurodecode)",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add ``--minutes``."""
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="limit of one trial, minutes (default: 45)"
    )


def positive(text: str) -> int:
    """Return a whole number above 0.

    Raises
    ------
    argparse.ArgumentTypeError
        When the text is anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        msg = f"{text!r} is not a whole number of at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def open_home(given: Path | None, *, create: bool) -> Home:
    """Return the home of studies.

    Parameters
    ----------
    given
        Value of ``--home``; None for the default.
    create
        Whether it is going to be written.

    Raises
    ------
    ConfigError
        When it is no folder, or cannot be made, read or written.
    """
    home = default_home() if given is None else Home(given.absolute())
    root = home.root
    if create:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _home_error(root, f"cannot be made ({error.strerror})") from error
    if not root.exists():
        msg = (
            f"home {root}: does not exist. Name the home of your studies with --home DIR or "
            "NEUROSWEEP_HOME, or make a first study with: neurosweep demo"
        )
        raise StudyError(msg)
    if not root.is_dir():
        raise _home_error(root, "is not a folder")
    if not os.access(root, os.R_OK | os.X_OK):
        raise _home_error(root, "cannot be read by you")
    if create and not os.access(root, os.W_OK):
        raise _home_error(root, "cannot be written by you")
    return home


def home_flag(home: Home) -> str:
    """Return " --home DIR" as a command needs it to find this home, or nothing."""
    return "" if home.root == default_home().root else f" --home {shlex.quote(str(home.root))}"


def _home_error(root: Path, what: str) -> ConfigError:
    return ConfigError(f"home {root}: {what}; choose another folder with --home DIR")


def parse_on(text: str) -> tuple[str, str | None]:
    """Return name and option of an executor, for example ``("slurm", "my-cluster")``.

    Raises
    ------
    ConfigError
        When there is no such executor, slurm has no profile, or another has an option.
    """
    name, colon, option = text.partition(":")
    known = find_plugins(_EXECUTORS)
    if name not in known:
        msg = (
            f"--on {text}: there is no executor '{name}'{hint(name, known)}allowed: "
            "local, inline, slurm:PROFILE"
        )
        raise ConfigError(msg)
    if name == "slurm" and not option:
        msg = "--on slurm: needs a profile, for example --on slurm:devcluster or --on slurm:my.toml"
        raise ConfigError(msg)
    if name in ("local", "inline") and colon:
        msg = f"--on {text}: '{name}' takes no option; limit it with --workers N"
        raise ConfigError(msg)
    return name, option or None


def anywhere(on: str, folder: Path) -> str:
    """Return an executor whose profile is found from every folder, not from this one alone.

    Parameters
    ----------
    on
        ``local``, ``inline`` or ``slurm:PROFILE``.
    folder
        Where a profile that is given as a file lies.

    Raises
    ------
    ConfigError
        As `parse_on`.
    """
    name, option = parse_on(on)
    if option is None or Path(option).suffix != ".toml":
        return on
    return f"{name}:{(folder / Path(option).expanduser()).absolute()}"


def execution_changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the dotted fields of a specification that the command line sets.

    Raises
    ------
    ConfigError
        When ``--on`` names nothing that exists.
    """
    changes: dict[str, Any] = {}
    if args.on is not None:
        changes["execution.on"] = anywhere(args.on, Path.cwd())
    if args.workers is not None:
        changes["execution.workers"] = args.workers
    if getattr(args, "notify", None) is not None:
        changes["notify.command"] = args.notify
    if getattr(args, "minutes", None) is not None:
        changes["budget.trial_minutes"] = args.minutes
    if getattr(args, "rounds", None) is not None:
        changes["budget.rounds"] = args.rounds
    if getattr(args, "trials", None) is not None:
        changes["budget.trials_per_round"] = args.trials
    return changes
