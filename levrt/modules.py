"""Which modules are the workflow's own, and the code of those not loaded.

A module goes into containers by value when it is neither in the standard
library nor installed: below a site-packages or dist-packages directory. Its
top-level package decides. Nothing is imported to find out.
"""

from __future__ import annotations

import importlib.machinery
import os
import pickle
import sys
import types

_STDLIB_DIR = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = ("site-packages", "dist-packages")

_by_value: dict[str, bool] = {}


def is_workflows(name: str | None) -> bool:
    """Whether the module of that name goes by value."""
    if not name:
        return True  # made by exec(): nobody else has it
    top = name.partition(".")[0]
    if top == "__main__":
        return True
    if top in sys.stdlib_module_names or top == "levrt":
        return False
    module = sys.modules.get(top)
    if module is None:
        return _is_found_beside(top)
    if top not in _by_value:
        path = getattr(module, "__file__", None) or _first(module)
        # Without one: made by hand.
        _by_value[top] = path is None or _is_workflows_file(path)
    return _by_value[top]


def _first(module: types.ModuleType) -> str | None:
    """Where a package without an __init__.py is."""
    path: str | None = next(iter(getattr(module, "__path__", ())), None)
    return path


def _is_found_beside(top: str) -> bool:
    """Of a module that is not loaded (yet)."""
    spec = importlib.machinery.PathFinder.find_spec(top)
    if spec is None:
        return False  # importing it will say so
    path = spec.origin or next(iter(_search_path(spec)), "")
    return _is_workflows_file(path)


def _is_workflows_file(path: str) -> bool:
    parts = os.path.abspath(path).split(os.sep)
    if any(part in _INSTALLED for part in parts):
        return False
    return not os.path.abspath(path).startswith(_STDLIB_DIR)


def is_installed(module: str) -> bool:
    """Of a package that a container need not have, or of levrt."""
    top = module.partition(".")[0]
    return top not in sys.stdlib_module_names and not is_workflows(module)


def _search_path(spec: importlib.machinery.ModuleSpec) -> list[str]:
    locations = spec.submodule_search_locations
    # That of a folder without __init__.py would look its parent up, which is
    # not loaded.
    return list(getattr(locations, "_path", locations or ()))


def read_source(name: str) -> tuple[bool, str, types.CodeType] | None:
    """(is a package, path, code) of a module that is not loaded.

    Nothing is imported for it, not even the packages it is in.
    """
    spec = None
    path: list[str] | None = None
    parts = name.split(".")
    for i in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: i + 1]), path)
        if spec is None:
            return None
        path = _search_path(spec)
    assert spec is not None
    package = spec.submodule_search_locations is not None
    if spec.origin is None:  # a folder without __init__.py
        return package, "", compile("", "<namespace>", "exec")
    loader = spec.loader
    if not isinstance(loader, importlib.machinery.SourceFileLoader):
        raise pickle.PicklingError(
            f"the entry imports {name} ({spec.origin}), which is compiled and cannot"
            " be taken into the container"
        )
    code = loader.get_code(name)
    assert isinstance(code, types.CodeType)
    return package, spec.origin, code
