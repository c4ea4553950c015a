"""What git says about the code a study runs: commit, branch, and what was not committed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.core.files import sha256_bytes, sha256_file

if TYPE_CHECKING:
    import git

MAX_DIFF_CHARACTERS = 1_000_000
# The repository is read, never obeyed: no hooks, monitors or external diff programs run.
_SAFE = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=off"]


@dataclass(frozen=True)
class GitState:
    """Hold the version of a package's code.

    Attributes
    ----------
    commit
        Full hash of HEAD; empty when the code is not under version control.
    branch
        Current branch; empty when HEAD is detached or there is no repository.
    dirty
        Whether tracked or untracked files of the repository differ from the commit.
    diff
        Uncommitted changes as text, cut at `MAX_DIFF_CHARACTERS`; untracked files of the
        package are listed with their hashes.
    diff_sha
        SHA-256 of the whole diff, before it is cut; empty when the tree is clean.
    note
        Why there is no commit, in words; empty when there is one.
    """

    commit: str = ""
    branch: str = ""
    dirty: bool = False
    diff: str = ""
    diff_sha: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the diff itself as JSON data."""
        return {
            "commit": self.commit,
            "branch": self.branch,
            "dirty": self.dirty,
            "diff_sha": self.diff_sha,
            "note": self.note,
        }


def read_git_state(package_dir: Path) -> GitState:
    """Return the git state of the repository that tracks a package.

    Parameters
    ----------
    package_dir
        Folder of the package, for example ``experiments/neurodecode``.

    Notes
    -----
    A package that lies inside a repository without being tracked by it (an installed copy in
    a virtual environment) has no commit: HEAD would say nothing about its code.
    """
    repo, note = open_repository(package_dir)
    if repo is None:
        return GitState(note=note)
    with repo:
        commit = repo.head.commit.hexsha
        branch = "" if repo.head.is_detached else repo.active_branch.name
        diff = _whole_diff(repo, package_dir)
    if not diff:
        return GitState(commit=commit, branch=branch)
    diff_sha = sha256_bytes(diff.encode("utf-8", "replace"))
    return GitState(commit, branch, dirty=True, diff=_cut(diff), diff_sha=diff_sha)


def open_repository(package_dir: Path) -> tuple[git.Repo | None, str]:
    """Return the repository that tracks a package, or None and the reason in words."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import git

    name = package_dir.name
    try:
        repo = git.Repo(package_dir, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return None, f"{name} is not in a git repository"
    except git.GitCommandNotFound:
        return None, "git is not installed"
    reason = _unusable(repo, package_dir)
    if reason:
        repo.close()
        return None, reason
    return repo, ""


def _unusable(repo: git.Repo, package_dir: Path) -> str:
    import git

    name = package_dir.name
    if repo.bare or repo.working_tree_dir is None:
        return f"the repository of {name} has no working tree"
    try:
        if not repo.head.is_valid():
            return f"the repository of {name} has no commit yet"
        tracked = _git(repo, "ls-files", "--", str(package_dir / "__init__.py"))
    except git.GitCommandNotFound:
        return "git is not installed"
    except git.GitCommandError as error:
        return f"git refuses to read the repository of {name}: {str(error.stderr).strip()}"
    return "" if tracked else f"{name} is not tracked by the repository it lies in"


def package_files(repo: git.Repo, package_dir: Path) -> list[Path]:
    """Return the tracked and the untracked, not ignored files of a package, absolute."""
    listed = _git(
        repo, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", str(package_dir)
    )
    assert repo.working_tree_dir is not None
    root = Path(repo.working_tree_dir)
    paths = {root / name for name in listed.split("\0") if name}
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def _git(repo: git.Repo, *arguments: str) -> str:
    output: str = repo.git.execute(["git", *_SAFE, *arguments], strip_newline_in_stdout=False)
    return output


def _whole_diff(repo: git.Repo, package_dir: Path) -> str:
    changes = _git(repo, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD")
    others = _git(repo, "ls-files", "-z", "--others", "--exclude-standard", "--", str(package_dir))
    assert repo.working_tree_dir is not None
    root = Path(repo.working_tree_dir)
    lines = [
        f"untracked {name} sha256 {sha256_file(root / name)}"
        for name in sorted(others.split("\0"))
        if name and (root / name).is_file()
    ]
    return changes + "".join(line + "\n" for line in lines)


def _cut(diff: str) -> str:
    if len(diff) <= MAX_DIFF_CHARACTERS:
        return diff
    rest = len(diff) - MAX_DIFF_CHARACTERS
    return diff[:MAX_DIFF_CHARACTERS] + f"\n[cut here: {rest} more characters; see diff_sha]\n"
