"""Check the content of a FIF tag against its type, as its readers trust it without looking."""

from __future__ import annotations

import math

import numpy as np

MATRIX = 0x40000000

_CODING = 0xFFFF0000
_DENSE, _BY_COLUMN, _BY_ROW = 0x40000000, 0x40100000, 0x40200000
_SIZE_OF_TYPE = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 20: 8, 21: 16}
_PLAIN_TYPES = frozenset({*range(12), 13, 14, 16, 20, 21, 23, *range(30, 38)})
_MAX_DIMENSIONS = 3


def content_problem(kind_of_data: int, content: bytes) -> str | None:
    """Return what is wrong with a tag, None when nothing is.

    Parameters
    ----------
    kind_of_data
        Type field of the tag.
    content
        Its content; only matrices are looked into.
    """
    coding = kind_of_data & _CODING
    base = kind_of_data & ~_CODING
    if coding == 0:
        return None if base in _PLAIN_TYPES else f"data type {base} does not exist"
    if coding not in (_DENSE, _BY_COLUMN, _BY_ROW) or base not in _SIZE_OF_TYPE:
        return f"data type {kind_of_data:#x} does not exist"
    if len(content) < 4:
        return "a matrix without dimensions"
    num = int.from_bytes(content[-4:], "big", signed=True)
    if coding == _DENSE:
        return _dense_problem(content, num, _SIZE_OF_TYPE[base])
    return _sparse_problem(content, num, _SIZE_OF_TYPE[base], by_column=coding == _BY_COLUMN)


def _dense_problem(content: bytes, num: int, size: int) -> str | None:
    if not 1 <= num <= _MAX_DIMENSIONS or len(content) < 4 * (num + 1):
        return f"a matrix of {num} dimensions"
    dimensions = np.frombuffer(content[-4 * (num + 1) : -4], dtype=">i4").tolist()
    if min(dimensions) < 0 or size * math.prod(dimensions) + 4 * (num + 1) != len(content):
        return f"a matrix of {dimensions} values in {len(content)} bytes"
    return None


def _sparse_problem(content: bytes, num: int, size: int, *, by_column: bool) -> str | None:
    if num != 2 or len(content) < 16:
        return f"a sparse matrix of {num} dimensions"
    filled, rows, columns = np.frombuffer(content[-16:-4], dtype=">i4").tolist()
    lines, across = (columns, rows) if by_column else (rows, columns)
    expected = (size + 4) * filled + 4 * (lines + 1) + 16
    if min(filled, rows, columns) < 0 or expected != len(content):
        return f"a sparse matrix of {rows} x {columns} values in {len(content)} bytes"
    indices = np.frombuffer(content, ">i4", filled, size * filled)
    starts = np.frombuffer(content, ">i4", lines + 1, (size + 4) * filled)
    outside = filled > 0 and not 0 <= indices.min() <= indices.max() < across
    if outside or starts[0] != 0 or starts[-1] != filled or (np.diff(starts) < 0).any():
        return "a sparse matrix whose indices are outside it"
    return None
