"""Git state and snapshots of a package, in and out of a repository."""

from __future__ import annotations

import subprocess

import pytest

from neurosweep.core.errors import StudyError, WrongCodeError
from neurosweep.workspace import gitstate
from neurosweep.workspace.gitstate import GitState, read_git_state
from neurosweep.workspace.snapshot import take_snapshot, tree_sha, verify_snapshot

IDENTITY = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]


def git(folder, *arguments):
    run = subprocess.run(
        ["git", *IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


def package_at(root):
    package = root / "experiments" / "toys"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Toys."""\n')
    (package / "models" / "net.py").write_text("WIDTH = 8\n")
    (package / "recipe.toml").write_text("epochs = 3\n")
    (package / "recording.npy").write_bytes(b"\0" * 100)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "net.cpython-311.pyc").write_bytes(b"\0")
    return package


@pytest.fixture
def package(tmp_path):
    """A package that is committed, with nothing left over."""
    package = package_at(tmp_path / "repo")
    repo = tmp_path / "repo"
    (repo / ".gitignore").write_text("__pycache__/\nscratch/\n")
    git(repo, "init", "-q", "-b", "main")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "first")
    return package


def names(snapshot):
    root = snapshot.code_root
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


FILES = ["toys/__init__.py", "toys/models/net.py", "toys/recipe.toml"]


def test_a_clean_commit(package):
    state = read_git_state(package)
    head = git(package, "rev-parse", "HEAD")
    assert state == GitState(commit=head, branch="main")


def test_changes_untracked_files_and_a_detached_head(package):
    (package / "models" / "net.py").write_text("WIDTH = 16\n")
    (package / "models" / "new ä.py").write_text("X = 1\n")
    git(package, "checkout", "-q", "--detach")
    state = read_git_state(package)
    assert (state.dirty, state.branch) == (True, "")
    assert "+WIDTH = 16" in state.diff
    assert "untracked experiments/toys/models/new ä.py sha256" in state.diff
    first = state.diff_sha
    (package / "models" / "new ä.py").write_text("X = 2\n")
    assert read_git_state(package).diff_sha != first


def test_a_large_diff_is_cut_and_its_hash_is_of_the_whole(package, monkeypatch):
    (package / "models" / "net.py").write_text("".join(f"X{k} = {k}\n" for k in range(500)))
    whole = read_git_state(package)
    monkeypatch.setattr(gitstate, "MAX_DIFF_CHARACTERS", 200)
    cut = read_git_state(package)
    assert cut.diff_sha == whole.diff_sha
    assert cut.diff.startswith(whole.diff[:200])
    assert "cut here" in cut.diff


def test_outside_a_repository_there_is_no_commit_and_a_note(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    state = read_git_state(package_at(tmp_path))
    assert (state.commit, state.dirty, state.diff) == ("", False, "")
    assert state.note == "toys is not in a git repository"


def test_an_installed_copy_inside_a_repository_has_no_commit(package):
    installed = package_at(package.parents[1] / "scratch" / "site-packages")
    assert "not tracked" in read_git_state(installed).note


def test_a_repository_without_a_commit(tmp_path):
    package = package_at(tmp_path)
    git(tmp_path, "init", "-q")
    assert "no commit yet" in read_git_state(package).note


def test_a_snapshot_of_a_clean_commit_holds_what_was_committed(package, tmp_path):
    snapshot = take_snapshot(package, tmp_path / "code", read_git_state(package))
    assert (snapshot.how, names(snapshot)) == ("git archive", FILES)
    assert snapshot.code_root == tmp_path / "code" / "experiments"


def test_a_snapshot_of_uncommitted_work_holds_it_and_its_diff(package, tmp_path):
    (package / "models" / "net.py").write_text("WIDTH = 16\n")
    (package / "models" / "new.py").write_text("X = 1\n")
    snapshot = take_snapshot(package, tmp_path / "code", read_git_state(package))
    assert snapshot.how == "copy"
    assert names(snapshot) == sorted([*FILES, "toys/models/new.py"])
    assert (snapshot.code_root / "toys/models/net.py").read_text() == "WIDTH = 16\n"
    assert "+WIDTH = 16" in (tmp_path / "code" / "uncommitted.diff").read_text()


def test_a_snapshot_outside_git_gives_the_same_code(package, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    other = package_at(tmp_path / "plain")
    copied = take_snapshot(other, tmp_path / "a", read_git_state(other))
    archived = take_snapshot(package, tmp_path / "b", read_git_state(package))
    assert names(copied) == FILES
    assert copied.code_sha == archived.code_sha


def test_a_snapshot_cannot_be_changed_unnoticed(package, tmp_path):
    snapshot = take_snapshot(package, tmp_path / "code", read_git_state(package))
    file = snapshot.code_root / "toys" / "models" / "net.py"
    assert file.stat().st_mode & 0o222 == 0
    verify_snapshot(snapshot.code_root, snapshot.code_sha)
    (snapshot.code_root / "toys" / "__pycache__").mkdir()
    (snapshot.code_root / "toys" / "__pycache__" / "x.pyc").write_bytes(b"1")
    verify_snapshot(snapshot.code_root, snapshot.code_sha)
    file.chmod(0o644)
    file.write_text("WIDTH = 9\n")
    with pytest.raises(WrongCodeError, match="has changed since the study began"):
        verify_snapshot(snapshot.code_root, snapshot.code_sha)


def test_a_snapshot_is_taken_once(package, tmp_path):
    state = read_git_state(package)
    take_snapshot(package, tmp_path / "code", state)
    with pytest.raises(StudyError, match="taken once"):
        take_snapshot(package, tmp_path / "code", state)


def test_a_package_without_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(StudyError, match="no code to copy"):
        take_snapshot(empty, tmp_path / "code", GitState())


def test_links_out_of_the_package_are_not_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    package = package_at(tmp_path)
    (tmp_path / "key.txt").write_text("secret")
    (package / "key.txt").symlink_to(tmp_path / "key.txt")
    snapshot = take_snapshot(package, tmp_path / "code", GitState())
    assert names(snapshot) == FILES
    assert tree_sha(snapshot.code_root) == snapshot.code_sha


def test_hooks_and_monitors_of_the_repository_do_not_run(package, tmp_path):
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(package, "config", "core.fsmonitor", str(trap))
    git(package, "config", "diff.external", str(trap))
    (package / "models" / "net.py").write_text("WIDTH = 16\n")
    take_snapshot(package, tmp_path / "code", read_git_state(package))
    assert not (tmp_path / "sprung").exists()
