"""Matrices inside FIF tags are checked before a reader that trusts them meets them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from neurodecode.datasets._neuromag.matrices import content_problem

DENSE, BY_COLUMN, BY_ROW = 0x40000004, 0x40100004, 0x40200004


def dense(values: np.ndarray) -> bytes:
    shape = [*reversed(values.shape), values.ndim]
    return values.astype(">f4").tobytes() + struct.pack(f">{len(shape)}i", *shape)


def packed(matrix: sparse.csr_array | sparse.csc_array) -> bytes:
    parts = (matrix.data.astype(">f4"), matrix.indices.astype(">i4"), matrix.indptr.astype(">i4"))
    return b"".join(p.tobytes() for p in parts) + struct.pack(">4i", matrix.nnz, *matrix.shape, 2)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cells = draw(st.lists(st.integers(0, 2), min_size=rows * columns, max_size=rows * columns))
    return np.array(cells, dtype=np.float32).reshape(rows, columns)


@given(values=arrays())
def test_matrices_as_they_are_written_have_no_problem(values: np.ndarray) -> None:
    assert content_problem(DENSE, dense(values)) is None
    assert content_problem(BY_ROW, packed(sparse.csr_array(values))) is None
    assert content_problem(BY_COLUMN, packed(sparse.csc_array(values))) is None


@given(values=arrays(), cut=st.integers(1, 40))
def test_matrices_that_lack_bytes_have_a_problem(values: np.ndarray, cut: int) -> None:
    for kind, content in ((DENSE, dense(values)), (BY_ROW, packed(sparse.csr_array(values)))):
        assert content_problem(kind, content[min(cut, len(content)) :]) is not None


EYE = packed(sparse.csr_array(np.eye(3, dtype=np.float32)))


@pytest.mark.parametrize(
    ("position", "value"), [(12, 3), (12, -1), (24, 1), (28, -5), (36, 2), (36, 99)]
)
def test_indices_outside_a_sparse_matrix_have_a_problem(position: int, value: int) -> None:
    content = bytearray(EYE)
    content[position : position + 4] = struct.pack(">i", value)
    assert content_problem(BY_ROW, bytes(content)) == "a sparse matrix whose indices are outside it"


@pytest.mark.parametrize(
    ("kind", "content", "problem"),
    [
        (56, b"", "data type 56 does not exist"),
        (0x40000038, b"", "data type 0x40000038 does not exist"),
        (0x50000004, b"", "data type 0x50000004 does not exist"),
        (DENSE, b"", "a matrix without dimensions"),
        (DENSE, struct.pack(">i", 9), "a matrix of 9 dimensions"),
        (DENSE, struct.pack(">iii", -1, 4, 2), "a matrix of [-1, 4] values in 12 bytes"),
        (BY_ROW, struct.pack(">i", 3), "a sparse matrix of 3 dimensions"),
    ],
)
def test_impossible_types_and_sizes_have_a_problem(kind: int, content: bytes, problem: str) -> None:
    assert content_problem(kind, content) == problem


@pytest.mark.parametrize("kind", [0, 3, 4, 10, 16, 30, 35])
def test_plain_types_are_not_looked_into(kind: int) -> None:
    assert content_problem(kind, b"anything") is None
