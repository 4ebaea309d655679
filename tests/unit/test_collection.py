"""Collections: find and its cursor, one and count, in PyMongo's terms."""

import asyncio
import collections
import types

import pytest

from levrt import Collection, ObjectId, QueryError, UnsupportedOperation, lev
from levrt._levrt import Cursor, Session

pytestmark = pytest.mark.usefixtures("each_store")

DOCS = [
    {"_id": n, "n": n, "even": n % 2 == 0, "name": f"d{n:03}", "in": {"a": n, "b": -n}}
    for n in range(100)
]


@pytest.fixture
def filled(run):
    """Runs a coroutine function with a collection that holds DOCS."""

    def with_collection(main):
        async def filled_main():
            coll = lev.coll
            await coll._session.insert(coll.name, DOCS)
            return await main(coll)

        return run(filled_main())

    return with_collection


# ---- aggregate ----


def test_aggregate(filled):
    stages = [
        {"$match": {"n": {"$lt": 10}}},
        {"$group": {"_id": "$even", "sum": {"$sum": "$n"}, "most": {"$max": "$n"}}},
        {"$sort": {"_id": 1}},
    ]

    async def main(coll):
        found = await coll.aggregate(stages)
        assert [doc async for doc in found] == [
            {"_id": False, "sum": 25, "most": 9},
            {"_id": True, "sum": 20, "most": 8},
        ]
        assert await (await coll.aggregate(())).to_list(3) == DOCS[:3]
        assert len(await (await coll.aggregate([])).to_list()) == len(DOCS)
        left = await coll.aggregate([])
        await left.close()
        assert await left.to_list() == []

    filled(main)


def test_pipelines_that_are_refused(filled):
    async def main(coll):
        for wrong in ["$match", {"$match": {}}, 3, {1}]:
            with pytest.raises(TypeError, match="pipeline must be a list of stages"):
                await coll.aggregate(wrong)
        with pytest.raises(TypeError, match=r"pipeline.*0"):
            await coll.aggregate([object()])
        with pytest.raises(QueryError):
            await (await coll.aggregate([{"$nonsense": 1}])).to_list()

    filled(main)


@pytest.mark.embedded
def test_stages_that_the_embedded_store_has_not(filled):
    async def main(coll):
        found = await coll.aggregate([{"$geoNear": {}}])
        with pytest.raises(UnsupportedOperation, match="geoNear"):
            await found.to_list()

    filled(main)


# ---- the collection ----


def test_names(run):
    async def main():
        with lev / "a" / "b":
            return lev.coll

    coll = run(main())
    assert coll.name == coll.collection_name == coll.collaction_name == "a|b"
    assert coll.full_name == "lev.a|b"
    assert repr(coll) == "Collection('a|b')"


def test_equality(run):
    async def main():
        with lev / "a":
            a, again = lev.coll, lev.coll
        assert a == again and hash(a) == hash(again) and a is not again
        assert a != lev.coll
        assert a != Collection(None, "a")
        assert a != "a"

    run(main())


def test_one(filled):
    async def main(coll):
        assert await coll.find_one() == DOCS[0]
        assert await coll.find_one({"n": 7}) == DOCS[7]
        assert await coll.find_one(7) == DOCS[7]
        assert await coll.find_one({"n": 700}) is None
        assert await coll.find_one(ObjectId()) is None
        assert await coll.find_one({"n": 7}, ["name"]) == {"_id": 7, "name": "d007"}
        assert await coll.find_one(filter={"n": 7}, projection={"_id": 0, "n": 1}) == {
            "n": 7
        }

    filled(main)


def test_count(filled):
    async def main(coll):
        assert await coll.count_documents() == 100
        assert await coll.count_documents({}) == 100
        assert await coll.count_documents({"even": True, "n": {"$lt": 10}}) == 5
        assert await coll.count_documents({"n": -1}) == 0

    filled(main)


def test_a_collection_that_does_not_exist(run):
    async def main():
        coll = Collection(lev.coll._session, "nowhere")
        assert await coll.find_one() is None
        assert await coll.find().to_list() == []
        assert await coll.count_documents() == 0
        assert await coll._session.collections() == []  # not made by asking

    run(main())


@pytest.mark.parametrize(
    "mapping",
    [
        collections.OrderedDict(n=3),
        collections.UserDict(n=3),
        collections.ChainMap({"n": 3}, {"n": 4}),
        types.MappingProxyType({"n": 3}),
    ],
)
def test_any_mapping_is_a_filter(filled, mapping):
    async def main(coll):
        assert await coll.find_one(mapping) == DOCS[3]
        assert await coll.find(mapping).to_list() == [DOCS[3]]
        assert await coll.count_documents(mapping) == 1

    filled(main)


# ---- find ----


def test_iteration(filled):
    async def main(coll):
        assert [doc async for doc in coll.find()] == DOCS
        assert [d["n"] async for d in coll.find({"n": {"$gte": 97}})] == [97, 98, 99]
        assert [d async for d in coll.find({"n": 5}, ["n"])] == [{"_id": 5, "n": 5}]

    filled(main)


@pytest.mark.parametrize("size", [0, 1, 7, 50, 99, 100, 101])
def test_batches(filled, size):
    async def main(coll):
        found = coll.find().batch_size(size)
        assert [doc["n"] async for doc in found] == list(range(100))
        found = coll.find(sort=[("n", -1)], batch_size=size, limit=60, skip=30)
        assert [doc["n"] async for doc in found] == list(range(69, 9, -1))

    filled(main)


def test_chain(filled):
    async def main(coll):
        found = coll.find({"even": True})
        assert found.sort("n", -1) is found
        assert found.skip(10) is found
        assert found.limit(3) is found
        assert found.batch_size(2) is found
        assert [doc["n"] async for doc in found] == [78, 76, 74]

    filled(main)


@pytest.mark.parametrize(
    ("args", "first"),
    [
        (("n",), 0),
        (("n", 1), 0),
        (("n", -1), 99),
        ((["n"],), 0),
        (([("n", -1)],), 99),
        (((("n", -1),),), 99),
        (([["n", -1]],), 99),
        (([("even", 1), ("n", -1)],), 99),
        ((["even", ("n", -1)],), 99),
        (({"even": -1, "n": -1},), 98),
        (([("in.b", 1)],), 99),
        (([("n", -1.0)],), 99),
    ],
)
def test_sort(filled, args, first):
    async def main(coll):
        docs = await coll.find().sort(*args).to_list(1)
        assert docs == [DOCS[first]]

    filled(main)


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        ((5,), TypeError, "sort must be a key, a mapping, or a list"),
        ((None,), TypeError, "sort must be a key, a mapping, or a list"),
        (([],), ValueError, "sort needs at least one key"),
        (({},), ValueError, "sort needs at least one key"),
        (([5],), TypeError, "sort: 5 is neither a key nor a pair"),
        (([("n",)],), TypeError, "is neither a key nor a pair (key, direction)"),
        (([(5, 1)],), TypeError, "sort: a key must be str, not int"),
        (([("n", 0)],), ValueError, "the direction of 'n' must be 1 or -1, not 0"),
        (([("n", "desc")],), ValueError, "must be 1 or -1, not 'desc'"),
        (([("n", True)],), ValueError, "must be 1 or -1, not True"),
        (("n", 2), ValueError, "the direction of 'n' must be 1 or -1, not 2"),
        (([("n", 1)], -1), TypeError, "a direction goes with one key"),
        (([("n", 1), ("n", -1)],), ValueError, "the key 'n' comes twice"),
    ],
)
def test_wrong_sorts(run, args, kind, text):
    async def main():
        with pytest.raises(kind) as caught:
            lev.coll.find().sort(*args)
        assert text in str(caught.value)

    run(main())


@pytest.mark.parametrize("name", ["skip", "limit", "batch_size"])
@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (-1, ValueError, "must not be negative, but is -1"),
        ("1", TypeError, "must be int, not str"),
        (1.0, TypeError, "must be int, not float"),
        (None, TypeError, "must be int, not NoneType"),
        (True, TypeError, "must be int, not bool"),
    ],
)
def test_wrong_numbers(run, name, value, kind, text):
    async def main():
        with pytest.raises(kind, match=f"^{name} {text}$"):
            getattr(lev.coll.find(), name)(value)
        with pytest.raises(kind, match=f"^{name} {text}$"):
            lev.coll.find(**{name: value})

    run(main())


@pytest.mark.embedded
def test_numbers_beyond_the_store(filled):
    async def main(coll):
        assert await coll.find().skip(2**62).to_list() == []
        assert await coll.find().limit(2**62).to_list() == DOCS
        with pytest.raises(OverflowError):
            await coll.find().skip(2**64).to_list()
        with pytest.raises(ValueError, match="a batch has 1 to 1000000 documents"):
            await coll.find().batch_size(2**40).to_list()

    filled(main)


def test_to_list(filled):
    async def main(coll):
        assert await coll.find().to_list() == DOCS
        assert await coll.find().to_list(None) == DOCS
        found = coll.find()
        assert await found.to_list(30) == DOCS[:30]
        assert await found.to_list(length=60) == DOCS[30:90]
        assert await found.to_list(60) == DOCS[90:]
        assert await found.to_list(60) == []
        for wrong, kind in [(0, ValueError), (-1, ValueError), ("1", TypeError)]:
            with pytest.raises(kind, match="length"):
                await coll.find().to_list(wrong)

    filled(main)


def test_iterators_share_the_cursor(filled):
    async def main(coll):
        found = coll.find().batch_size(5)
        async for doc in found:
            if doc["n"] == 41:
                break
        assert await anext(found) == DOCS[42]
        assert [doc["n"] async for doc in found] == list(range(43, 100))
        with pytest.raises(StopAsyncIteration):
            await anext(found)

    filled(main)


def test_it_cannot_be_changed_once_it_has_begun(filled):
    async def main(coll):
        for end in [False, True]:
            found = coll.find()
            await (found.to_list() if end else anext(found))
            for change in [
                lambda: found.sort("n"),  # noqa: B023
                lambda: found.skip(1),  # noqa: B023
                lambda: found.limit(1),  # noqa: B023
                lambda: found.batch_size(1),  # noqa: B023
            ]:
                with pytest.raises(RuntimeError, match="the find has begun"):
                    change()

    filled(main)


def test_close(filled):
    async def main(coll):
        found = coll.find().batch_size(10)
        await anext(found)
        await found.close()
        await found.close()
        assert [doc async for doc in found] == []
        unused = coll.find()
        await unused.close()
        assert await unused.to_list() == []
        with pytest.raises(RuntimeError, match="has begun"):
            unused.skip(1)

    filled(main)


def test_read_by_two_tasks_at_once(filled):
    """One of the two is told; nothing is read twice."""

    async def main(coll):
        found = coll.find().batch_size(1)
        outcomes = await asyncio.gather(
            *(anext(found) for _ in range(20)), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, RuntimeError)
                assert "being read already" in str(outcome)
        docs = [o["n"] for o in outcomes if isinstance(o, dict)]
        assert docs and len(set(docs)) == len(docs)

    filled(main)


def test_documents_written_meanwhile(filled):
    """None comes twice, none is torn."""

    async def main(coll):
        seen = []
        async for doc in coll.find().batch_size(3):
            seen.append(doc["_id"])
            assert doc["n"] in (doc["_id"], "new")
            await coll._session.update(
                coll.name, {"_id": doc["_id"]}, {"$set": {"n": "new", "pad": "x" * 500}}
            )
        assert seen == list(range(100))

    filled(main)


def test_cancelled_and_read_on(filled):
    async def main(coll):
        found = coll.find().batch_size(10)
        first = [await anext(found) for _ in range(10)]
        task = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rest = [doc["n"] async for doc in found]
        assert [d["n"] for d in first] == list(range(10))
        assert rest == sorted(set(rest)) and not set(rest) & set(range(10))

    filled(main)


# ---- refused ----


@pytest.mark.parametrize("wrong", ["x", b"x", [("n", 1)], ("n", 1), 5])
def test_filters_that_are_no_mapping(filled, wrong):
    async def main(coll):
        text = f"filter must be a mapping, not {type(wrong).__name__}"
        with pytest.raises(TypeError, match=text):
            await coll.find(wrong).to_list()
        with pytest.raises(TypeError, match=text):
            coll.count_documents(wrong)
        with pytest.raises(TypeError, match=text):
            coll._session.find_one(coll.name, wrong)

    filled(main)


@pytest.mark.parametrize(
    ("projection", "kind", "text"),
    [
        (5, TypeError, "projection must be a mapping, not int"),
        (b"n", TypeError, "projection must be a mapping, not bytes"),
        ({"n"}, TypeError, "projection must be a mapping, not set"),
        ([5], TypeError, "a projection's names must be str, not int"),
        (["n\0"], ValueError, "a projection's names must not contain NUL"),
        ("n\0", ValueError, "a projection's names must not contain NUL"),
        ({"n": object()}, TypeError, "n"),
        pytest.param({"n": 1, "even": 0}, QueryError, "n", id="mixed"),
    ],
)
def test_wrong_projections(filled, projection, kind, text):
    async def main(coll):
        with pytest.raises(kind) as one:
            await coll.find_one({}, projection)
        with pytest.raises(kind) as many:
            await coll.find({}, projection).to_list()
        assert text in str(one.value) and text in str(many.value)

    filled(main)


def test_projections(filled):
    async def main(coll):
        async def find(projection):
            one = await coll.find_one({"n": 1}, projection)
            assert await coll.find({"n": 1}, projection).to_list() == [one]
            return one

        assert await find(None) == DOCS[1]
        assert await find({}) == DOCS[1]
        assert await find([]) == {"_id": 1}
        assert await find("name") == {"_id": 1, "name": "d001"}
        assert await find(("n", "in.a")) == {"_id": 1, "n": 1, "in": {"a": 1}}
        assert await find({"in": 0, "name": 0}) == {"_id": 1, "n": 1, "even": False}
        assert await find({"_id": 0, "in.b": 1}) == {"in": {"b": -1}}

    filled(main)


@pytest.mark.parametrize(
    ("query", "kind", "code"),
    [
        ({"n": {"$in": 5}}, QueryError, 2),
        ({"$and": []}, QueryError, 2),
        ({"n": {"$near": [0, 0]}}, UnsupportedOperation, None),
    ],
)
@pytest.mark.embedded
def test_queries_that_the_store_refuses(filled, query, kind, code):
    async def main(coll):
        with pytest.raises(kind) as one:
            await coll.find_one(query)
        with pytest.raises(kind):
            await coll.find(query).to_list()
        with pytest.raises(kind):
            await coll.count_documents(query)
        assert getattr(one.value, "code", None) == code
        assert await coll.count_documents() == 100  # it goes on

    filled(main)


# ---- the parts below ----


def test_cursor_and_session_are_whole_or_not_at_all(run):
    with pytest.raises(TypeError):
        Cursor.__new__(Cursor)
    with pytest.raises(TypeError):
        Session.__new__(Session)
    with pytest.raises(TypeError):
        Cursor("session", "c")

    async def main():
        session = lev.coll._session
        for kwargs in [{"skip": -1}, {"limit": -1}]:
            with pytest.raises(ValueError, match="must not be negative"):
                Cursor(session, "c", **kwargs)
        cursor = Cursor(session, "c")
        for size in [0, -1, 10**7]:
            with pytest.raises(ValueError, match="a batch has 1 to 1000000"):
                cursor.next_batch(size)
        with pytest.raises(TypeError):
            cursor.next_batch("1")
        op = cursor.next_batch(5)
        assert await op == []
        assert await cursor.next_batch(5) == []  # while `op` is still there

    run(main())


def test_session_refuses(run, each_store):
    async def main():
        session = lev.coll._session
        with pytest.raises(TypeError, match="query must be a mapping, not NoneType"):
            session.update("c", None, {"$set": {"a": 1}})
        with pytest.raises(TypeError, match="update must be a mapping, not NoneType"):
            session.update("c", {}, None)
        with pytest.raises(TypeError, match="a document must be a mapping, not None"):
            session.insert("c", [{"a": 1}, None])
        with pytest.raises(TypeError, match="documents must be a list"):
            session.insert("c", 5)
        with pytest.raises(TypeError, match="oid must be ObjectId, not str"):
            session.document("c", "0" * 24)
        with pytest.raises(ValueError, match="null"):
            session.find_one("c\0d")
        with pytest.raises(QueryError) as caught:
            await session.insert("c", [{"_id": 1}, {"_id": 2}, {"_id": 1}])
        assert caught.value.code == 11000
        # All or none; without transactions: those before.
        assert await session.count("c") == (0 if each_store == "sqlite" else 2)
        with pytest.raises(QueryError, match="one document at least"):
            await session.insert("c", [])
        assert (await session.update("d", {}, {"$set": {"a": 1}})) == (0, 0, None)

    run(main())
