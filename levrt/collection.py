"""Collections of documents, in PyMongo's terms."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from levrt._levrt import Cursor, ObjectId, Op
from levrt.errors import UnsupportedOperation
from levrt.results import (
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    UpdateResult,
)

if TYPE_CHECKING:
    from levrt._levrt import Session

__all__ = ["Aggregate", "Collection", "Find"]

_Query: TypeAlias = Mapping[str, Any] | None
_Filter: TypeAlias = Mapping[str, Any] | Any | None
_Projection: TypeAlias = Mapping[str, Any] | Sequence[str] | str | None
_Sort: TypeAlias = str | Sequence[str | tuple[str, int]] | Mapping[str, int]


class Collection:
    """A collection of the store, by name; ``doc.coll`` and ``lev.coll`` give it."""

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
        """The same as *name*."""
        return self._name

    # As the published documentation spells it.
    collaction_name = collection_name

    @property
    def full_name(self) -> str:
        """With the database's name before it."""
        return f"lev.{self._name}"

    def find_one(
        self, filter: _Filter = None, projection: _Projection = None
    ) -> Op[dict[str, Any] | None]:
        """The first document that matches *filter*, or None.

        *filter*: a query, or the value of an ``_id``.

        Raises QueryError for what MongoDB refuses, UnsupportedOperation for what
        the embedded store does not have.
        """
        if filter is not None and not isinstance(filter, Mapping):
            filter = {"_id": filter}
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
        """The documents that match: ``async for doc in coll.find(…)``.

        *filter* and *projection*: MongoDB's; a projection may be a list of names,
        or one. *skip*: so many are left out; *limit*: at most so many, 0 for all.
        *sort*: a key, a mapping, or a list of keys and pairs (key, 1 or -1).
        *batch_size*: how many are fetched at once, 0 for as many as suit.

        Raises TypeError or ValueError for these; iterating raises QueryError for
        what MongoDB refuses, UnsupportedOperation for what the embedded store does
        not have, StoreError.
        """
        found = Find(self._session, self._name, filter, projection)
        found.skip(skip).limit(limit).batch_size(batch_size)
        return found if sort is None else found.sort(sort)

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> "Aggregate":
        """What the stages of *pipeline* make of the documents.

        ``async for doc in await coll.aggregate([{"$match": …}, {"$group": …}])``.
        Iterating raises QueryError for what MongoDB refuses, UnsupportedOperation
        for stages and expressions that the embedded store does not have.
        """
        return Aggregate(self._session, self._name, pipeline)

    def count_documents(self, filter: _Query = None) -> Op[int]:
        """How many documents match *filter*; None: how many there are.

        Raises as find_one() does.
        """
        return self._session.count(self._name, filter)

    def estimated_document_count(self) -> Op[int]:
        """How many documents there are."""
        return self._session.count(self._name)

    async def insert_one(self, document: Mapping[str, Any]) -> InsertOneResult:
        """Add a document; one without ``_id`` gets an ObjectId (in the store: the
        mapping stays as it is).

        Raises QueryError 11000 when its ``_id`` is there already, DocumentTooLarge.
        """
        complete = _with_id("document", document)
        await self._session.insert(self._name, [complete])
        return InsertOneResult(complete["_id"])

    async def insert_many(
        self, documents: Iterable[Mapping[str, Any]]
    ) -> InsertManyResult:
        """Add documents in their order, as insert_one() does.

        When one fails, none is there on the embedded store; on MongoDB those before
        it are.
        """
        if isinstance(documents, (Mapping, str, bytes)):
            raise TypeError(
                f"documents must be a list, not {type(documents).__name__}; a single"
                " one goes to insert_one()"
            )
        complete = [_with_id("a document", doc) for doc in documents]
        if not complete:
            raise ValueError("documents must not be empty")
        await self._session.insert(self._name, complete)
        return InsertManyResult([doc["_id"] for doc in complete])

    async def update_one(
        self, filter: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False
    ) -> UpdateResult:
        """Change the first document that matches, by MongoDB's update operators.

        *upsert*: where none matches, add one made of *filter* and *update*.

        Raises ValueError for an *update* without operators; otherwise as find_one().
        """
        return await self._update(filter, _operators(update), upsert, False)

    async def update_many(
        self, filter: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False
    ) -> UpdateResult:
        """Change every document that matches; see update_one()."""
        return await self._update(filter, _operators(update), upsert, True)

    async def replace_one(
        self,
        filter: Mapping[str, Any],
        replacement: Mapping[str, Any],
        upsert: bool = False,
    ) -> UpdateResult:
        """Put *replacement* in the place of the first document that matches.

        Its ``_id`` stays. Raises ValueError for a *replacement* with operators.
        """
        _mapping("replacement", replacement)
        if next(iter(replacement), "").startswith("$"):
            raise ValueError(
                "replacement must be a document, not operators: see update_one()"
            )
        return await self._update(filter, replacement, upsert, False)

    async def delete_one(self, filter: Mapping[str, Any]) -> DeleteResult:
        """Take away the first document that matches; raises as find_one()."""
        return DeleteResult(await self._session.delete(self._name, filter))

    async def delete_many(self, filter: Mapping[str, Any]) -> DeleteResult:
        """Take away every document that matches; raises as find_one()."""
        n = await self._session.delete(self._name, filter, multi=True)
        return DeleteResult(n)

    async def _update(
        self,
        filter: Mapping[str, Any],
        update: Mapping[str, Any],
        upsert: bool,
        multi: bool,
    ) -> UpdateResult:
        op = self._session.update(
            self._name, filter, update, upsert=upsert, multi=multi
        )
        return UpdateResult(*await op)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Collection):
            return NotImplemented
        return (self._name, self._session) == (other._name, other._session)

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"Collection({self._name!r})"


class _Documents:
    """Documents that are fetched batch by batch: an asynchronous iterator."""

    def __init__(self) -> None:
        self._batch_size = 0
        self._cursor: Cursor | None = None  # None at the end
        self._batch: list[dict[str, Any]] = []  # the next one is the last

    async def _fetch(self) -> None:
        if self._cursor is None:
            return
        batch = await self._cursor.next_batch(self._batch_size or 1000)
        batch.reverse()
        self._batch = batch
        if not batch:
            self._cursor = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if not self._batch:
            await self._fetch()
        if not self._batch:
            raise StopAsyncIteration
        return self._batch.pop()

    async def to_list(self, length: int | None = None) -> list[dict[str, Any]]:
        """The next *length* documents, or all; errors as iterating has them."""
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
        self._cursor = None


class Aggregate(_Documents):
    """The documents that a pipeline makes; see Collection.aggregate()."""

    def __init__(
        self, session: "Session", name: str, pipeline: Sequence[Mapping[str, Any]]
    ) -> None:
        super().__init__()
        self._cursor = Cursor(session, name, pipeline=pipeline)


class Find(_Documents):
    """What a find asks for; iterating it asynchronously asks.

    ``sort``, ``skip``, ``limit`` and ``batch_size`` return the same object and
    may be called until the first document was asked for.
    """

    def __init__(
        self, session: "Session", name: str, query: _Query, projection: _Projection
    ) -> None:
        super().__init__()
        self._args = (session, name, query, projection)
        self._sort: dict[str, int] | None = None
        self._skip = 0
        self._limit = 0
        self._begun = False

    def _not_begun(self) -> None:
        if self._begun:
            raise RuntimeError("the find has begun: it cannot be changed any more")

    def sort(self, key_or_list: _Sort, direction: int | None = None) -> Self:
        """By one key and direction (1, -1), or by a list of keys or pairs.

        Raises TypeError or ValueError for anything else, RuntimeError when the
        find has begun (so do the other three).
        """
        self._not_begun()
        self._sort = _sort_document(key_or_list, direction)
        return self

    def skip(self, skip: int) -> Self:
        """Leave so many out at the beginning."""
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
        if not self._begun:
            self._cursor = Cursor(*self._args, self._sort, self._skip, self._limit)
            self._begun = True
        await super()._fetch()

    async def close(self) -> None:
        """Give up what has not been read."""
        self._begun = True
        await super().close()


def _mapping(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")


def _with_id(name: str, document: Mapping[str, Any]) -> Mapping[str, Any]:
    _mapping(name, document)
    return document if "_id" in document else {"_id": ObjectId(), **document}


def _operators(update: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(update, (list, tuple)):
        raise UnsupportedOperation("update: pipelines are not supported; use operators")
    _mapping("update", update)
    if not next(iter(update), "").startswith("$"):
        raise ValueError(
            "update must be of operators ($set, …); a whole document goes to"
            " replace_one()"
        )
    return update


def _number(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, but is {value}")
    return value


def _sort_document(spec: _Sort, direction: int | None) -> dict[str, int]:
    items: list[Any]
    if isinstance(spec, str):
        items = [(spec, 1 if direction is None else direction)]
    elif direction is not None:
        raise TypeError("sort: a direction goes with one key; give pairs of both")
    elif isinstance(spec, Mapping):
        items = list(spec.items())
    elif isinstance(spec, (list, tuple)):
        items = list(spec)
    else:
        raise TypeError(
            "sort must be a key, a mapping, or a list of keys or pairs (key,"
            f" direction), not {type(spec).__name__}"
        )
    found: dict[str, int] = {}
    for item in items:
        key, way = _sort_pair(item)
        if key in found:
            raise ValueError(f"sort: the key {key!r} comes twice")
        found[key] = way
    if not found:
        raise ValueError("sort needs at least one key")
    return found


def _sort_pair(item: object) -> tuple[str, int]:
    if isinstance(item, str):
        return item, 1
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"sort: {item!r} is neither a key nor a pair (key, direction)")
    key, way = item
    if not isinstance(key, str):
        raise TypeError(f"sort: a key must be str, not {type(key).__name__}")
    if isinstance(way, bool) or way not in (1, -1):
        raise ValueError(f"sort: the direction of {key!r} must be 1 or -1, not {way!r}")
    return key, int(way)
