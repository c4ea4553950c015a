"""Errors that users meet, and errors that travel between processes as data."""

from __future__ import annotations

import traceback as traceback_module
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class NeurosweepError(Exception):
    """Report a problem that its reader can solve; shown without a traceback."""

    exit_code = 2


class ConfigError(NeurosweepError, ValueError):
    """Report a configuration that names unknown keys or values outside their range."""


class DataError(NeurosweepError, ValueError):
    """Report a recording, table, store or file whose content cannot be used."""


class PredictionsError(NeurosweepError, ValueError):
    """Report a predictions file of a job that cannot be scored."""


class LedgerError(NeurosweepError):
    """Report a ledger that was damaged or does not belong to its study."""


class StudyError(NeurosweepError):
    """Report a request that the state of the study does not allow."""


class PluginError(NeurosweepError):
    """Report an unknown or incomplete dataset, model, agent or executor."""


class WrongCodeError(NeurosweepError):
    """Report that a process imports other code than the code its trial names."""


class ExecutorError(NeurosweepError):
    """Report that a scheduler or worker refused or cannot be reached."""


class UnreachableError(ExecutorError):
    """Report a scheduler that does not answer now, and may do so later."""


class MissingPackageError(NeurosweepError):
    """Report an optional package that is needed and not installed."""


class LockedError(NeurosweepError):
    """Report that another driver already works on the study."""


def missing_package(error: ModuleNotFoundError, what: str = "this") -> MissingPackageError:
    """Return what to tell of an import that failed.

    Parameters
    ----------
    error
        The failed import.
    what
        Who needs the package, in words.
    """
    name = (error.name or "").partition(".")[0]
    install = _PIP_NAMES.get(name, name)
    return MissingPackageError(
        f"{what} needs the package '{name}', which is not installed; "
        f"install it with: pip install {install}"
    )


_PIP_NAMES = {"git": "GitPython"}
_BY_NAME: dict[str, type[NeurosweepError]] = {
    cls.__name__: cls
    for cls in (
        NeurosweepError,
        ConfigError,
        DataError,
        PredictionsError,
        LedgerError,
        StudyError,
        PluginError,
        WrongCodeError,
        ExecutorError,
        MissingPackageError,
        LockedError,
    )
}


@dataclass(frozen=True)
class ErrorRecord:
    """Hold an exception as text, so that no process unpickles another's objects.

    Attributes
    ----------
    type
        Class name of the exception.
    text
        Its message.
    traceback
        The formatted traceback, empty when unknown.
    """

    type: str
    text: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ErrorRecord:
        """Record a caught exception."""
        lines = traceback_module.format_exception(type(error), error, error.__traceback__)
        return cls(type(error).__name__, str(error), "".join(lines))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ErrorRecord:
        """Read a record that `to_dict` wrote."""
        return cls(
            str(data.get("type", "")), str(data.get("text", "")), str(data.get("traceback", ""))
        )

    def to_dict(self) -> dict[str, str]:
        """Return the record as JSON data."""
        return {"type": self.type, "text": self.text, "traceback": self.traceback}

    def as_raisable(self) -> NeurosweepError | None:
        """Return the same error when it was one of ours, else None."""
        cls = _BY_NAME.get(self.type)
        return None if cls is None else cls(self.text)
