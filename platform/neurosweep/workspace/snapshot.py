"""An immutable copy of the decoders' code, so that a queued job never sees a later edit."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neurosweep.core.errors import StudyError, WrongCodeError
from neurosweep.core.files import sha256_file
from neurosweep.core.fingerprint import fingerprint
from neurosweep.workspace.gitstate import GitState, open_repository, package_files

_SUFFIXES = frozenset({".py", ".pyi", ".toml", ".json", ".csv", ".txt", ".md", ".typed", ".sh"})
_WEIGHTS = ".safetensors"
_MAX_FILE_BYTES = 2_000_000
_MAX_WEIGHTS_BYTES = 10_000_000
_READ_ONLY = 0o444


@dataclass(frozen=True)
class Snapshot:
    """Point at a copy of a package.

    Attributes
    ----------
    code_root
        Source root to put on a job's path: the folder that holds the package.
    code_sha
        Fingerprint of every file's path and content.
    how
        ``git archive`` of a commit, or ``copy`` of the files as they were.
    """

    code_root: Path
    code_sha: str
    how: str


def take_snapshot(package_dir: Path, target: Path, state: GitState) -> Snapshot:
    """Copy a package's code below a folder and make the files read-only.

    A clean commit is copied out of git; anything else is copied as it lies there, and the
    diff is kept beside it as ``uncommitted.diff``. Text files, and small weights that are part
    of the package; recordings and all else are data, which jobs get from stores.

    Parameters
    ----------
    package_dir
        Folder of the package, for example ``experiments/neurodecode``.
    target
        Folder of the snapshot; it must not exist.
    state
        What `read_git_state` said of the package.

    Raises
    ------
    StudyError
        When the target exists or the package has no code to copy.
    """
    if target.exists():
        msg = f"{target}: exists; a snapshot is taken once and never changed"
        raise StudyError(msg)
    root = target / "experiments"
    clean = bool(state.commit) and not state.dirty
    files = _archived(package_dir, state.commit) if clean else _lying(package_dir)
    written = 0
    for name, data in files:
        _write_read_only(root / package_dir.name / name, data)
        written += 1
    if not written:
        msg = f"{package_dir}: holds no code to copy"
        raise StudyError(msg)
    if state.diff:
        _write_read_only(target / "uncommitted.diff", state.diff.encode("utf-8", "replace"))
    return Snapshot(root, tree_sha(root), "git archive" if clean else "copy")


def verify_snapshot(code_root: Path, code_sha: str) -> None:
    """Refuse a snapshot whose files are not those that were copied.

    Raises
    ------
    WrongCodeError
        When files were changed, added or removed.
    """
    found = tree_sha(code_root)
    if found != code_sha:
        msg = (
            f"{code_root}: the code has changed since the study began "
            f"(fingerprint {found}, recorded {code_sha}); restore it from the commit or start anew"
        )
        raise WrongCodeError(msg)


def tree_sha(root: Path) -> str:
    """Return the fingerprint of all files below a folder, byte code left out."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and _is_source(path))
    return fingerprint({str(path.relative_to(root)): sha256_file(path) for path in files})


def _is_source(path: Path | PurePosixPath) -> bool:
    return "__pycache__" not in path.parts and path.suffix in {*_SUFFIXES, _WEIGHTS}


def _fits(path: Path | PurePosixPath, size: int) -> bool:
    return size <= (_MAX_WEIGHTS_BYTES if path.suffix == _WEIGHTS else _MAX_FILE_BYTES)


def _write_read_only(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _READ_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _archived(package_dir: Path, commit: str) -> Iterator[tuple[Path, bytes]]:
    repo, reason = open_repository(package_dir)
    if repo is None:
        msg = f"{package_dir.name}: commit {commit} cannot be read ({reason})"
        raise StudyError(msg)
    with repo:
        assert repo.working_tree_dir is not None
        inside = package_dir.resolve().relative_to(Path(repo.working_tree_dir).resolve())
        buffer = io.BytesIO()
        repo.archive(buffer, commit, path=inside.as_posix(), format="tar")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if not member.isfile() or not _is_source(name) or not _fits(name, member.size):
                continue
            file = archive.extractfile(member)
            assert file is not None
            yield Path(name.relative_to(inside.as_posix())), file.read()


def _lying(package_dir: Path) -> Iterator[tuple[Path, bytes]]:
    repo, _ = open_repository(package_dir)
    if repo is None:
        paths = sorted(p for p in package_dir.rglob("*") if p.is_file() and not p.is_symlink())
    else:
        with repo:
            paths = package_files(repo, package_dir.resolve())
        package_dir = package_dir.resolve()
    for path in paths:
        if _is_source(path.relative_to(package_dir)) and _fits(path, path.stat().st_size):
            yield path.relative_to(package_dir), path.read_bytes()
