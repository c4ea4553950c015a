"""Rules of the code base that no reviewer should have to remember."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PACKAGES = {
    "neurosweep": REPO / "platform/neurosweep",
    "neurodecode": REPO / "experiments/neurodecode",
    "neuroagents": REPO / "agents/neuroagents",
}
LAYERS = ["core", "records", "evaluation workspace exec", "research", "report", "cli"]
HEAVY = ("torch", "mne", "mlflow", "optuna", "matplotlib", "scipy", "git", "rich", "submitit")
FORBIDDEN = ("torchaudio", "torchvision", "timm", "open_clip", "neuraltrain", "exca", "hydra")
_OTHER_OPENS = ("os", "gzip", "zipfile", "tarfile", "archive", "opener")
MAX_LINES = 500
MAX_FUNCTION_LINES = 60


def sources() -> Iterator[Path]:
    for root in PACKAGES.values():
        yield from sorted(root.rglob("*.py"))


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sources()]


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""


def test_the_rules_below_look_at_something() -> None:
    assert len(list(sources())) > 60


def test_text_files_are_opened_with_an_encoding() -> None:
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            keywords = {keyword.arg for keyword in node.keywords}
            positional = {"read_text": 1, "write_text": 2}.get(name)
            if positional is not None:
                bad = "encoding" not in keywords and len(node.args) < positional
            else:
                bad = name == "open" and "encoding" not in keywords and not _is_binary(node)
            if bad:
                found.append(f"{path.relative_to(REPO)}:{node.lineno}")
    assert found == []


def _is_binary(node: ast.Call) -> bool:
    """Return whether a call of open names a binary mode, or is no open of a text file."""
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if isinstance(owner, ast.Name) and owner.id in _OTHER_OPENS:
        return True
    words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    words += [k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)]
    return any(isinstance(word, str) and "b" in word for word in words)


def test_forbidden_packages_are_not_imported() -> None:
    found = {
        f"{path.relative_to(REPO)} imports {name}"
        for path, tree in trees()
        for name in imported(tree)
        if name.split(".")[0] in FORBIDDEN
    }
    assert found == set()


def test_only_the_command_line_prints() -> None:
    found = [
        f"{path.relative_to(REPO)}:{node.lineno}"
        for path, tree in trees()
        if "neurosweep/cli" not in path.as_posix()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "input", "breakpoint")
    ]
    assert found == []


def test_modules_and_functions_stay_readable() -> None:
    found = []
    for path, tree in trees():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MAX_LINES:
            found.append(f"{path.relative_to(REPO)}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = _code_lines(node)
                if length > MAX_FUNCTION_LINES:
                    found.append(f"{path.relative_to(REPO)}:{node.lineno}: {length} lines")
    assert found == []


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    assert node.end_lineno is not None
    length = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        assert first.end_lineno is not None
        length -= first.end_lineno - first.lineno + 1
    return length


def test_layers_of_the_harness_only_look_down() -> None:
    rank = {name: i for i, names in enumerate(LAYERS) for name in names.split()}
    found = []
    for path, tree in trees():
        if not path.is_relative_to(PACKAGES["neurosweep"]):
            continue
        layer = path.relative_to(PACKAGES["neurosweep"]).parts[0]
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] in ("neurodecode", "neuroagents"):
                found.append(f"{path.relative_to(REPO)} imports {name}")
            if parts[0] == "neurosweep" and len(parts) > 1 and layer in rank:
                other = parts[1]
                upward = other in rank and other != layer and rank[other] >= rank[layer]
                if upward or other == "testing":
                    found.append(f"{path.relative_to(REPO)} imports {name}")
    assert found == []


def test_agents_and_decoders_do_not_know_each_other() -> None:
    found = [
        f"{path.relative_to(REPO)} imports {name}"
        for package, other in (("neurodecode", "neuroagents"), ("neuroagents", "neurodecode"))
        for path, tree in trees()
        if path.is_relative_to(PACKAGES[package])
        for name in imported(tree)
        if name.split(".")[0] == other
    ]
    assert found == []


@pytest.mark.parametrize(
    "module",
    [
        "neurosweep",
        "neurosweep.cli.app",
        "neurosweep.cli.verbs.demo",
        "neurosweep.cli.verbs.study",
        "neurosweep.cli.status",
        "neurosweep.exec.runner",
        "neurosweep.research.loop",
        "neuroagents",
        "neurodecode",
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; heavy = {HEAVY!r}; print([m for m in heavy if m in sys.modules])"
    assert _python(code) == "[]"


def test_every_module_of_the_harness_starts_without_torch_and_mne() -> None:
    names = [
        ".".join(path.relative_to(REPO / "platform").with_suffix("").parts)
        for path in PACKAGES["neurosweep"].rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print([m for m in ('torch', 'mne', 'transformers', 'peft') if m in sys.modules])"
    )
    assert _python(code) == "[]"


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(str(root.parent) for root in PACKAGES.values())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_unfinished_work_and_paths_of_one_machine_stay_out() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError|/work/|/root/")
    found = [
        f"{path.relative_to(REPO)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if marks.search(line)
    ]
    assert found == []
