"""Call a function of another package in a process of its own: JSON in, JSON out."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.core.errors import ErrorRecord, NeurosweepError, missing_package
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.core.provenance import code_env

if TYPE_CHECKING:
    from neurosweep.core.child import Say

_TAIL_CHARACTERS = 2000


def call_entry(
    entry: str,
    payload: Mapping[str, Any],
    *,
    code_root: Path | None = None,
    timeout_s: float = 1800.0,
    threads: int = 1,
    say: Say | None = None,
) -> dict[str, Any]:
    """Run ``package.module:function`` in a fresh interpreter and return its result.

    The driver imports no decoder code: it asks for facts as data.

    Parameters
    ----------
    entry
        Function that takes and returns a JSON dictionary.
    payload
        Its argument.
    code_root
        Source root of the decoders to use; None for the installed ones.
    timeout_s
        Limit of the call in seconds.
    threads
        Threads that the process may use; the function finds their number under ``threads``.
    say
        Told, while the function runs, what the loggers of its package and of the harness say.

    Raises
    ------
    NeurosweepError
        The error that the function raised, of the same class; or, for any other failure, one
        that shows the end of what the process printed.
    """
    import tempfile  # a job resolves its entry only, and is started for every attempt

    from neurosweep.core.child import run_child

    with tempfile.TemporaryDirectory(prefix="neurosweep-") as folder:
        call, answer = Path(folder) / "call.json", Path(folder) / "answer.json"
        atomic_write_json(call, {"entry": entry, "payload": {"threads": threads, **payload}})
        command = [sys.executable, "-m", "neurosweep.core.entry", str(call), str(answer)]
        env = {**os.environ, **code_env(code_root, threads)}
        try:
            ended = run_child(command, env, timeout_s=timeout_s, say=say)
        except TimeoutError as error:
            msg = f"{entry} did not finish within {timeout_s:g} s"
            raise NeurosweepError(msg) from error
        if not answer.exists():
            tail = ended.tail[-_TAIL_CHARACTERS:]
            msg = f"{entry} ended with exit code {ended.returncode} and no answer:\n{tail}"
            raise NeurosweepError(msg)
        result = read_json(answer)
    if "error" in result:
        raise _error_of(entry, ErrorRecord.from_dict(result["error"]))
    return dict(result["result"])


def _error_of(entry: str, record: ErrorRecord) -> NeurosweepError:
    known = record.as_raisable()
    if known is not None:
        return known
    return NeurosweepError(f"{entry} failed: {record.type}: {record.text}\n{record.traceback}")


def resolve_entry(entry: str) -> Callable[..., Any]:
    """Import and return the function that ``package.module:function`` names.

    Raises
    ------
    NeurosweepError
        When the text has no colon, there is no such module, or it has no such function.
    """
    module_name, colon, name = entry.partition(":")
    if not colon:
        msg = f"entry {entry!r}: expected package.module:function"
        raise NeurosweepError(msg)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        msg = f"entry {entry!r}: there is no module '{error.name}' in this environment"
        raise NeurosweepError(msg) from error
    function = getattr(module, name, None)
    if not callable(function):
        msg = f"entry {entry!r}: {module_name} has no function '{name}'"
        raise NeurosweepError(msg)
    result: Callable[..., Any] = function
    return result


def _for_people(error: Exception, entry: str) -> Exception:
    """Return an error of the machine, not of the code, as one that says what to do."""
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error, entry)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return NeurosweepError(f"{entry}: the disk is full{where}; make room and try again")
    return error


def _main(call_path: str, answer_path: str, told: str, alive: str) -> int:
    from neurosweep.core.child import be_a_child

    call = read_json(Path(call_path))
    package = str(call["entry"]).partition(":")[0].partition(".")[0]
    be_a_child(int(told), int(alive), list(dict.fromkeys(("neurosweep", package))))
    try:
        result = resolve_entry(call["entry"])(call["payload"])
    except Exception as error:  # noqa: BLE001 - the boundary: an error goes back as data
        record = ErrorRecord.of(_for_people(error, call["entry"]))
        atomic_write_json(Path(answer_path), {"error": record.to_dict()})
        return 1
    atomic_write_json(Path(answer_path), {"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
