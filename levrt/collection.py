"""Collections of documents, in PyMongo's terms."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from levrt._levrt import Cursor, Op

if TYPE_CHECKING:
    from levrt._levrt import Session

__all__ = ["Collection", "Find"]

_Query: TypeAlias = Mapping[str, Any] | None
_Projection: TypeAlias = Mapping[str, Any] | Sequence[str] | str | None
_Sort: TypeAlias = str | Sequence[str | tuple[str, int]] | Mapping[str, int]


class Collection:
    """A collection of the store, by name."""

    __slots__ = ("_name", "_session")

    def __init__(self, session: "Session", name: str) -> None:
        self._session = session
        self._name = name

    @property
    def name(self) -> str:
        """``namespace|…|<schema>``."""
        return self._name

    @property
    def collection_name(self) -> str:
        return self._name

    #: As the published documentation spells it.
    collaction_name = collection_name

    @property
    def full_name(self) -> str:
        """With the database's name before it."""
        return f"lev.{self._name}"

    def find_one(
        self, filter: _Query = None, projection: _Projection = None
    ) -> Op[dict[str, Any] | None]:
        """The first document that matches *filter*, or None.

        Raises QueryError for what MongoDB refuses, UnsupportedOperation for what
        the embedded store does not have.
        """
        return self._session.find_one(self._name, filter, projection)

    def find(
        self,
        filter: _Query = None,
        projection: _Projection = None,
        skip: int = 0,
        limit: int = 0,
        *,
        sort: _Sort | None = None,
        batch_size: int = 0,
    ) -> "Find":
        """The documents that match: ``async for doc in coll.find(…)``."""
        found = Find(self._session, self._name, filter, projection)
        found.skip(skip).limit(limit).batch_size(batch_size)
        return found if sort is None else found.sort(sort)

    def count_documents(self, filter: _Query = None) -> Op[int]:
        """How many documents match."""
        return self._session.count(self._name, filter)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Collection):
            return NotImplemented
        return (self._name, self._session) == (other._name, other._session)

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"Collection({self._name!r})"


class Find:
    """What a find asks for; iterating it asynchronously asks.

    ``sort``, ``skip``, ``limit`` and ``batch_size`` return the same object and
    may be called until the first document was asked for.
    """

    def __init__(
        self, session: "Session", name: str, query: _Query, projection: _Projection
    ) -> None:
        self._args = (session, name, query, projection)
        self._sort: dict[str, int] | None = None
        self._skip = 0
        self._limit = 0
        self._batch_size = 0
        self._cursor: Cursor | None = None
        self._batch: list[dict[str, Any]] = []  # the next one is the last
        self._ended = False

    def _not_begun(self) -> None:
        if self._cursor is not None:
            raise RuntimeError("the find has begun: it cannot be changed any more")

    def sort(self, key_or_list: _Sort, direction: int | None = None) -> Self:
        """By one key and direction (1, -1), or by a list of keys or pairs."""
        self._not_begun()
        self._sort = _sort_document(key_or_list, direction)
        return self

    def skip(self, skip: int) -> Self:
        self._not_begun()
        self._skip = _number("skip", skip)
        return self

    def limit(self, limit: int) -> Self:
        """At most so many; 0: all."""
        self._not_begun()
        self._limit = _number("limit", limit)
        return self

    def batch_size(self, batch_size: int) -> Self:
        """How many are fetched at once; 0: as many as suit."""
        self._not_begun()
        self._batch_size = _number("batch_size", batch_size)
        return self

    async def _fetch(self) -> None:
        if self._cursor is None:
            self._cursor = Cursor(*self._args, self._sort, self._skip, self._limit)
        batch = await self._cursor.next_batch(self._batch_size or 1000)
        batch.reverse()
        self._batch = batch
        self._ended = not batch

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if not self._batch and not self._ended:
            await self._fetch()
        if not self._batch:
            raise StopAsyncIteration
        return self._batch.pop()

    async def to_list(self, length: int | None = None) -> list[dict[str, Any]]:
        """The next *length* documents, or all."""
        if length is not None and _number("length", length) == 0:
            raise ValueError("length must be at least 1, or None for all")
        found: list[dict[str, Any]] = []
        async for doc in self:
            found.append(doc)
            if len(found) == length:
                break
        return found

    async def close(self) -> None:
        """Give up what has not been read."""
        self._batch = []
        self._ended = True


def _number(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, but is {value}")
    return value


def _sort_document(spec: _Sort, direction: int | None) -> dict[str, int]:
    pairs: list[tuple[str, int]] = []
    if isinstance(spec, str):
        pairs = [(spec, 1 if direction is None else direction)]
    elif direction is not None:
        raise TypeError("a direction goes with one key; give pairs (key, direction)")
    elif isinstance(spec, Mapping):
        pairs = list(spec.items())
    else:
        pairs = [(item, 1) if isinstance(item, str) else item for item in spec]
    if not pairs:
        raise ValueError("sort needs at least one key")
    return dict(pairs)
