"""Files that a stage of a pipeline leaves for the next ones, and their hashes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file
from neurosweep.core.layout import AttemptDir


def made_files(files: AttemptDir) -> dict[str, str]:
    """Return the SHA-256 of every file that an attempt made for others, by ``out/NAME``.

    Raises
    ------
    DataError
        When there is anything but plain files and folders among them.
    """
    found = {}
    for path in plain_files(files.out):
        found[path.relative_to(files.root).as_posix()] = sha256_file(path)
    return found


def plain_files(folder: Path) -> list[Path]:
    """Return all files below a folder, none when it is absent, without following links.

    Raises
    ------
    DataError
        When there is anything but plain files and folders.
    """
    if not os.path.lexists(folder):
        return []
    if not stat.S_ISDIR(folder.lstat().st_mode):
        msg = f"{folder}: is no folder; a stage writes what it makes into a folder of this name"
        raise DataError(msg)
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found.append(path)
        elif not stat.S_ISDIR(mode):
            msg = f"{path}: is no plain file; a stage leaves files and folders, no links"
            raise DataError(msg)
    return found
