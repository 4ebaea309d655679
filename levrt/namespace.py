"""``lev``: where a workflow's findings go, and what it stores itself."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from levrt._levrt import Document, Op, begin

if TYPE_CHECKING:
    from levrt.collection import Collection

__all__ = ["Lev", "Namespace", "lev"]

_log = logging.getLogger("lev")
# The namespaces that are active, outermost first.
_active: ContextVar[tuple["Namespace", ...]] = ContextVar("levrt.namespace", default=())


def namespace_prefix() -> str:
    """The current namespace as collections are named by it; "" at the root."""
    return "|".join(name for space in _active.get() for name in space._names)


def _own_collection() -> str:
    return namespace_prefix() or "_"


def _check_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a namespace's name must be str, not {type(name).__name__}")
    if not name or any(c in name for c in "|$\0"):
        raise ValueError(
            "a namespace's name must not be empty nor contain '|', '$' or NUL:"
            f" {name!r}"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"a namespace's name must be text, without lone surrogates: {name!r}"
        ) from None
    return name


class Namespace:
    """``lev / "a" / "b"``: entered with ``with``, as often as wanted."""

    __slots__ = ("_names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __truediv__(self, name: str) -> "Namespace":
        return Namespace((*self._names, _check_name(name)))

    def __enter__(self) -> Document:
        from levrt.session import current_job

        job = current_job()  # first: it raises outside of a loop
        _active.set((*_active.get(), self))
        return job.document(_own_collection())

    def __exit__(
        self,
        type_: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        active = list(_active.get())
        # The innermost one, mostly the last.
        for i in reversed(range(len(active))):
            if active[i] is self:
                del active[i]
                _active.set(tuple(active))
                return
        raise RuntimeError(f"{self!r} is left in a task that has not entered it")

    def __repr__(self) -> str:
        return " / ".join(["lev", *map(repr, self._names)])


class Lev:
    """Stores data, and names collections.

    In a container, ``lev.set`` stores into the run's document. In a workflow,
    ``with lev / "name":`` puts every run that is started inside into a collection
    ``name|<schema>``, and ``lev.set`` writes to the namespace's own document of
    this job, in the collection ``name`` (``_`` outside of any).
    """

    def __truediv__(self, name: str) -> Namespace:
        return Namespace((_check_name(name),))

    def set(
        self, data: Mapping[str, Any] | str | None = None, *args: Any, **kwargs: Any
    ) -> Op[None]:
        """Merge keys into the namespace's document, as MongoDB's ``$set``.

        ``lev.set({"a": 1})``, ``lev.set(a=1)`` and ``lev.set("a", 1)`` are the
        same; without a key nothing changes.

        The write starts at once, after those that began before it; awaiting the
        result waits until it is stored. The session ends only when all are.
        Raises TypeError or ValueError, naming the key's path, for what BSON cannot
        hold.
        """
        from levrt.session import current_job

        job = current_job()
        coll = _own_collection()
        op = begin(job.document(coll).set(data, *args, **kwargs))
        job.track(
            op, coll, [*([data] if isinstance(data, str) else data or ()), *kwargs]
        )
        return op

    def update(self, data: Mapping[str, Any], /, **kwargs: Any) -> Op[None]:
        """``set(data, **kwargs)``."""
        return self.set(data, **kwargs)

    @property
    def doc(self) -> Document:
        """The namespace's own document of this job."""
        from levrt.session import current_job

        return current_job().document(_own_collection())

    @property
    def coll(self) -> "Collection":
        """The collection of that document."""
        return self.doc.coll

    @property
    def job_id(self) -> str:
        """The session's id: 24 hexadecimal digits."""
        from levrt.session import current_job

        return current_job().session.id

    def progress(self, fraction: float, text: str | None = None) -> None:
        """Log how far the workflow is: *fraction* from 0 to 1.

        Raises TypeError or ValueError for another fraction, as in a container.
        """
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
            kind = type(fraction).__name__
            raise TypeError(f"lev.progress: fraction must be a number, not {kind}")
        if not 0 <= fraction <= 1:
            raise ValueError(
                f"lev.progress: fraction must be from 0 to 1, not {fraction!r}"
            )
        if text is not None and not isinstance(text, str):
            raise TypeError(
                f"lev.progress: text must be a str, not {type(text).__name__}"
            )
        _log.info("progress: %.4g%s", fraction, f" ({text})" if text else "")

    def __repr__(self) -> str:
        return "lev"


lev = Lev()
