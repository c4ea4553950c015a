"""Calls into another package: what fails there for the machine's sake is said in one line."""

from pathlib import Path

import pytest

from neurosweep.core.entry import call_entry
from neurosweep.core.errors import MissingPackageError, NeurosweepError

PACKAGE = """
import errno

def full(payload):
    raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

def missing(payload):
    import no_such_package.part
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "far_away.py").write_text(PACKAGE, encoding="utf-8")
    return tmp_path


def test_a_package_that_does_not_exist(package: Path) -> None:
    with pytest.raises(NeurosweepError, match=r"no module 'far_of' in this environment$"):
        call_entry("far_of.entry:describe", {}, code_root=package)


@pytest.mark.parametrize(
    ("function", "kind", "text"),
    [
        ("full", NeurosweepError, r"the disk is full \(/data/x\); make room and try again$"),
        ("missing", MissingPackageError, "pip install no_such_package$"),
    ],
)
def test_what_the_machine_lacks(
    package: Path, function: str, kind: type[NeurosweepError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        call_entry(f"far_away:{function}", {}, code_root=package)
