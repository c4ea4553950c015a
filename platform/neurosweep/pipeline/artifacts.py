"""Artifacts: what tasks made, each under the fingerprint of all that it follows from."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json, read_json, sha256_file
from neurosweep.core.layout import AttemptDir, Home
from neurosweep.exec.made import made_files, plain_files

logger = logging.getLogger(__name__)

DESCRIPTION = "artifact.json"
PREDICTIONS = "predictions.jsonl"
_READ_ONLY = 0o444


@dataclass(frozen=True)
class Artifact:
    """Hold what is known of an artifact.

    Attributes
    ----------
    fp
        Its fingerprint.
    folder
        Where it lies.
    origin
        Pipeline, task and attempt that made it.
    files
        Name to size in bytes and SHA-256.
    """

    fp: str
    folder: Path
    origin: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def predictions(self) -> Path | None:
        """What the task predicted, if it did."""
        return self.folder / PREDICTIONS if PREDICTIONS in self.files else None


class Shelf:
    """Keep the artifacts of a home.

    Parameters
    ----------
    home
        Shared by all pipelines.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    def find(self, fp: str) -> Artifact | None:
        """Return the artifact of a fingerprint, or None when nobody has made it.

        Raises
        ------
        DataError
            When files of it are missing or have another size.
        """
        folder = self._home.artifact(fp)
        if not folder.is_dir():
            return None
        try:
            data = read_json(folder / DESCRIPTION)
            files = {str(n): (int(f["size"]), str(f["sha256"])) for n, f in data["files"].items()}
            artifact = Artifact(fp, folder, dict(data["origin"]), files)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(folder, f"{DESCRIPTION} cannot be read ({error})") from error
        for name, (size, _) in files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise _damaged(folder, f"{name} is missing or has another size")
        return artifact

    def place(
        self,
        fp: str,
        files: AttemptDir,
        listed: Mapping[str, str],
        origin: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> Artifact:
        """Move what an attempt made onto the shelf, whole or not at all.

        Doing so again, or after another pipeline has put the same there, changes nothing.

        Parameters
        ----------
        fp
            Fingerprint of the task.
        files
            The attempt.
        listed
            File name to SHA-256 as the job's status lists them.
        origin
            Pipeline, task and attempt.
        facts
            What the fingerprint was made of, for people.

        Raises
        ------
        DataError
            When files are missing, were changed after the job had ended, or are no plain files.
        """
        found = self.find(fp)
        if found is None:
            self._check(files, listed)
            self._describe(fp, files, listed, origin, facts)
            self._move(fp, files)
            found = self.find(fp)
        elif dict(found.origin) != dict(origin):
            logger.info("%s was made by %s too; that one is kept", fp, found.origin)
            shutil.rmtree(files.out, ignore_errors=True)
        assert found is not None
        return found

    def _check(self, files: AttemptDir, listed: Mapping[str, str]) -> None:
        made = {name: sha for name, sha in made_files(files).items() if not _is_ours(name)}
        expected = {name: sha for name, sha in listed.items() if name.startswith("out/")}
        if made != expected:
            other = sorted(
                name for name in {**made, **expected} if made.get(name) != expected.get(name)
            )
            msg = f"{files.root}: {other[0]} is not the file that the job's status lists"
            raise DataError(f"{msg}; it was changed, added or removed after the job had ended")
        if PREDICTIONS in listed and sha256_file(files.predictions) != listed[PREDICTIONS]:
            raise DataError(f"{files.predictions}: was changed after the job had ended")

    def _describe(
        self,
        fp: str,
        files: AttemptDir,
        listed: Mapping[str, str],
        origin: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> None:
        files.out.mkdir(exist_ok=True)
        names = {path.relative_to(files.out).as_posix(): path for path in plain_files(files.out)}
        if PREDICTIONS in listed and files.predictions.stat().st_size:
            shutil.copyfile(files.predictions, files.out / PREDICTIONS)
            names[PREDICTIONS] = files.out / PREDICTIONS
        names.pop(DESCRIPTION, None)
        shas = {name: listed.get(f"out/{name}") or listed[name] for name in names}
        sizes = {name: path.stat().st_size for name, path in names.items()}
        for path in names.values():
            path.chmod(_READ_ONLY)
        described = {name: {"size": sizes[name], "sha256": shas[name]} for name in sorted(names)}
        body = {"v": 1, "fp": fp, "origin": dict(origin), "from": dict(facts), "files": described}
        atomic_write_json(files.out / DESCRIPTION, body)

    def _move(self, fp: str, files: AttemptDir) -> None:
        target = self._home.artifact(fp)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.out.rename(target)
        except OSError as error:
            # Another driver was faster; a folder that is not empty is never replaced.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _is_ours(name: str) -> bool:
    """Return whether a name among the outputs belongs to the driver, which died while moving."""
    return name in (f"out/{DESCRIPTION}", f"out/{PREDICTIONS}")


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"{folder}: {what}; remove the folder, and it is made again")
