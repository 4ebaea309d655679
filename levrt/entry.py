"""``@levrt.remote``: a function that runs inside a container.

The decorated function is not run by a call: the call captures the arguments,
checks them against the signature and gives a `RemoteCall`, which `Cr` takes as
its `entry`. Pickling waits until a run starts, so that a description is cheap
and a closure goes along as it is then.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, overload

P = ParamSpec("P")

Python: TypeAlias = Literal["bundle", "image"]


class RemoteCall:
    """An entry with its arguments: what runs in the container.

    Immutable; one call may be the entry of any number of runs.
    """

    __slots__ = ("args", "func", "kwargs", "name", "python")

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        python: Python,
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        #: What the container's ``sys.argv[0]`` is.
        self.name: str = func.__name__
        #: Whose interpreter runs it: the runtime bundle's or the image's own.
        self.python: Python = python

    def payload(self) -> bytes:
        """The closure, pickled now.

        Raises pickle.PicklingError, naming the variable and the way to it,
        when something that it closes over cannot be pickled.
        """
        from .closure import dump

        return dump(self.func, self.args, self.kwargs)

    def __repr__(self) -> str:
        return f"<remote call of {self.name}>"


class RemoteFunction(Generic[P]):
    """A function decorated by `remote`; `__wrapped__` is the function itself."""

    __name__: str
    __wrapped__: Callable[P, Any]

    def __init__(self, func: Callable[P, Any], python: Python) -> None:
        functools.update_wrapper(self, func)
        self._python: Python = python
        self._signature = inspect.signature(func)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> RemoteCall:
        """Captures the arguments; TypeError when they do not fit."""
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as e:
            raise TypeError(f"{self.__name__}(): {e}") from None
        return RemoteCall(self.__wrapped__, args, kwargs, self._python)

    def __get__(self, instance: Any, owner: type | None = None) -> RemoteFunction[...]:
        if instance is None:
            return self
        bound = types.MethodType(self.__wrapped__, instance)
        return RemoteFunction(bound, self._python)

    def __repr__(self) -> str:
        return f"<remote function {self.__name__}>"


@overload
def remote(func: Callable[P, Any], /) -> RemoteFunction[P]: ...
@overload
def remote(
    *, python: Python = "bundle"
) -> Callable[[Callable[P, Any]], RemoteFunction[P]]: ...


def remote(func: Any = None, /, *, python: Any = "bundle") -> Any:
    """Makes a function, plain or ``async def``, run inside a container.

    ``@levrt.remote`` runs it on the workflow's own Python, which goes along;
    ``@levrt.remote(python="image")`` on the image's, which must be of the same
    minor version, for packages with compiled modules that only the image has.
    """
    if python not in ("bundle", "image"):
        raise ValueError(f'remote: python must be "bundle" or "image", not {python!r}')
    if func is None:
        return functools.partial(_decorate, python=python)
    return _decorate(func, python)


def _decorate(func: Any, python: Python) -> RemoteFunction[...]:
    if isinstance(func, RemoteFunction):
        raise TypeError(f"remote: {func.__name__} is a remote function already")
    if not isinstance(func, (types.FunctionType, types.MethodType)):
        raise TypeError(
            "remote: expected a function (def, async def or lambda), not"
            f" {type(func).__name__}"
        )
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(
            f"remote: {func.__name__} is a generator (it has a yield): calling it in"
            " the container would run nothing of it"
        )
    return RemoteFunction(func, python)
