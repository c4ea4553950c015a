"""Plugins by folder: a module in the folder is a plugin, and nothing is registered anywhere."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from neurosweep.core.errors import PluginError, missing_package


def near_misses(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" when a known word is close, else an empty text."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def find_plugins(package: str) -> dict[str, str]:
    """Return the plugins of a package, name to dotted module, without importing them.

    Modules whose name starts with an underscore are not plugins.

    Raises
    ------
    PluginError
        When the package itself cannot be found.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.submodule_search_locations is None:
        msg = f"package '{package}' cannot be found; it is looked up on PYTHONPATH"
        raise PluginError(msg)
    names = sorted(
        module.name
        for module in pkgutil.iter_modules(list(spec.submodule_search_locations))
        if not module.name.startswith("_")
    )
    return {name: f"{package}.{name}" for name in names}


def load_plugin(package: str, name: str, needs: tuple[str, ...] = ()) -> ModuleType:
    """Import a plugin by name.

    Parameters
    ----------
    package
        Dotted name of the folder, for example ``neurodecode.models``.
    name
        Name of the plugin: of its file or folder.
    needs
        Attributes that every plugin of this kind has.

    Raises
    ------
    PluginError
        When no plugin has the name, or it lacks one of the attributes.
    MissingPackageError
        When the plugin needs a package that is not installed.
    """
    known = find_plugins(package)
    if name not in known:
        listed = ", ".join(known) or "none"
        msg = f"{package} has no '{name}'{near_misses(name, known)}; it has: {listed}"
        raise PluginError(msg)
    try:
        module = importlib.import_module(known[name])
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == package.split(".")[0]:
            raise
        raise missing_package(error, f"'{name}'") from error
    missing = [attribute for attribute in needs if not hasattr(module, attribute)]
    if missing:
        msg = f"{known[name]} has no {', '.join(missing)}; a plugin of {package} needs these"
        raise PluginError(msg)
    return module
