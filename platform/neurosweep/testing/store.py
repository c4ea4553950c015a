"""Prepared data in miniature: sentences whose signal is their letters in numbers."""

from __future__ import annotations

import random
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.files import atomic_write_json, atomic_write_text, canonical_json, sha256_bytes
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.layout import Home
from neurosweep.testing.jobs import LETTERS

_WORDS = ("brain", "sleeps", "over", "quiet", "rivers", "and", "letters", "turn", "to", "light")
_WINDOWS = 20
_PUBLIC_PARTS = ("train", "dev", "val")


def make_store(home: Home, data: Mapping[str, Any]) -> dict[str, Any]:
    """Write train, dev and val inputs, and secret references, and say where they are.

    Parameters
    ----------
    home
        Folder of everything.
    data
        ``subjects``, ``items`` (of the validation part) and ``seed``; other keys only count for
        the fingerprint.

    Returns
    -------
    dict
        What ``prepare`` of a package of decoders returns.
    """
    data_fp = fingerprint({"kind": "sentences", **data})
    parts = {part: _part(part, data) for part in (*_PUBLIC_PARTS, "test")}
    if not home.store(data_fp).exists():
        _write_secret(home.secret(data_fp), parts)
        _write_public(home.store(data_fp), data_fp, parts)
    val_items = sorted(row["item"] for row in parts["val"])
    return {
        "data_fp": data_fp,
        "stores": [str(home.store(data_fp).relative_to(home.root))],
        "secret": str(home.secret(data_fp).relative_to(home.root)),
        "final": str((home.secret(data_fp) / "test").relative_to(home.root)),
        "items_sha": sha256_bytes(canonical_json(val_items).encode()),
        "parts": {
            part: {"items": len(rows), "windows": _WINDOWS * len(rows)}
            for part, rows in parts.items()
        },
        "chance": {"val_acc": 0.0, "val_cer": 1.0 - 1.0 / len(LETTERS), "val_window_err": 0.5},
        "split": "by sentence, in the order of their draw",
        "subjects": _subjects(data),
        "warnings": [],
    }


def _subjects(data: Mapping[str, Any]) -> list[str]:
    return [f"s{number + 1:02d}" for number in range(int(data["subjects"]))]


def _part(part: str, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    rng = random.Random(f"{part}-{data['seed']}")
    subjects = _subjects(data)
    rows = []
    for number in range(int(data["items"])):
        subject = subjects[number % len(subjects)]
        text = " ".join(rng.choice(_WORDS) for _ in range(3))
        windows = "".join(rng.choice("01") for _ in range(_WINDOWS))
        item = f"{subject}/{part}01/{number:04d}"
        rows.append({"item": item, "subject": subject, "text": text, "windows": windows})
    return rows


def _inputs(folder: Path, rows: list[dict[str, Any]], *, labelled: bool) -> None:
    folder.mkdir(parents=True)
    items, signals = [], {}
    for number, row in enumerate(rows):
        recording = row["item"].split("/")[1]
        entry = {"item": row["item"], "subject": row["subject"], "recording": recording}
        entry |= {"start": number * _WINDOWS, "stop": (number + 1) * _WINDOWS}
        items.append(entry | ({"text": row["text"]} if labelled else {}))
        signals[row["item"]] = {
            "letters": [LETTERS.index(letter) for letter in row["text"]],
            "windows": [int(bit) for bit in row["windows"]],
        }
    atomic_write_json(folder / "items.json", items)
    atomic_write_json(folder / "x.json", signals)


def _write_public(folder: Path, data_fp: str, parts: Mapping[str, list[dict[str, Any]]]) -> None:
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    for part in _PUBLIC_PARTS:
        _inputs(temporary / part, parts[part], labelled=part != "val")
    meta = {"v": 1, "data_fp": data_fp, "kind": "sentences", "folds": 1}
    atomic_write_json(temporary / "meta.json", meta)
    _move(temporary, folder)


def _write_secret(folder: Path, parts: Mapping[str, list[dict[str, Any]]]) -> None:
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    for part in ("train", "dev", "test"):
        _inputs(temporary / "test" / part, parts[part], labelled=part != "test")
    for part in ("val", "test"):
        lines = [
            canonical_json(
                {
                    "item": row["item"],
                    "subject": row["subject"],
                    "reference": row["text"],
                    "typed": row["text"],
                    "windows": row["windows"],
                }
            )
            for row in parts[part]
        ]
        atomic_write_text(temporary / f"{part}_refs.jsonl", "\n".join(lines) + "\n", mode=0o600)
    temporary.chmod(0o700)
    _move(temporary, folder)


def _move(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(temporary)  # another process made the same folder first
