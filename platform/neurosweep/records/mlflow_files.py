"""What a run's folder gives to MLflow: thinned curves and small artifacts."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import DataError
from neurosweep.core.files import loads_strict, read_bytes_capped, read_jsonl
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.log_tail import log_tail
from neurosweep.records.mlflow_points import Point, metric_key
from neurosweep.records.score_files import scores_content
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.records.trial import POLICY, Purpose

_DENSE = 64
_MAX_NAMES = 40
_MAX_TEXT = 10_000
_MAX_CURVE_BYTES = 32 * 1024 * 1024
_MAX_FILE_BYTES = 32 * 1024 * 1024
_MAX_ADAPTER_BYTES = 64 * 1024 * 1024
_ADAPTER_NAME = re.compile(r"\w[\w.-]{0,99}\.(json|safetensors)", re.ASCII)
_TAG_LINES = 12
_TAG_WIDTH = 140
_NOT_CURVES = frozenset({"step", "epoch", "t"})


def kept(index: int) -> bool:
    """Return whether a curve keeps its point number `index`.

    The first 64 points are kept, then every second, every fourth, and so on: some 32 per
    doubling. What is kept never depends on how long the curve becomes, so a curve that is read
    while it grows equals one that is read at the end.
    """
    if index < _DENSE:
        return True
    spacing: int = 2 ** (index.bit_length() - _DENSE.bit_length() + 1)
    return index % spacing == 0


def curve_points(path: Path, start_ms: int, final: bool) -> list[Point]:
    """Return the curves that a job wrote, thinned, each named ``curve/<name>``.

    Lines that are not strict JSON objects with a step are left out; so is everything when the
    file is absent, larger than 32 MB, or not a regular file.

    Parameters
    ----------
    path
        The job's metrics.jsonl.
    start_ms
        Time of points that carry none.
    final
        Whether the curve is complete: its last point is then kept too.
    """
    try:
        lines = read_bytes_capped(path, _MAX_CURVE_BYTES).split(b"\n")
    except DataError:
        return []
    points: list[Point] = []
    counts: dict[str, int] = {}
    last: dict[str, Point] = {}
    for name, value, at, step in _all_points(lines[:-1], start_ms):
        if name not in counts and len(counts) >= _MAX_NAMES:
            continue
        index = counts.get(name, 0)
        counts[name] = index + 1
        last.pop(name, None)
        if kept(index):
            points.append((name, value, at, step))
        else:
            last[name] = (name, value, at, step)
    return [*points, *last.values()] if final else points


def _all_points(lines: list[bytes], start_ms: int) -> Iterator[Point]:
    for line in lines:
        try:
            data = loads_strict(line)
        except ValueError:
            continue
        if not isinstance(data, dict) or type(data.get("step")) is not int:
            continue
        at = _time_ms(data.get("t"), start_ms)
        for name, value in data.items():
            if name in _NOT_CURVES or type(value) not in (int, float) or not math.isfinite(value):
                continue
            yield (f"curve/{metric_key(name)}", float(value), at, abs(data["step"]) % 2**31)


def _time_ms(t: object, otherwise: int) -> int:
    if isinstance(t, str):
        try:
            return round(parse_iso(t) * 1000)
        except ValueError:
            return otherwise
    if isinstance(t, int | float) and 0 < t < 2**40:
        return round(t * 1000)
    return otherwise


def trial_artifacts(
    study: StudyDir, home: Home, state: StudyState, trial: TrialState
) -> dict[str, bytes]:
    """Return name and content of a finished trial's artifacts.

    They are the configuration, the scores, the predictions beside their references, the tail of
    the log, the difference to the commit, and the adapter that the job left, under ``adapter/``.
    What does not exist is left out. Of a confirmation there are neither predictions nor scores:
    the test part gives aggregates only.
    """
    folder = study.trial(trial.plan.trial)
    attempt = folder.attempt(trial.attempts[-1].number)
    found: dict[str, bytes] = {}
    sealed = trial.plan.purpose is Purpose.CONFIRM
    _take(found, "run.json", folder.run_json)
    if trial.phase is Phase.SCORED and not sealed:
        with contextlib.suppress(DataError):
            found["scores.json"] = scores_content(folder.scores_json, trial.scores_sha)
    tail = log_tail(study, trial.plan.trial, trial.attempts[-1])
    if tail:
        found["log_tail.txt"] = tail.encode() + b"\n"
    diff_sha = str(state.created.get("diff_sha") or "")
    if diff_sha:
        _take(found, "uncommitted.diff", study.root / "uncommitted.diff")
    if trial.phase is Phase.SCORED:
        found |= adapter_files(attempt.ckpt)
    if trial.phase is Phase.SCORED and not sealed:
        table = predictions_table(attempt.predictions, home.root / state.references)
        if table:
            found["predictions.jsonl"] = table
    return found


def failure_tags(study: StudyDir, trial: TrialState) -> dict[str, str]:
    """Return what a failed trial's run says of its failure: a description, and a tag of its log.

    The log stands in a fenced block, whose fence is longer than any row of backticks in it.
    """
    if not trial.attempts:
        return {}
    attempt, policy = trial.attempts[-1], POLICY[trial.kind]
    lines = log_tail(study, trial.plan.trial, attempt, _TAG_LINES).split("\n")
    tail = "\n".join(line[:_TAG_WIDTH] for line in lines)
    said = str(attempt.error.get("text", "")).strip()
    parts = [f"**{trial.kind.value}**: {policy.meaning}", policy.advice, _fenced(said)]
    parts += ["End of its log:", _fenced(tail)] if tail else []
    tags = {"mlflow.note.content": "\n\n".join(part for part in parts if part)}
    return tags | ({"ns.log_tail": tail} if tail else {})


def _fenced(text: str) -> str:
    """Return text as a block of code of Markdown, which shows it as it is."""
    if not text:
        return ""
    longest = max((len(row) for row in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def adapter_files(ckpt: Path) -> dict[str, bytes]:
    """Return name and content of the files of an adapter that a job left; all of them or none.

    Taken are regular files of JSON and safetensors, 64 MB together at most; links are not
    followed, and what else lies there is left out.

    Parameters
    ----------
    ckpt
        Folder of the attempt's checkpoints.
    """
    folder = ckpt / "adapter"
    if any(path.is_symlink() or not path.is_dir() for path in (ckpt, folder)):
        return {}
    found: dict[str, bytes] = {}
    left = _MAX_ADAPTER_BYTES
    for path in sorted(folder.iterdir())[:_MAX_NAMES]:
        if not _ADAPTER_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        try:
            content = read_bytes_capped(path, left)
        except DataError:
            return {}
        found[f"adapter/{path.name}"] = content
        left -= len(content)
    return found


def report_files(study: StudyDir) -> dict[str, Path]:
    """Return name and path of the files of a study's report that are shown in MLflow."""
    names = ("index.html", "running_best.png", "running_best.svg")
    return {name: study.report_dir / name for name in names}


def round_figure_files(study: StudyDir, number: int) -> dict[str, Path]:
    """Return name and path of the figure drawn when a round closes."""
    return {"evolution.png": study.report_dir / f"round-{number:02d}.png"}


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Return time of change in ns and size of a file, or None when it is absent."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size)


def file_artifact(path: Path) -> bytes | None:
    """Return the content of a file the driver wrote, or None when it is absent or too large."""
    try:
        return read_bytes_capped(path, _MAX_FILE_BYTES)
    except DataError:
        return None


def _take(found: dict[str, bytes], name: str, path: Path) -> None:
    content = file_artifact(path)
    if content is not None:
        found[name] = content


def predictions_table(predictions: Path, references: Path) -> bytes:
    """Return predictions beside their references, one JSON line an item.

    A missing prediction is an empty one. Nothing is returned when either file cannot be read.
    """
    try:
        given = {
            str(line["item"]): line
            for line in read_jsonl(predictions, _MAX_FILE_BYTES)
            if isinstance(line, dict) and "item" in line
        }
        wanted = list(read_jsonl(references, _MAX_FILE_BYTES))
    except DataError:
        return b""
    rows = [_row(reference, given.get(str(reference.get("item")), {})) for reference in wanted]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return text.encode("utf-8", "replace")


def _row(reference: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    row = {
        "item": reference.get("item"),
        "reference": reference.get("reference"),
        "hypothesis": _text(prediction.get("hypothesis", "")),
    }
    variants = prediction.get("variants")
    if isinstance(variants, dict) and variants:
        row["variants"] = {str(name): _text(text) for name, text in list(variants.items())[:8]}
    return row


def _text(value: Any) -> str:
    return str(value)[:_MAX_TEXT]
