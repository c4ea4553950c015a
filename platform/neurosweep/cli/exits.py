"""What the exit codes mean; scripts and CI rely on them."""

from __future__ import annotations

OK = 0
UNEXPECTED = 1
USER_ERROR = 2
NOT_REACHED = 3
INTERRUPTED = 130

MEANINGS = {
    OK: "it worked",
    UNEXPECTED: "an unexpected error; the traceback is in the log file that is named",
    USER_ERROR: "something given is wrong or missing; the message says what to do",
    NOT_REACHED: "the study is incomplete, nothing was scored, or a --fail-if holds; "
    "with doctor: something needed is missing",
    INTERRUPTED: "interrupted; the command that goes on is printed",
}


def table() -> str:
    """Return the exit codes as text for ``--help``."""
    return "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())
