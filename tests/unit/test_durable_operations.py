"""Every place where a driver changes the disk is known, with what makes a death there harmless.

A new one fails this test until it is listed: then either the driver reports it, so that the tests
that kill drivers after every reported operation reach it, or the list says why it needs no report.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import neurosweep

ROOT = Path(neurosweep.__file__).parent
FILES = ("research/*.py", "exec/slurm_*.py", "exec/executors/slurm.py", "records/ledger.py")
CHANGES = {
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "create_exclusive",
    "rename",
    "replace",
    "rmtree",
    "take_claim",
    "unlink",
    "write_bytes",
    "write_text",
}
REPORTED = {
    "research/planning.py:write": "run_json",
    "research/planning.py:write_plans": "round_json",
    "research/scoring.py:score": "scores_json",
    "research/commands.py:obey": "request_consumed",
    "research/confirm.py:_provide_inputs": "confirm_store",
    "exec/slurm_submit.py:submit_part": "submit, and killed around sbatch itself",
    "exec/slurm_parts.py:new_part": "submit, and killed around sbatch itself",
}
UNREPORTED = {
    "research/endings.py:revoke": "one exclusive create; whoever comes later finds it made",
    "research/endings.py:take_away": "one atomic replacement, which may be made again",
    "research/checkpoints.py:tidy": "removes what is not needed; what is left is removed later",
    "research/checkpoints.py:_tidy_one": "as tidy",
    "research/confirm.py:run": "removes what is not needed",
    "research/control.py:pending_requests": "a file that is no request is set aside, or is later",
    "research/control.py:send_request": "another process: one atomic write",
    "research/notify.py:_tell": "one atomic write; a message is told at most once",
    "research/sharing.py:share": "one atomic write under a lock; entries lapse",
    "research/sharing.py:leave": "one atomic write under a lock; entries lapse",
    "research/create.py:_write": "before the study exists",
    "research/create.py:create_study": "the study appears by one rename",
    "research/arena.py:_write": "before the arena exists; written last",
    "research/arena.py:create_arena": "before the arena exists",
    "research/rerun.py:_rerun": "a folder of its own, outside the study's records",
    "exec/slurm_probe.py:answer": "a check of doctor's, outside studies",
    "exec/slurm_probe.py:clock_offset_s": "a check of doctor's, outside studies",
}


def places() -> Iterator[str]:
    """Yield ``file:function`` of every call that changes the disk for good."""
    for pattern in FILES:
        for path in sorted(ROOT.glob(pattern)):
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(function, ast.FunctionDef) and any(map(_changes, ast.walk(function))):
                    yield f"{path.relative_to(ROOT)}:{function.name}"


def _changes(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        # str.replace and dataclasses.replace take two arguments or a keyword, Path.replace one.
        text = node.func.attr == "replace" and len(node.args) != 1
        return node.func.attr in CHANGES and not text
    return isinstance(node.func, ast.Name) and node.func.id in CHANGES - {"replace"}


def test_every_place_that_changes_the_disk_is_listed() -> None:
    assert set(places()) == REPORTED.keys() | UNREPORTED.keys()
