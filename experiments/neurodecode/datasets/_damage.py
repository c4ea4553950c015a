"""What the libraries that read files raise when a file is damaged."""

from __future__ import annotations

import tokenize
import zipfile
import zlib

DAMAGE: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, LookupError, AttributeError, NameError, ArithmeticError),
    *(EOFError, MemoryError, RuntimeError, SyntaxError, AssertionError),
    *(zlib.error, zipfile.BadZipFile, tokenize.TokenError),
)
READ_ERRORS: tuple[type[Exception], ...] = (OSError, *DAMAGE)
