"""Pickles a closure for a container: `levrt.guest.load` is the other half.

What goes **by value**: functions and classes of the workflow, which is every
module that is neither in the standard library nor installed (below a
site-packages or dist-packages directory), with the globals they refer to; and
such a module as a whole where it is itself referred to. What goes **by name**:
everything else. Modules of the workflow that a function imports by itself go
by value when they are loaded here, else as compiled code.

cloudpickle does the rest: enums, classes with a metaclass, type variables and
so on. Only closures with such make the container import it.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import linecache
import marshal
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from .guest import load
from .modules import is_installed, is_workflows, read_source
from .names import (
    imported_modules,
    late_submodules,
    names_of,
    nested,
    referred_globals,
    workflow_imports,
)

Code = types.CodeType


def dump(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """The payload that `load.Payload` reads."""
    from .blame import explain

    left_out: dict[str, dict[str, str]] = {}
    while True:
        closure = Closure(left_out)
        try:
            body = closure.pickle((func, args, kwargs))
            break
        except Exception as e:
            # Adds to left_out what a module as a whole can do without, or
            # raises the error that names the variable.
            explain(e, func, args, kwargs, left_out)
    return marshal.dumps(
        (
            load.FORMAT,
            sys.version_info[:2],
            closure.sources,
            closure.lines,
            func.__name__,
            body,
        )
    )


class Namespace:
    """The globals of functions, as something that can be pickled."""

    def __init__(self, name: str, private: bool) -> None:
        self.name = name
        self.private = private

    def __reduce__(self) -> tuple[Any, ...]:
        make = load.private_namespace if self.private else load.namespace
        return make, (self.name,)


class LeftOut:
    """What a module can do without; its use in the container says why."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return load.missing, (self.name, self.why)


class Closure:
    """One payload in the making.

    `left_out`: module → name → why, what does not come along of modules that
    are referred to as a whole.
    """

    def __init__(self, left_out: dict[str, dict[str, str]]) -> None:
        self.left_out = left_out
        #: Modules that come as code, for load.SourceFinder.
        self.sources: dict[str, tuple[bool, str, bytes]] = {}
        #: Source lines of shipped functions, for tracebacks.
        self.lines: dict[str, list[tuple[int, str]]] = {}
        self._spaces: dict[int, Namespace] = {}

    def pickle(self, value: Any) -> bytes:
        out = io.BytesIO()
        _Pickler(out, self).dump(value)
        return out.getvalue()

    # Functions.

    def function(self, func: types.FunctionType) -> tuple[Any, ...]:
        code = func.__code__
        self._add_lines(code)
        made = (
            marshal.dumps(code),
            self._space(func.__globals__),
            func.__name__,
            func.__closure__ or (),
        )
        return load.function, made, self._state(func), None, None, load.function_state

    def _space(self, space: dict[str, Any]) -> Namespace:
        found = self._spaces.get(id(space))
        if found is None:
            name = str(space.get("__name__", "?"))
            module = sys.modules.get(name)
            owned = getattr(module, "__dict__", None) is space
            found = Namespace(name, private=not (owned and is_workflows(name)))
            self._spaces[id(space)] = found
        return found

    def _state(self, func: types.FunctionType) -> dict[str, Any]:
        space = self._space(func.__globals__)
        state = _attributes(func, space.name)
        state["globals"] = self._globals(func, space)
        bound_in = self._space_with(func)
        if bound_in is not None:
            state["bind"] = bound_in  # can be pickled by name there, as here
        submodules = late_submodules(func)
        if submodules:
            state["submodules"] = submodules
        modules = self.imported(func)
        if modules:
            state["modules"] = modules
        return state

    def _space_with(self, obj: Any) -> Namespace | None:
        """The workflow's module that has a function or class under its name."""
        module = sys.modules.get(str(obj.__module__))
        if module is None or not is_workflows(module.__name__):
            return None
        found = vars(module).get(obj.__name__) is obj
        return self._space(vars(module)) if found else None

    def _globals(self, func: types.FunctionType, space: Namespace) -> dict[str, Any]:
        values = referred_globals(func)
        package = func.__globals__.get("__package__")
        if package:  # for imports inside of the function
            values["__package__"] = package
        return self._tolerant(space.name, values)

    def _tolerant(self, module: str, values: dict[str, Any]) -> dict[str, Any]:
        for name, why in self.left_out.get(module, {}).items():
            if name in values:
                values[name] = LeftOut(f"{module}.{name}", why)
        return values

    def imported(self, func: types.FunctionType) -> list[types.ModuleType]:
        """Modules that it imports and that are loaded, to go by value; the
        others come as code."""
        modules: dict[str, types.ModuleType] = {}
        for name in imported_modules(func):
            self._take(name, modules)
        return list(modules.values())

    def _take(self, name: str, modules: dict[str, types.ModuleType]) -> None:
        loaded = sys.modules.get(name)
        if isinstance(loaded, types.ModuleType):
            modules[name] = loaded
        elif name not in self.sources:
            self._take_source(name, modules)

    def _take_source(self, name: str, modules: dict[str, types.ModuleType]) -> None:
        found = read_source(name)
        if found is None:
            return  # an attribute, or nothing: the import will say so
        package, path, code = found
        self.sources[name] = (package, path, marshal.dumps(code))
        parent = name if package else name.rpartition(".")[0]
        for imported in workflow_imports(names_of(code), parent):
            self._take(imported, modules)

    def _add_lines(self, code: Code) -> None:
        blocks = self.lines.setdefault(code.co_filename, [])
        first, last = code.co_firstlineno, _last_line(code)
        if any(start == first for start, _ in blocks):
            return
        text = "".join(linecache.getlines(code.co_filename)[first - 1 : last])
        if text:
            blocks.append((first, text[:_LINES_MAX]))

    # Modules and classes.

    def module(self, module: types.ModuleType) -> tuple[Any, ...]:
        name = module.__name__
        if not is_workflows(name) or name == "__main__":
            make = load.module if name == "__main__" else load.late
            return make, (name,)
        values = {k: v for k, v in dict(vars(module)).items() if k not in _MODULE_OWN}
        for key, value in values.items():
            why = _foreign_instance(value)
            if why is not None:
                values[key] = LeftOut(f"{name}.{key}", why)
        if hasattr(module, "__path__"):
            values["__path__"] = []
        state = self._tolerant(name, values)
        return load.module, (name,), state, None, None, load.module_state

    def plain_class(self, cls: type) -> tuple[Any, ...]:
        """A class that `type` itself made, by value."""
        slots = vars(cls).get("__slots__", ())
        slots = (slots,) if isinstance(slots, str) else tuple(slots)
        # What must be there when the class is made: typing.Generic looks too.
        early = ("__module__", "__qualname__", "__orig_bases__")
        own = {name: vars(cls)[name] for name in early if name in vars(cls)}
        own["__qualname__"] = cls.__qualname__  # not in the class's dict
        if "__slots__" in vars(cls):
            own["__slots__"] = slots
        dropped = {"__dict__", "__weakref__", *own, *_mangled(cls, slots)}
        state: dict[str, Any] = {
            "attributes": {k: v for k, v in vars(cls).items() if k not in dropped}
        }
        bound_in = self._space_with(cls)
        if bound_in is not None:
            state["bind"] = bound_in
        made = (cls.__name__, cls.__bases__, own)
        return load.new_class, made, state, None, None, load.class_state


_LINES_MAX = 64 * 1024
_MODULE_OWN = {
    "__builtins__",
    "__cached__",
    "__loader__",
    "__name__",
    "__path__",
    "__spec__",
}


def _last_line(code: Code) -> int:
    lines = (line for inner in nested(code) for _, _, line in inner.co_lines())
    return max((line for line in lines if line), default=code.co_firstlineno)


def _mangled(cls: type, slots: tuple[str, ...]) -> Iterator[str]:
    """Names of the descriptors that `__slots__` makes."""
    for name in slots:
        private = name.startswith("__") and not name.endswith("__")
        yield f"_{cls.__name__.lstrip('_')}{name}" if private else name


def _attributes(func: types.FunctionType, module: str) -> dict[str, Any]:
    """Those that differ from what a function made of the code has."""
    state: dict[str, Any] = {}
    if func.__qualname__ != func.__code__.co_qualname:
        state["__qualname__"] = func.__qualname__
    if func.__module__ != module:
        state["__module__"] = func.__module__
    for name in ("__defaults__", "__kwdefaults__", "__type_params__"):
        value = getattr(func, name, None)
        if value:
            state[name] = value
    if func.__doc__ != (func.__code__.co_consts or (None,))[0]:
        state["__doc__"] = func.__doc__
    annotations = _plain_annotations(func)
    if annotations:
        state["__annotations__"] = annotations
    # annot.meta's description of a function is for the workflow's side.
    own = {key: value for key, value in vars(func).items() if key != "__lev__"}
    if own:
        state["__dict__"] = own
    return state


def _plain_annotations(func: types.FunctionType) -> dict[str, Any]:
    """Those that any container knows: a tool's functions may be read by them,
    but none is worth a package of the workflow's."""
    plain = (str, type(None), types.GenericAlias, types.UnionType)
    return {
        name: value
        for name, value in func.__annotations__.items()
        if isinstance(value, plain)
        or (isinstance(value, type) and not is_installed(_module_of(value)))
    }


def _foreign_instance(value: Any) -> str | None:
    module = _module_of(type(value))
    if not is_installed(module) or _top(module) == "levrt":
        return None
    return f"it is a {module}.{type(value).__qualname__}"


def _module_of(cls: type) -> str:
    """A class may have anything there, as a property for its instances."""
    name = cls.__module__
    return name if isinstance(name, str) else ""


def _top(module: str) -> str:
    return module.partition(".")[0]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, out: io.BytesIO, closure: Closure) -> None:
        super().__init__(out, protocol=5)
        self._closure = closure

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        reduce = _REDUCERS.get(kind)
        if reduce is not None:
            return reduce(self._closure, obj)
        if isinstance(obj, type):
            return self._class(obj)
        if isinstance(obj, types.ModuleType):
            return self._closure.module(obj)
        if _top(_module_of(kind)) == "levrt":
            return _levrt_instance(obj)
        return super().reducer_override(obj)

    def _class(self, cls: type) -> Any:
        if cls.__module__ == "builtins":
            return _builtin_class(cls)
        if _by_name(cls):
            return _reference(cls)
        if type(cls) is type:
            return self._closure.plain_class(cls)
        return self._cloudpickled(cls)

    def _cloudpickled(self, cls: type) -> Any:
        """By value: cloudpickle has to be told so for a module that it finds."""
        name = _module_of(cls)
        module = sys.modules.get(name)
        with _registry:
            told = name in cloudpickle.list_registry_pickle_by_value()
            if module is None or told:
                return super().reducer_override(cls)
            cloudpickle.register_pickle_by_value(module)
            try:
                return super().reducer_override(cls)
            finally:
                cloudpickle.unregister_pickle_by_value(module)


_registry = threading.Lock()


def _by_name(obj: Any) -> bool:
    """Whether it is to be found in the container by module and name."""
    name = obj.__module__ if isinstance(obj.__module__, str) else ""
    if is_workflows(name):
        return False
    found: Any = sys.modules.get(name)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def _reference(obj: Any) -> Any:
    module, name = obj.__module__, obj.__qualname__
    top = _top(module)
    if top in sys.stdlib_module_names or module.startswith(_SAME_IN_GUEST):
        return NotImplemented  # pickle's own way is the fastest
    if top == "levrt":
        return load.reference, ("levrt", name)
    return load.reference, (module, name)


# What the container has of levrt under the same name.
_SAME_IN_GUEST = ("levrt.annot", "levrt.args", "levrt.bson", "levrt.guest")


def _levrt_instance(obj: Any) -> Any:
    """`lev` and the like by name; descriptions and tasks stay at home."""
    from .entry import RemoteFunction

    if isinstance(obj, (Namespace, LeftOut)):
        return NotImplemented
    if isinstance(obj, RemoteFunction):
        return load.plain, (obj.__wrapped__,)
    public = sys.modules.get("levrt")
    for name, value in vars(public).items() if public is not None else ():
        if value is obj and not name.startswith("_"):
            return load.reference, ("levrt", name)
    module = _module_of(type(obj))
    if module.startswith(_SAME_IN_GUEST) or type(obj).__name__ == "ObjectId":
        return NotImplemented
    raise TypeError(
        f"cannot pickle a levrt.{type(obj).__name__}: it belongs to the workflow;"
        " take the values that the entry needs out of it"
    )


def _builtin_class(cls: type) -> Any:
    if cls in (type(None), type(Ellipsis), type(NotImplemented)):
        return NotImplemented  # pickle knows them
    if getattr(sys.modules["builtins"], cls.__name__, None) is cls:
        return NotImplemented
    for name, value in vars(types).items():
        if value is cls:
            return load.reference, ("types", name)
    return NotImplemented


def _reduce_function(closure: Closure, func: types.FunctionType) -> Any:
    return _reference(func) if _by_name(func) else closure.function(func)


def _reduce_cell(closure: Closure, cell: types.CellType) -> Any:
    try:
        contents: tuple[Any, ...] = (cell.cell_contents,)
    except ValueError:
        contents = ()  # a variable without a value yet
    return load.cell, (), contents, None, None, load.cell_state


def _reduce_cached(closure: Closure, cached: Any) -> Any:
    return load.lru_cache, (cached.__wrapped__, dict(cached.cache_parameters()))


def _reduce_sentinel(closure: Closure, sentinel: Any) -> Any:
    """Of dataclasses: compared by identity."""
    module = sys.modules["dataclasses"]
    for name, value in vars(module).items():
        if value is sentinel:
            return load.reference, ("dataclasses", name)
    return NotImplemented


def _reduce_type_variable(closure: Closure, variable: Any) -> Any:
    options = {
        name: getattr(variable, f"__{name}__")
        for name in ("bound", "covariant", "contravariant", "infer_variance")
        if getattr(variable, f"__{name}__", None)
    }
    constraints = getattr(variable, "__constraints__", ())
    made = (type(variable).__name__, variable.__name__, constraints, options)
    return load.type_variable, made


def _reduce_new_type(closure: Closure, kind: typing.NewType) -> Any:
    return load.type_variable, ("NewType", kind.__name__, (kind.__supertype__,), {})


_REDUCERS: dict[type, Callable[[Closure, Any], Any]] = {
    types.FunctionType: _reduce_function,
    types.ModuleType: Closure.module,
    types.CellType: _reduce_cell,
    types.CodeType: lambda closure, code: (load.code, (marshal.dumps(code),)),
    types.MethodType: lambda closure, m: (load.method, (m.__func__, m.__self__)),
    types.MappingProxyType: lambda closure, p: (load.mapping_proxy, (dict(p),)),
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_type_variable,
    typing.TypeVar: _reduce_type_variable,
    typing.TypeVarTuple: _reduce_type_variable,
    functools.cached_property: lambda closure, c: (
        load.cached_property,
        (c.func, c.attrname, c.__doc__),
    ),
    type(functools.lru_cache(lambda: None)): _reduce_cached,
    type(dataclasses._FIELD): _reduce_sentinel,  # type: ignore[attr-defined]
    type(dataclasses.MISSING): _reduce_sentinel,
    type(dataclasses.KW_ONLY): _reduce_sentinel,
    type(dataclasses._HAS_DEFAULT_FACTORY): _reduce_sentinel,  # type: ignore[attr-defined]
}
