"""The errors of levrt that exist in a container.

The workflow's `StoreError` and those below it, so that an entry can catch
what `lev.set` raises by the names it knows.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LevError(Exception):
    """The base of levrt's errors."""


class StoreError(LevError):
    """The store did not take it; earlier data is as it was."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or its disk is full or broken."""


class DocumentTooLarge(StoreError):
    """The document would pass what the store holds in one."""


class QueryError(StoreError):
    """The store does not understand it."""


class UnsupportedOperation(StoreError):
    """The store cannot do it."""


_ours = {
    error.__name__: error
    for error in (
        LevError,
        StoreError,
        StoreUnavailable,
        DocumentTooLarge,
        QueryError,
        UnsupportedOperation,
    )
}


def refusal(answer: "dict[str, Any]") -> Exception:
    """The exception that a {nak} names: one of ours, or a builtin one."""
    import builtins

    name = str(answer.get("type"))
    text = str(answer.get("text"))
    if name in _ours:
        return _ours[name](text)
    error = getattr(builtins, name, None)
    if isinstance(error, type) and issubclass(error, Exception):
        try:
            made: Exception = error(text)
            return made
        except TypeError:  # UnicodeError's children want more than a text
            pass
    return StoreError(f"{name}: {text}")
