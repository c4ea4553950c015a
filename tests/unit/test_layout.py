"""The source roots hold one package each and shadow nothing."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
ROOTS = {"neurosweep": "platform", "neurodecode": "experiments", "neuroagents": "agents"}


@pytest.mark.parametrize(("package", "root"), ROOTS.items())
def test_a_source_root_holds_one_package_and_no_loose_module(package: str, root: str) -> None:
    assert not list((REPO / root).glob("*.py"))
    assert [p.parent.name for p in (REPO / root).glob("*/__init__.py")] == [package]
    assert (REPO / root / package / "py.typed").is_file()


def test_the_standard_library_is_not_shadowed_in_the_repository_root() -> None:
    code = "import platform, uuid; platform.system(); print(platform.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).is_relative_to(REPO)


@pytest.mark.parametrize("root", ROOTS.values())
def test_every_folder_of_modules_is_a_package(root: str) -> None:
    folders = {path.parent for path in (REPO / root).glob("*/**/*.py")}
    assert folders
    assert [f for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


@pytest.mark.parametrize("root", ROOTS.values())
def test_package_files_stay_empty_but_for_their_docstring(root: str) -> None:
    """Work at package import is paid by every process, so there is none."""
    allowed = {"platform/neurosweep/cli/__init__.py"}
    for path in (REPO / root).glob("**/__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        plugin = (path.parent.parent / "__init__.py").is_file() and any(
            isinstance(node, ast.FunctionDef) for node in tree.body
        )
        if plugin or str(path.relative_to(REPO)) in allowed:
            continue
        assert all(isinstance(node, ast.Expr | ast.Assign) for node in tree.body), path


def test_the_wheel_and_the_editable_install_name_all_roots() -> None:
    data = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    hatch = data["tool"]["hatch"]["build"]
    assert sorted(hatch["dev-mode-dirs"]) == sorted(ROOTS.values())
    packages = sorted(f"{root}/{package}" for package, root in ROOTS.items())
    assert sorted(hatch["targets"]["wheel"]["packages"]) == packages
    assert data["project"]["scripts"] == {"neurosweep": "neurosweep.cli:main"}


def test_nothing_that_a_package_needs_is_ignored_by_git() -> None:
    """Git's ignore patterns also keep files out of wheels."""
    ignored = (REPO / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert not {"*.toml", "data/", "*.csv", "*.gz", "*.npz"} & set(ignored)
