"""Names of the workflow, as a container has them: there, and out of use."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

# The type of a value of Cr's `files`, for annotations.
File = bytes | str | os.PathLike[str]

# Names that modules catch or derive from: they must be exceptions.
_EXCEPTIONS = {
    "Conflict",
    "DeadlineExceeded",
    "EngineError",
    "EngineUnavailable",
    "ImageError",
    "ImageNotFound",
    "NotFound",
    "OutOfMemory",
    "PullError",
    "ReadinessTimeout",
    "RemoteError",
    "StartFailed",
    "TaskFailed",
    "UnsupportedOption",
}


def remote(func: "Any" = None, *, python: "str | None" = None) -> "Any":
    """An entry is a plain function here: calling it runs it."""

    def same(function: "F") -> "F":
        return function

    return same if func is None else func


class _OnlyInWorkflow(type):
    """Placeholders are classes: they serve as annotations and in isinstance."""

    def __call__(cls, *args: object, **kwargs: object) -> "NoReturn":
        raise _misuse(cls.__name__)

    def __getattr__(cls, name: str) -> "NoReturn":
        if name.startswith("__"):  # asked for by typing, inspect, copy …
            raise AttributeError(name)
        raise _misuse(f"{cls.__name__}.{name}")


def _misuse(what: str) -> RuntimeError:
    return RuntimeError(
        f"levrt.{what} is there in the workflow only, not inside of a container"
    )


class _Submodule(type(os)):  # type: ignore[misc]
    """A module of levrt, as ``levrt.errors``: its names are those of levrt."""

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):
            raise AttributeError(name)
        import levrt

        value = vars(levrt).get(name)
        if value is None or isinstance(value, _Submodule):
            value = levrt.__getattr__(name)
        return value

    def __call__(self, *args: object, **kwargs: object) -> "Any":
        """Importing it has hidden what levrt has under that name: ``remote``."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Loader:
    def create_module(self, spec: "Any") -> "Any":
        return _Submodule(spec.name)

    def exec_module(self, module: object) -> None:
        """There is nothing in it."""


def submodule_spec(name: str) -> "Any":
    from importlib.machinery import ModuleSpec

    loader: Any = _Loader()
    return ModuleSpec(name, loader, is_package=True)


def placeholder(name: str) -> type:
    if name in _EXCEPTIONS:
        from levrt.guest.errors import LevError

        return type(name, (LevError,), {"__module__": "levrt"})
    return _OnlyInWorkflow(name, (), {"__module__": "levrt"})
