"""The driver's end of the fork server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosweep.core.errors import ExecutorError
from neurosweep.core.files import loads_strict
from neurosweep.core.provenance import code_env

_READ_BYTES = 1 << 16
_EXIT_WAIT_S = 5.0
_TAIL_BYTES = 2000


class WarmServer:
    """Start a fork server, command it, and hear from it.

    Parameters
    ----------
    folder
        Where it notes the processes of its jobs, and its log.
    slots
        Children at a time.
    warm
        Modules it imports first.
    code_root
        Source root of the decoders; None for the installed ones.
    """

    def __init__(
        self, folder: Path, slots: int, warm: Sequence[str], code_root: Path | None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "server.log"
        options = {"slots": slots, "warm": list(warm), "registry": str(folder)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "neurosweep.exec.warm_server", json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **code_env(code_root, 1)},
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands = self._process.stdin.fileno()
        self._events = self._process.stdout.fileno()
        os.set_blocking(self._events, False)
        self._incoming = b""
        self.over = False

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def send(self, op: str, **data: Any) -> None:
        """Send a command; one that cannot be delivered is found out by `events`."""
        content = json.dumps({"op": op, **data}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while content:
                content = content[os.write(self._commands, content) :]

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield what the server has said since; sets `over` when it is gone."""
        while not self.over:
            try:
                data = os.read(self._events, _READ_BYTES)
            except BlockingIOError:
                return
            self.over = not data
            *lines, self._incoming = (self._incoming + data).split(b"\n")
            for line in lines:
                yield loads_strict(line)

    def log_tail(self) -> str:
        """Return the end of what the server printed."""
        try:
            return self._log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def close(self) -> None:
        """End the server; its children go on.

        Raises
        ------
        ExecutorError
            When it does not end, even by force.
        """
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.over = True
        try:
            self._process.wait(_EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(_EXIT_WAIT_S)
            except subprocess.TimeoutExpired as error:
                msg = f"the fork server (pid {self.pid}) does not end; look at {self._log}"
                raise ExecutorError(msg) from error
