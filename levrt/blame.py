"""Says which variable of a closure cannot be pickled, and the way to it.

Runs only after a closure has failed to pickle. It walks the closure as the
pickler does and pickles each part by itself, down to one whose parts are all
fine: that is to blame.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import closure
from .entry import RemoteFunction
from .modules import is_workflows
from .names import referred_globals


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of the way: `kind` is "closure", "globals", "arguments" … for
    a variable of a function, or "" for a part of a value."""

    kind: str
    name: str  # of the variable, attribute or key
    text: str  # as it is written behind the step before
    module: str = ""  # whose namespace `name` is in, if any
    whole: bool = False  # an attribute of a module taken as a whole


Way = tuple[Hop, ...]

_DEPTH_MAX = 50  # of a way; what is nested deeper is named by its beginning
_PARTS_MAX = 20_000  # that are pickled by themselves: some seconds at most
_FINE = (str, bytes, int, float, type(None))


def explain(
    error: Exception,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    left_out: dict[str, dict[str, str]],
) -> None:
    """Raises the error that names the variable, or adds to `left_out` what
    modules that are taken as a whole can do without."""
    search = _Search(left_out)
    search.walk(_roots(func, args, kwargs))
    for way, cause in search.ways:
        if not any(hop.whole for hop in way):
            raise pickle.PicklingError(_message(func, way, cause)) from cause
    news = False
    for way, cause in search.ways:
        news |= _leave_out(way, cause, left_out)
    if not news:
        name = func.__name__
        raise pickle.PicklingError(f"{name} cannot be pickled: {error}") from error


def _leave_out(way: Way, cause: Exception, left_out: dict[str, dict[str, str]]) -> bool:
    """The last thing on the way that has a name in a module."""
    hop = next(hop for hop in reversed(way) if hop.module)
    names = left_out.setdefault(hop.module, {})
    if hop.name in names:
        return False
    names[hop.name] = str(cause)
    return True


def _message(func: Callable[..., Any], way: Way, cause: Exception) -> str:
    verb = {"arguments": "is called with", "globals": "uses"}.get(
        way[0].kind, "closes over"
    )
    return f"{func.__name__} {verb} {way[-1].name!r} ({_text(way)}): {cause}"


def _text(way: Way) -> str:
    text = ""
    for hop in way:
        if hop.kind:
            text += f"{' → ' if text else ''}{hop.kind} → {hop.name}"
        else:
            text += hop.text
    return text


def _roots(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[Hop, Any]]:
    yield from _parts(func)
    bound = inspect.signature(func).bind(*args, **kwargs)
    for name, value in bound.arguments.items():
        yield Hop("arguments", name, name), value


class _Search:
    """Finds the ways to what fails by itself, each with its error."""

    def __init__(self, left_out: dict[str, dict[str, str]]) -> None:
        self.left_out = left_out
        self.seen: set[int] = set()
        self.ways: list[tuple[Way, Exception]] = []
        self.left = _PARTS_MAX

    def walk(self, parts: Iterator[tuple[Hop, Any]], way: Way = ()) -> bool:
        """Whether one of `parts` cannot be pickled."""
        failed = False
        for hop, value in parts:
            if hop.name in self.left_out.get(hop.module, ()):
                continue
            cause = self._cause(value)
            if cause is None:
                continue
            failed = True
            if id(value) in self.seen:
                continue  # its way is known
            self.seen.add(id(value))
            here = (*way, hop)
            if len(here) >= _DEPTH_MAX or not self.walk(_parts(value), here):
                self.ways.append((here, cause))
        return failed

    def _cause(self, value: Any) -> Exception | None:
        if type(value) in _FINE or self.left == 0:
            return None
        self.left -= 1
        try:
            closure.Closure(self.left_out).pickle(value)
        except Exception as e:
            return e
        return None


# The parts of a value, as the pickler sees them.


def _parts(value: Any) -> Iterator[tuple[Hop, Any]]:
    if isinstance(value, types.FunctionType):
        return _function_parts(value)
    if isinstance(value, types.ModuleType):
        return _module_parts(value)
    if isinstance(value, dict):
        return ((Hop("", str(k), f"[{k!r}]"), v) for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ((Hop("", f"[{i}]", f"[{i}]"), v) for i, v in enumerate(value))
    return _object_parts(value)


def _function_parts(func: types.FunctionType) -> Iterator[tuple[Hop, Any]]:
    cells = func.__closure__ or ()
    for name, cell in zip(func.__code__.co_freevars, cells, strict=True):
        try:
            yield Hop("closure", name, name), cell.cell_contents
        except ValueError:
            continue  # it has no value yet
    if is_workflows(func.__module__):
        module = func.__globals__.get("__name__", "")
        for name, value in referred_globals(func).items():
            yield Hop("globals", name, name, module=module), value
        for imported in closure.Closure({}).imported(func):
            yield Hop("imports", imported.__name__, imported.__name__), imported
    for name, value in inspect.signature(func).parameters.items():
        if value.default is not inspect.Parameter.empty:
            yield Hop("defaults", name, name), value.default
    for name, value in vars(func).items():
        yield Hop("", name, f".{name}"), value


def _module_parts(module: types.ModuleType) -> Iterator[tuple[Hop, Any]]:
    if not is_workflows(module.__name__) or module.__name__ == "__main__":
        return
    for name, value in vars(module).items():
        if name not in closure._MODULE_OWN:
            hop = Hop("", name, f".{name}", module=module.__name__, whole=True)
            yield hop, value


def _object_parts(value: Any) -> Iterator[tuple[Hop, Any]]:
    if isinstance(value, types.MethodType):
        yield Hop("", "__self__", ".__self__"), value.__self__
        yield Hop("", "__func__", ".__func__"), value.__func__
    elif isinstance(value, functools.partial):
        yield Hop("", "func", ".func"), value.func
        yield Hop("", "args", ".args"), value.args
        yield Hop("", "keywords", ".keywords"), value.keywords
    elif isinstance(value, RemoteFunction):
        yield from _function_or_method(value.__wrapped__)
    elif isinstance(value, property):
        for name in ("fget", "fset", "fdel"):
            yield Hop("", name, f".{name}"), getattr(value, name)
    elif isinstance(value, (staticmethod, classmethod)):
        yield Hop("", "__func__", ".__func__"), value.__func__
    else:
        yield from _attribute_parts(value)


def _function_or_method(func: Any) -> Iterator[tuple[Hop, Any]]:
    yield Hop("", "__wrapped__", ""), func


def _attribute_parts(value: Any) -> Iterator[tuple[Hop, Any]]:
    names = list(getattr(value, "__dict__", ()))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
    for name in names:
        try:
            yield Hop("", name, f".{name}"), inspect.getattr_static(value, name)
        except AttributeError:
            continue  # a slot without a value
