"""Puts a shipped closure together again: what a payload's pickle calls.

The host's half is `levrt.closure`. Modules of the workflow exist here as
`ShippedModule`s: their functions run with such a module's namespace as their
globals, so ``global`` statements, `sys.modules` and pickling by name (which
multiprocessing does) work as they do in the workflow. Those that an entry
imports by itself, later, come as code (`SourceFinder`).

Other modules are imported when an attribute is first asked for
(`LateModule`): an entry starts without what only some helper needs, and a
package that the container does not have fails where it is used.
"""

import builtins
import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CellType, CodeType, FunctionType, ModuleType as _Module
    from typing import Any, NoReturn
else:
    _Module = type(sys)

_Function: "Any" = type(lambda: 0)


def _cell_type(value: object) -> "Any":
    closure = (lambda: value).__closure__
    assert closure is not None
    return type(closure[0])


class _Sample:
    def method(self) -> None:
        """Of any class: for the type of a bound method."""


# As the module types has them; importing that costs as much as all of this.
_Cell: "Any" = _cell_type(0)
_Method: "Any" = type(_Sample().method)


class ShippedModule(_Module):
    """A module of the workflow, with what the entry refers to."""

    def __getattr__(self, name: str) -> "Any":
        # pickle, inspect and the like ask for dunder names of any module.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"{self.__name__}.{name} did not come along: a module of the workflow"
            " is taken into the container with what the entry refers to"
        )


class LateModule(_Module):
    """Stands for a module that is imported at its first use."""

    def __getattr__(self, name: str) -> "Any":
        # Its spec is None, so nobody takes it for a module being imported.
        return getattr(_import(self.__name__), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_import(self.__name__), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_import(self.__name__), name)

    def __dir__(self) -> "list[str]":
        return dir(_import(self.__name__))

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}, imported when used>"

    def __reduce__(self) -> "tuple[Any, ...]":
        return late, (self.__name__,)


class _Missing(type):
    """Of classes that stand for what is not in the container.

    Classes, since they may be caught, derived from, or asked for instances
    when a pickle is loaded; anything else that is done with one says why.
    """

    _lev_why: str

    def _lev_fail(cls, *args: object, **kwargs: object) -> "NoReturn":
        raise ImportError(cls._lev_why)

    def __getattr__(cls, name: str) -> "NoReturn":
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        cls._lev_fail()

    def __repr__(cls) -> str:
        return f"<not in the container: {cls._lev_why}>"

    __call__ = __getitem__ = __iter__ = __len__ = __contains__ = _lev_fail
    __enter__ = __exit__ = __add__ = __sub__ = __mod__ = __lt__ = __gt__ = _lev_fail


def missing(name: str, why: str) -> type:
    def fail(self: object, attribute: str) -> "NoReturn":
        raise ImportError(f"{name}: {why}")

    attributes = {"_lev_why": f"{name}: {why}", "__getattr__": fail}
    return _Missing(name.rpartition(".")[2], (Exception,), attributes)


_submodules: "dict[str, set[str]]" = {}  # of late modules, by their parent's name
_late: "dict[str, LateModule]" = {}


def _import(name: str) -> "Any":
    try:
        for submodule in sorted(_submodules.pop(name, ())):
            __import__(submodule)
        __import__(name)
    except ModuleNotFoundError as e:
        e.add_note(_hint(name))
        raise
    return sys.modules[name]


def _hint(name: str) -> str:
    return (
        f"{name.partition('.')[0]} is neither in the standard library nor a module"
        " of the workflow: install it in the image (a package with compiled"
        ' modules wants @remote(python="image") as well)'
    )


def late(name: str) -> "Any":
    """The module itself when it is there already."""
    if name in sys.modules and name not in _submodules:
        return sys.modules[name]
    if name not in _late:
        _late[name] = LateModule(name)
    return _late[name]


def reference(module: str, qualname: str) -> "Any":
    """An object of an installed package or of levrt, by its name."""
    try:
        __import__(module)
        value = sys.modules[module]
        for name in qualname.split("."):
            value = getattr(value, name)
    except ImportError as e:
        return missing(f"{module}.{qualname}", f"{e}; {_hint(module)}")
    return value


# Modules of the workflow.


def module(name: str) -> "Any":
    """The shipped module of that name, made at its first mention."""
    found = sys.modules.get(name)
    if isinstance(found, ShippedModule):
        return found
    made = ShippedModule(name)
    made.__dict__["__builtins__"] = builtins  # imports in C look it up
    sys.modules[name] = made
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(module(parent), child, made)
    return made


def module_state(mod: ShippedModule, state: "dict[str, Any]") -> None:
    mod.__dict__.update(state)


def namespace(name: str) -> "dict[str, Any]":
    """The globals of the functions of a shipped module."""
    space: dict[str, Any] = module(name).__dict__
    return space


def private_namespace(name: str) -> "dict[str, Any]":
    """The globals of functions made by exec(): they belong to no module."""
    return {"__name__": name, "__builtins__": builtins}


# Functions and classes.


def function(
    code: bytes, space: "dict[str, Any]", name: str, closure: "tuple[CellType, ...]"
) -> "FunctionType":
    made: FunctionType = _Function(
        marshal.loads(code), space, name, None, closure or None
    )
    return made


def function_state(func: "FunctionType", state: "dict[str, Any]") -> None:
    """Set after the function is there, so that it may refer to itself."""
    func.__globals__.update(state.pop("globals"))
    state.pop("modules", None)  # of the workflow: to be there is all they have to
    for package, submodules in state.pop("submodules", {}).items():
        _want(package, submodules)
    bound_in = state.pop("bind", None)
    if bound_in is not None:
        bound_in[func.__name__] = func
    for name, value in state.items():
        setattr(func, name, value)


def _want(package: str, submodules: "set[str]") -> None:
    if package in sys.modules:
        for name in sorted(submodules):
            reference(name, "__name__")
    else:
        _submodules.setdefault(package, set()).update(submodules)


def cell() -> "CellType":
    made: CellType = _Cell()
    return made


def cell_state(target: "CellType", contents: "tuple[Any, ...]") -> None:
    """An empty tuple: the variable has no value yet."""
    if contents:
        target.cell_contents = contents[0]


def method(func: "Callable[..., Any]", instance: object) -> "Any":
    return _Method(func, instance)


def code(data: bytes) -> "CodeType":
    made: CodeType = marshal.loads(data)
    return made


def new_class(
    name: str, bases: "tuple[type, ...]", attributes: "dict[str, Any]"
) -> type:
    return type(name, bases, attributes)


def class_state(cls: type, state: "dict[str, Any]") -> None:
    space = state.pop("bind", None)
    if space is not None:
        space[cls.__name__] = cls
    for name, value in state["attributes"].items():
        setattr(cls, name, value)


def cached_property(
    func: "Callable[..., Any]", name: "str | None", doc: "str | None"
) -> "Any":
    import functools

    made: Any = functools.cached_property(func)
    made.attrname = name
    made.__doc__ = doc
    return made


def lru_cache(func: "Callable[..., Any]", parameters: "dict[str, Any]") -> "Any":
    """With an empty cache."""
    import functools

    return functools.lru_cache(**parameters)(func)


def type_variable(
    kind: str, name: str, values: "tuple[Any, ...]", options: "dict[str, Any]"
) -> "Any":
    import typing

    return getattr(typing, kind)(name, *values, **options)


def plain(func: "Callable[..., Any]") -> "Callable[..., Any]":
    """A remote function, where it can be called."""
    return func


def mapping_proxy(content: "dict[Any, Any]") -> "Any":
    return type(type.__dict__)(content)


# Modules that the entry imports later.


class SourceFinder:
    """Imports modules of the workflow that came as code.

    `modules`: name → (is a package, path on the host, marshalled code).
    """

    def __init__(self, modules: "dict[str, tuple[bool, str, bytes]]") -> None:
        self.modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> "Any":
        if name not in self.modules:
            return None
        from importlib.machinery import ModuleSpec

        package, origin, _ = self.modules[name]
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=origin, is_package=package)
        spec.has_location = True
        return spec

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, mod: "Any") -> None:
        exec(marshal.loads(self.modules[mod.__name__][2]), mod.__dict__)


def sources(modules: "dict[str, tuple[bool, str, bytes]]") -> None:
    if modules:
        sys.meta_path.insert(0, SourceFinder(modules))


# The payload.

FORMAT = 1


class Payload:
    """What the workflow sends: (format, version, modules, lines, name, pickle)."""

    def __init__(self, data: bytes) -> None:
        number, python, modules, self.lines, self.name, self._body = marshal.loads(data)
        if number != FORMAT or python != sys.version_info[:2]:
            raise RuntimeError(
                f"the payload is of format {number} for Python {python}; this is"
                f" format {FORMAT}, Python {sys.version_info[:2]}"
            )
        sources(modules)

    def load(self) -> "tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]":
        """The entry and its arguments; registers the workflow's modules."""
        body, self._body = self._body, b""  # it may be large
        entry: tuple[Any, Any, Any] = _loads()(body)
        return entry


def _loads() -> "Callable[[bytes], Any]":
    """`_pickle.loads`, imported without functools, which takes as long as the
    rest of a start: the module only keeps `partial`, which is in C."""
    if "functools" in sys.modules or "_pickle" in sys.modules:
        from _pickle import loads

        return loads
    import _functools  # type: ignore[import-not-found]

    stand_in: Any = _Module("functools")
    stand_in.partial = _functools.partial
    sys.modules["functools"] = stand_in
    try:
        from _pickle import loads
    finally:
        del sys.modules["functools"]
    return loads
