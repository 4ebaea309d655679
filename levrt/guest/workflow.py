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


def placeholder(name: str) -> type:
    if name in _EXCEPTIONS:
        from levrt.guest.errors import LevError

        return type(name, (LevError,), {"__module__": "levrt"})
    return _OnlyInWorkflow(name, (), {"__module__": "levrt"})
