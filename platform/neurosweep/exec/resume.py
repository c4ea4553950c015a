"""What an interrupted job goes on from: saved files, complete or not there at all.

A save is complete when ``saved.json`` names it, with the hash of every file. Files of the save
before are removed only after that, so that an end at any moment leaves one complete save.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from neurosweep.core.errors import DataError
from neurosweep.core.files import (
    atomic_write_bytes,
    atomic_write_json,
    read_json,
    sha256_file,
)
from neurosweep.core.layout import AttemptDir

logger = logging.getLogger(__name__)

MANIFEST = "saved.json"
NEVER = -1

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class SavedFile:
    """Name one file of a save, and its SHA-256."""

    file: str
    sha: str


@dataclass(frozen=True)
class SavePoint:
    """Say what had been done when a job was saved.

    Attributes
    ----------
    run_sha
        SHA-256 of the ``run.json`` that it belongs to.
    number
        Saves so far; 0 before the first.
    restart
        In which start of the attempt's job; -1 when not in this attempt.
    seconds
        Time that led here, without what was lost.
    peak_mb
        Largest memory so far, MB.
    epochs
        Epochs so far.
    lines
        Lines of curves so far.
    files
        Name to file.
    """

    run_sha: str
    number: int = 0
    restart: int = NEVER
    seconds: float = 0.0
    peak_mb: float = 0.0
    epochs: int = 0
    lines: int = 0
    files: Mapping[str, SavedFile] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SavePoint:
        """Read what `dataclasses.asdict` gave.

        Raises
        ------
        ValueError, KeyError, TypeError
            When a field is missing or cannot be used.
        """
        files = {str(name): SavedFile(**entry) for name, entry in data["files"].items()}
        if not all(_plain(one.file) for one in files.values()):
            raise ValueError("a file has a name that no save gives")
        numbers = {key: int(data[key]) for key in ("number", "restart", "epochs", "lines")}
        sizes = {key: float(data[key]) for key in ("seconds", "peak_mb")}
        return cls(run_sha=str(data["run_sha"]), files=files, **numbers, **sizes)  # type: ignore[arg-type]


class ResumeFolder:
    """Keep the newest complete save of an attempt.

    Parameters
    ----------
    files
        The attempt.
    run_sha
        SHA-256 of its ``run.json``: a save of another run is not used.

    Attributes
    ----------
    point
        The newest save; number 0 when there is none.
    """

    def __init__(self, files: AttemptDir, run_sha: str) -> None:
        self._files = files
        self.point = SavePoint(run_sha)

    def find(self) -> None:
        """Take up this attempt's newest save, else a copy of an earlier attempt's.

        What is damaged is passed over and said.
        """
        own = self._read(self._files)
        if own is not None:
            self.point = own
            return
        shutil.rmtree(self._files.resume, ignore_errors=True)
        for earlier in _earlier(self._files):
            point = self._read(earlier)
            if point is not None and self._copy(earlier, point):
                self.point = replace(point, restart=NEVER)
                logger.info("goes on from attempt %s, save %d", earlier.root.name, point.number)
                return

    def path(self, name: str) -> Path | None:
        """Return a file of the newest save; None when it holds none of this name."""
        saved = self.point.files.get(name)
        return None if saved is None else self._files.resume / saved.file

    def save(self, name: str, write: Callable[[BinaryIO], object], done: SavePoint) -> None:
        """Write a file and complete a save with it and the other files of the save before.

        Parameters
        ----------
        name
            Letters, digits, ``-`` and ``_``.
        write
            Writes the content into a file opened for writing bytes.
        done
            What has been done; number and files are filled in here.

        Raises
        ------
        ValueError
            When the name cannot be used.
        OSError
            When the disk is full; the save before is untouched then.
        """
        if not _NAME.fullmatch(name):
            msg = f"a save cannot be called {name!r}; use letters, digits, '-' and '_'"
            raise ValueError(msg)
        folder, number = self._files.resume, self.point.number + 1
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.{number}"
        try:
            with path.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            entry = SavedFile(path.name, sha256_file(path))
            point = replace(done, number=number, files={**self.point.files, name: entry})
            atomic_write_json(folder / MANIFEST, {"v": 1, **asdict(point)})
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.point = point
        kept = {MANIFEST, *(one.file for one in point.files.values())}
        for stale in folder.iterdir():
            if stale.name not in kept:
                stale.unlink(missing_ok=True)

    def delete(self) -> None:
        """Remove all saves."""
        shutil.rmtree(self._files.resume, ignore_errors=True)

    def _read(self, files: AttemptDir) -> SavePoint | None:
        """Return the complete save of an attempt; None when there is none that can be used."""
        manifest = files.resume / MANIFEST
        if not os.path.lexists(manifest):
            return None
        try:
            point = SavePoint.from_dict(read_json(manifest, _MAX_BYTES))
            for saved in point.files.values():
                if sha256_file(files.resume / saved.file) != saved.sha:
                    raise ValueError(f"{saved.file} is not what was saved")
            if point.run_sha != self.point.run_sha:
                raise ValueError("it belongs to another run.json")
        except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s: is not used, the job does without it: %s", files.resume, error)
            return None
        return point

    def _copy(self, earlier: AttemptDir, point: SavePoint) -> bool:
        """Copy another attempt's save, with its curves so far; return whether that worked."""
        partial = self._files.root / "resume.tmp"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _copy_lines(earlier.metrics, self._files.metrics, point.lines)
            partial.mkdir()
            for saved in point.files.values():
                shutil.copyfile(earlier.resume / saved.file, partial / saved.file)
                if sha256_file(partial / saved.file) != saved.sha:
                    raise ValueError(f"{saved.file} changed meanwhile")
            manifest = {"v": 1, **asdict(replace(point, restart=NEVER))}
            atomic_write_json(partial / MANIFEST, manifest)
            partial.rename(self._files.resume)
        except (OSError, ValueError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            logger.warning("%s: cannot be copied, the job does without: %s", earlier.resume, error)
            return False
        return True


def made_progress(files: AttemptDir) -> bool:
    """Return whether an attempt saved itself, and more work than any attempt before it."""
    own = _said(files)
    earlier = [point.seconds for one in _earlier(files) if (point := _said(one)) is not None]
    return own is not None and own.restart > NEVER and own.seconds > max(earlier, default=-1.0)


def _said(files: AttemptDir) -> SavePoint | None:
    """Return what an attempt's newest save says, whether or not it can be used."""
    try:
        return SavePoint.from_dict(read_json(files.resume / MANIFEST, _MAX_BYTES))
    except (DataError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _plain(name: str) -> bool:
    stem, _, number = name.partition(".")
    return _NAME.fullmatch(stem) is not None and number.isdigit()


def _earlier(files: AttemptDir) -> list[AttemptDir]:
    """Return the attempts of the same trial before this one, the latest first."""
    own = files.root.name
    numbers = range(int(own) - 1, 0, -1) if own.isdigit() else range(0)
    return [AttemptDir(files.root.parent / str(number)) for number in numbers]


def complete_lines(path: Path) -> list[bytes]:
    """Return the whole lines of a file; none when it is absent."""
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def _copy_lines(source: Path, target: Path, count: int) -> None:
    if len(complete_lines(target)) >= count:
        return
    lines = [line for line in complete_lines(source)[:count] if line.endswith(b"\n")]
    if len(lines) < count:
        raise ValueError(f"{source} has {len(lines)} of the {count} lines that were saved")
    atomic_write_bytes(target, b"".join(lines))
