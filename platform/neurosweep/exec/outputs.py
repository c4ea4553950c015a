"""What a job leaves behind: curves, predictions, and what it printed."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from neurosweep.core.clock import Clock, utc_iso
from neurosweep.core.errors import PredictionsError
from neurosweep.core.files import atomic_write_bytes, canonical_json, sha256_bytes
from neurosweep.exec.job_api import Diverged
from neurosweep.exec.resume import complete_lines

_MEGABYTE = 1024 * 1024
_STANDARD = (1, 2)


class MetricsLog:
    """Append lines of curves.

    Parameters
    ----------
    path
        File.
    clock
        Source of times.
    beat
        Called with each line: a line of curves is a sign of life.

    Attributes
    ----------
    num_lines
        Lines so far, those of earlier starts counted.
    """

    def __init__(self, path: Path, clock: Clock, beat: Callable[..., None]) -> None:
        self._path = path
        self._clock = clock
        self._beat = beat
        self._descriptor: int | None = None
        self._there = 0
        self.num_lines = 0

    def take_up(self, num_lines: int) -> None:
        """Go on behind an earlier start of the job, which had so many lines when it was saved.

        Lines that it wrote after that are there already when the job comes to them again: they
        are the same, and not written twice. A last line that was cut is removed.
        """
        lines = complete_lines(self._path)
        if lines and not lines[-1].endswith(b"\n"):
            os.truncate(self._path, sum(map(len, lines[:-1])))
            lines.pop()
        self._there, self.num_lines = len(lines), num_lines

    def log(self, step: int, epoch: int | None = None, **metrics: float) -> None:
        """Append one line; numbers that are not finite become null.

        Parameters
        ----------
        step, epoch
            Counters.
        **metrics
            Name to number, or to a one-element array.

        Raises
        ------
        Diverged
            When a metric whose name holds ``loss`` is not finite; the line is written first.
        """
        values = {name: float(value) for name, value in metrics.items()}
        shown = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = {"step": int(step), "epoch": None if epoch is None else int(epoch), **shown}
        self.num_lines += 1
        if self.num_lines > self._there:
            self._append(canonical_json(line | {"t": utc_iso(self._clock.now())}))
        losses = {name: value for name, value in values.items() if "loss" in name.lower()}
        last = losses.get("loss", next(iter(losses.values()), None))
        self._beat("train", step=step, epoch=epoch, loss=last)
        for name, value in losses.items():
            if not math.isfinite(value):
                msg = f"{name} is {value} at step {step}, epoch {epoch}"
                raise Diverged(msg)

    def _append(self, line: str) -> None:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self._path, flags, 0o644)
        os.write(self._descriptor, line.encode("utf-8") + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_predictions(
    path: Path, predictions: Iterable[Mapping[str, Any]], max_mb: float
) -> tuple[int, str]:
    """Write predictions, whole or not at all; return their number and SHA-256.

    Parameters
    ----------
    path
        File.
    predictions
        Each with ``item`` and ``hypothesis`` as text; more fields are allowed.
    max_mb
        Largest file, MB.

    Raises
    ------
    PredictionsError
        When one is not such a mapping, is not strict JSON or UTF-8, or the limit is passed.
    OSError
        When the disk is full; nothing is left then.
    """
    lines: list[bytes] = []
    size = 0
    for number, prediction in enumerate(predictions, start=1):
        line = _prediction_line(number, prediction)
        size += len(line) + 1
        if size > max_mb * _MEGABYTE:
            msg = f"prediction {number}: the predictions pass the limit of {max_mb:g} MB"
            raise PredictionsError(msg)
        lines.append(line + b"\n")
    content = b"".join(lines)
    atomic_write_bytes(path, content)
    return len(lines), sha256_bytes(content)


def _prediction_line(number: int, prediction: Mapping[str, Any]) -> bytes:
    if not isinstance(prediction, Mapping):
        msg = f"prediction {number}: is a {type(prediction).__name__}, expected a mapping"
        raise PredictionsError(msg)
    wrong = [key for key in ("item", "hypothesis") if not isinstance(prediction.get(key), str)]
    if wrong:
        msg = f"prediction {number}: {' and '.join(wrong)} must be text, got keys "
        raise PredictionsError(msg + repr(sorted(map(str, prediction)))[:300])
    try:
        return canonical_json(dict(prediction)).encode("utf-8")
    except (ValueError, TypeError) as error:
        msg = f"prediction {number} ({prediction['item']!r}): cannot be written as JSON ({error})"
        raise PredictionsError(msg) from error


class OutputLog:
    """Send everything this process prints, past Python too, to a file of bounded size.

    Parameters
    ----------
    path
        File, opened for appending.
    max_mb
        Size at which the rest is dropped, MB.
    """

    def __init__(self, path: Path, max_mb: float) -> None:
        self._path = path
        self._max_bytes = int(max_mb * _MEGABYTE)
        self._file = -1
        self._saved: list[int] = []
        self._streams: tuple[TextIO, TextIO] | None = None
        self._full = False

    def __enter__(self) -> OutputLog:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o644)
        self._flush()
        self._saved = [os.dup(number) for number in _STANDARD]
        self._streams = (sys.stdout, sys.stderr)
        self._point_to(self._file)
        sys.stdout, sys.stderr = (_line_buffered(number) for number in _STANDARD)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._flush()
        self.check()
        for saved, number in zip(self._saved, _STANDARD, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        os.close(self._file)
        if self._streams is not None:
            sys.stdout, sys.stderr = self._streams

    def check(self) -> None:
        """Cut the file at its limit and drop what follows; called now and then."""
        if self._full or os.fstat(self._file).st_size <= self._max_bytes:
            return
        self._full = True
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._max_bytes)
            os.write(self._file, b"\n[log cut here: it passed its limit]\n")
        null = os.open(os.devnull, os.O_WRONLY)
        self._point_to(null)
        os.close(null)

    @staticmethod
    def _point_to(descriptor: int) -> None:
        for number in _STANDARD:
            os.dup2(descriptor, number)

    @staticmethod
    def _flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()


def _line_buffered(descriptor: int) -> TextIO:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


@contextlib.contextmanager
def job_logging() -> Iterator[None]:
    """Send log records of INFO and above to this process's (redirected) standard error."""
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
