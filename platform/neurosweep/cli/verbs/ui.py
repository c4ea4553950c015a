"""``neurosweep ui``: open MLflow on what was recorded."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
from typing import TYPE_CHECKING

from neurosweep.cli import exits
from neurosweep.cli.console import Console
from neurosweep.cli.options import add_home, add_json, open_home, positive
from neurosweep.core.errors import ConfigError, MissingPackageError

if TYPE_CHECKING:
    from neurosweep.cli.parser import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    text = "open MLflow on what was recorded"
    parser = subparsers.add_parser(
        "ui",
        help=text,
        description=f"{text}: it is served on this machine only, until Ctrl-C. On another machine "
        "forward the port first: ssh -L 5000:127.0.0.1:5000 HOST",
    )
    parser.add_argument("--port", type=positive, default=5000, metavar="N", help="default: 5000")
    parser.add_argument(
        "--print", action="store_true", help="print the command and the links, start nothing"
    )
    add_home(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Serve MLflow's pages until interrupted.

    Raises
    ------
    MissingPackageError
        When MLflow is not installed.
    ConfigError
        When the port is taken.
    """
    import importlib.util

    from neurosweep.cli.locate import studies_of
    from neurosweep.records.mlflow_client import redact, tracking_uri
    from neurosweep.records.mlflow_ui import command, environment, mlflow_links

    home = open_home(args.home, create=False)
    console = Console(as_json=args.json)
    server = tracking_uri(home)
    remote = server.startswith(("http://", "https://"))
    words = [] if remote else command(home, args.port)
    links = {study.study_id: mlflow_links(study, args.port) for study in studies_of(home)}
    shown = {study: found for study, found in links.items() if found}
    for study, found in list(shown.items())[-5:]:
        console.line(f"{study}")
        console.lines([f"  {name}: {link}" for name, link in found.items()])
    if not shown:
        console.line("no study was brought to MLflow yet: neurosweep study report STUDY does it")
    console.data({"v": 1, "command": words, "env": environment(), "links": shown})
    if remote:
        console.line(f"MLflow is served at {redact(server)}, which MLFLOW_TRACKING_URI names")
        return exits.OK
    if args.print or args.json:
        console.line(" ".join(words))
        return exits.OK
    if importlib.util.find_spec("mlflow") is None:
        msg = "MLflow is not installed; install it with: pip install mlflow"
        raise MissingPackageError(msg)
    _refuse_taken_port(args.port)
    console.line(f"MLflow: http://127.0.0.1:{args.port} (Ctrl-C ends it)")
    return _serve(words, environment())


def _serve(words: list[str], env: dict[str, str]) -> int:
    process = subprocess.Popen(words, env={**os.environ, **env})
    try:
        return exits.OK if process.wait() == 0 else exits.UNEXPECTED
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return exits.OK


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            msg = f"--port {port}: cannot be used ({error}); choose another, e.g. --port {5001}"
            raise ConfigError(msg) from error
