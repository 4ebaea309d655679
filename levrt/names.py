"""What a function refers to, as its code says: globals and imports."""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Iterator
from typing import Any

from .modules import is_workflows

Code = types.CodeType


class Names:
    """Of one code object and those inside of it.

    `globals`: what it reads or writes there; `names`: attributes as well;
    `imports`: (level, module, names) of each import statement.
    """

    def __init__(self, code: Code) -> None:
        self.names: set[str] = set()
        self.globals: set[str] = set()
        self.imports: set[tuple[int, str, tuple[str, ...]]] = set()
        for inner in nested(code):
            self.names.update(inner.co_names)
            self._read(inner)

    def _read(self, code: Code) -> None:
        before: list[Any] = [None, None]
        for step in dis.get_instructions(code):
            if step.opname == "IMPORT_NAME":
                level, names = before
                self.imports.add((level or 0, step.argval, tuple(names or ())))
            elif step.opname in _GLOBAL_STEPS:
                self.globals.add(step.argval)
            if step.opname != "EXTENDED_ARG":
                before = [before[1], step.argval]


def nested(code: Code) -> Iterator[Code]:
    yield code
    for const in code.co_consts:
        if isinstance(const, Code):
            yield from nested(const)


# LOAD_NAME: in the body of a class.
_GLOBAL_STEPS = {
    "DELETE_GLOBAL",
    "LOAD_FROM_DICT_OR_GLOBALS",
    "LOAD_GLOBAL",
    "LOAD_NAME",
    "STORE_GLOBAL",
}

_names: dict[Code, Names] = {}


def names_of(code: Code) -> Names:
    found = _names.get(code)
    if found is None:
        if len(_names) > 10_000:  # of a program that makes functions for ever
            _names.clear()
        found = _names[code] = Names(code)
    return found


def _absolute(level: int, name: str, package: str) -> str | None:
    if level == 0:
        return name
    base = package.rsplit(".", level - 1)[0] if level > 1 else package
    return f"{base}.{name}" if name else base or None


def referred_globals(func: types.FunctionType) -> dict[str, Any]:
    space = func.__globals__
    names = names_of(func.__code__).globals
    return {name: space[name] for name in sorted(names) if name in space}


def imported_modules(func: types.FunctionType) -> Iterator[str]:
    """Names of the workflow's modules that the function imports itself."""
    package = func.__globals__.get("__package__") or ""
    return workflow_imports(names_of(func.__code__), package)


def workflow_imports(names: Names, package: str) -> Iterator[str]:
    for level, name, attributes in sorted(names.imports):
        base = _absolute(level, name, package)
        if base is None or not is_workflows(base) or base == "__main__":
            continue
        parts = base.split(".")
        for i in range(len(parts)):
            yield ".".join(parts[: i + 1])
        for attribute in attributes:  # "from package import module"
            yield f"{base}.{attribute}"


def late_submodules(func: types.FunctionType) -> dict[str, set[str]]:
    """Of packages that the function names: the submodules that it means.

    ``import xml.etree.ElementTree`` binds ``xml`` only.
    """
    names = names_of(func.__code__).names
    found: dict[str, set[str]] = {}
    for value in referred_globals(func).values():
        if not isinstance(value, types.ModuleType) or not hasattr(value, "__path__"):
            continue
        prefix = value.__name__ + "."
        for name in list(sys.modules):
            rest = name[len(prefix) :].split(".")
            if name.startswith(prefix) and names.issuperset(rest):
                found.setdefault(value.__name__, set()).add(name)
    return found
