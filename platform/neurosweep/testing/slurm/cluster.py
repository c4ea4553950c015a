"""A fake SLURM and its owner."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

from neurosweep.core.errors import ExecutorError
from neurosweep.core.provenance import code_env
from neurosweep.testing.slurm import client
from neurosweep.testing.slurm.script import COMMANDS, FaultScript
from neurosweep.testing.slurm.setup import Setup, Site

_LAST_WORDS = 2000


class FakeSlurm:
    """Put a SLURM on PATH that is one process, and obeys a script.

    ``sbatch``, ``squeue``, ``sacct``, ``scancel``, ``scontrol`` and ``sinfo`` print what those
    of SLURM 22.05 print. Tasks really run: they are forked from a process that has imported what
    they need, and believe to be on a node of their own. They outlive whoever submits them, and
    end with this object, or with the process that holds it.

    Parameters
    ----------
    folder
        Where its commands and its log lie.
    script
        What goes wrong.
    slots, nodes
        Tasks that run at a time, and machines they are dealt over.
    start_id
        First job id.
    """

    def __init__(
        self,
        folder: Path,
        script: FaultScript | None = None,
        *,
        slots: int = 8,
        nodes: int = 4,
        start_id: int = 1000,
    ) -> None:
        self.bin = folder / "bin"
        self.log = folder / "log.jsonl"
        # A socket's path may have 107 bytes: less than many a folder of a test.
        self._socket = str(Path(tempfile.gettempdir()) / f"fake-slurm-{secrets.token_hex(6)}")
        site = Site(self._socket, folder / "spool", slots=slots, nodes=nodes)
        self._setup = Setup(site, script or FaultScript(), start_id, self.log)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for folder in (self.bin, self._setup.site.spool):
            folder.mkdir(parents=True, exist_ok=True)
        self._write_commands()
        setup = self._folder / "setup.json"
        setup.write_text(json.dumps(asdict(self._setup), default=str), encoding="utf-8")
        self.log.write_bytes(b"")
        errors = (self._folder / "daemon.txt").open("wb")
        with errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "neurosweep.testing.slurm.daemon", str(setup)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **code_env(None, 1)},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.close()
            text = (self._folder / "daemon.txt").read_text(encoding="utf-8", errors="replace")
            msg = f"the fake cluster did not start: {text[-_LAST_WORDS:]}"
            raise ExecutorError(msg)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the cluster and everything that runs on it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        Path(self._socket).unlink(missing_ok=True)

    def environ(self) -> dict[str, str]:
        """Return this process's environment with the cluster's commands in front."""
        path = f"{self.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        return {**kept, "PATH": path}

    @contextlib.contextmanager
    def on_path(self) -> Iterator[Self]:
        """Let this process, and what it starts, use the cluster for a while."""
        with mock.patch.dict(os.environ, self.environ(), clear=True):
            yield self

    def obey(self, script: FaultScript) -> None:
        """Forget all jobs and start anew under another script."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(self._socket)
            words = ["@obey", "/", str(os.getpid()), "1", json.dumps(asdict(script))]
            line.sendall("\0".join(words).encode())
            line.shutdown(socket.SHUT_WR)
            line.recv(1)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the cluster, in its folder, and return what it printed."""
        return subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            capture_output=True,
            text=True,
            env=self.environ(),
            cwd=self._folder,
            check=False,
        )

    def notes(self, what: str | None = None) -> list[dict[str, Any]]:
        """Return what the cluster noted.

        Parameters
        ----------
        what
            ``call``: a command was called; ``start``: a task was started; ``exit``: its process
            ended; ``end``: SLURM says so. None for all.
        """
        lines = self.log.read_bytes().splitlines()
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [row for row in rows if what is None or row["what"] == what]

    def calls(self) -> Mapping[str, int]:
        """Return how often each command was called."""
        return Counter(str(row["command"]) for row in self.notes("call"))

    def completions(self) -> Mapping[str, int]:
        """Return how often an attempt of each trial ran to its good end."""
        good = [row["folder"] for row in self.notes("exit") if row["exit"] == "0:0"]
        return Counter(Path(folder).parents[1].name for folder in good if folder)

    def _write_commands(self) -> None:
        text = Path(client.__file__).read_text(encoding="utf-8")
        text = f"#!{sys.executable} -ISE\n" + text.replace("@SOCKET@", self._socket)
        for name in COMMANDS:
            _write_program(self.bin / name, text)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
