"""Stages of a pipeline in miniature: text instead of weights, made in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_bytes
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.job_api import JobContext
from neurosweep.testing.jobs import JOBS, Prediction, instant

_FILE = "made.txt"


def make(ctx: JobContext) -> Iterator[Prediction]:
    """Write a line of the stage's own, and under it what it was given."""
    own = ctx.config["pipeline"]
    rank = ctx.config.get("model", {}).get("rank", 0)
    lines = [f"{own['stage']} {own['element']} rank {rank} seed {ctx.seed}".replace("  ", " ")]
    for name, folder in sorted(ctx.inputs.items()):
        text = (folder / _FILE).read_text(encoding="utf-8")
        lines += [f"  {name}: {line}" for line in text.splitlines()]
    out = AttemptDir(ctx.attempt_dir).out
    out.mkdir(exist_ok=True)
    (out / _FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    ctx.beat("made")
    return iter(())


def read(ctx: JobContext) -> Iterator[Prediction]:
    """Make something, then predict; for an element, its subject's items alone."""
    make(ctx)
    element = ctx.config["pipeline"]["element"]
    for prediction in instant(ctx):
        if not element or str(prediction["item"]).startswith(f"{element}/"):
            yield prediction


def ill(ctx: JobContext) -> Iterator[Prediction]:
    """Make something, but fail for the element that ``fault.hostile`` names."""
    if ctx.config["pipeline"]["element"] == ctx.config.get("fault", {}).get("hostile"):
        msg = "this element cannot be used"
        raise DataError(msg)
    return read(ctx)


def link(ctx: JobContext) -> Iterator[Prediction]:
    """Leave a link among what it made."""
    make(ctx)
    (AttemptDir(ctx.attempt_dir).out / "password").symlink_to("/etc/passwd")
    return iter(())


STAGES = {stage.__name__: stage for stage in (make, read, ill, link)}


def facts_of(job: str) -> dict[str, Any] | None:
    """Return where a stage is found; None when there is no such one."""
    if job not in STAGES and job not in JOBS:
        return None
    entry = f"{__name__ if job in STAGES else 'neurosweep.testing.jobs'}:{job}"
    uses = ["model", "training"] + (["fault"] if job not in ("make", "read") else [])
    return {"entry": entry, "uses": uses, "code": sha256_bytes(entry.encode())[:16]}
