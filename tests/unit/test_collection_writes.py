"""Collections: what inserts, updates and deletes do and answer, on both stores."""

import asyncio

import pytest

from levrt import ObjectId, QueryError, UnsupportedOperation, lev
from levrt.results import DeleteResult, UpdateResult

pytestmark = pytest.mark.usefixtures("each_store")


async def found(coll, query=None):
    return await coll.find(query, sort="_id").to_list()


def test_insert_one(run):
    async def main():
        coll, doc = lev.coll, {"a": 1}
        made = await coll.insert_one(doc)
        assert isinstance(made.inserted_id, ObjectId) and made.acknowledged
        assert doc == {"a": 1}  # not PyMongo's way: it is the caller's
        assert await coll.find_one(made.inserted_id) == {
            "_id": made.inserted_id,
            "a": 1,
        }
        assert (await coll.insert_one({"_id": None})).inserted_id is None
        with pytest.raises(QueryError) as caught:
            await coll.insert_one({"_id": made.inserted_id})
        assert caught.value.code == 11000
        assert await coll.estimated_document_count() == 2

    run(main())


def test_insert_many(run, each_store):
    async def main():
        coll = lev.coll
        made = await coll.insert_many({"_id": n} for n in range(3))
        assert made.inserted_ids == [0, 1, 2]
        made = await coll.insert_many([{"x": 1}, {"x": 2}])
        docs = [await coll.find_one(oid) for oid in made.inserted_ids]
        assert [doc["x"] for doc in docs] == [1, 2]
        with pytest.raises(QueryError):
            await coll.insert_many([{"_id": 7}, {"_id": 0}, {"_id": 8}])
        before = await coll.count_documents({"_id": 7})
        assert before == (0 if each_store == "sqlite" else 1)
        assert await coll.count_documents({"_id": 8}) == 0

    run(main())


def test_updates(run):
    async def main():
        coll = lev.coll
        await coll.insert_many([{"_id": n, "k": n % 2} for n in range(4)])
        assert await coll.update_one({"k": 1}, {"$set": {"v": 1}}) == UpdateResult(
            1, 1, None
        )
        assert await coll.update_many({"k": 1}, {"$set": {"v": 1}}) == UpdateResult(
            2, 1, None
        )
        assert await found(coll, {"v": 1}) == [
            {"_id": 1, "k": 1, "v": 1},
            {"_id": 3, "k": 1, "v": 1},
        ]
        assert await coll.update_one({"_id": 9}, {"$set": {"k": 9}}) == UpdateResult(
            0, 0, None
        )
        made = await coll.update_one({"_id": 9}, {"$set": {"k": 9}}, upsert=True)
        assert made == UpdateResult(0, 0, 9)
        assert await coll.update_one({"_id": 9}, {"$inc": {"k": 2}}) == UpdateResult(
            1, 1, None
        )
        assert await found(coll, {"_id": 9}) == [{"_id": 9, "k": 11}]
        with pytest.raises(QueryError):
            await coll.update_one({"_id": 9}, {"$set": {"_id": 10}})

    run(main())


def test_replace_one(run):
    async def main():
        coll = lev.coll
        await coll.insert_one({"_id": 1, "a": 1})
        assert await coll.replace_one({"a": 1}, {"b": 2}) == UpdateResult(1, 1, None)
        assert await found(coll) == [{"_id": 1, "b": 2}]
        assert await coll.replace_one({"a": 1}, {"b": 3}) == UpdateResult(0, 0, None)
        made = await coll.replace_one({"_id": 5}, {"b": 3}, upsert=True)
        assert made.upserted_id == 5
        assert await found(coll, {"_id": 5}) == [{"_id": 5, "b": 3}]
        await coll.replace_one({"_id": 5}, {})
        assert await found(coll, {"_id": 5}) == [{"_id": 5}]

    run(main())


def test_deletes(run):
    async def main():
        coll = lev.coll
        assert await coll.delete_many({}) == DeleteResult(0)  # no such collection
        await coll.insert_many([{"_id": n, "k": n % 2} for n in range(10)])
        assert await coll.delete_one({"k": 1}) == DeleteResult(1)
        assert await coll.delete_one({"_id": 1}) == DeleteResult(0)
        assert await coll.delete_one({"_id": 0}) == DeleteResult(1)
        assert [doc["_id"] for doc in await found(coll)] == list(range(2, 10))
        assert await coll.delete_many({"k": 1}) == DeleteResult(4)
        assert [doc["_id"] for doc in await found(coll)] == [2, 4, 6, 8]
        assert await coll.delete_many({}) == DeleteResult(4)
        assert await coll.count_documents() == 0
        await coll.insert_one({"_id": 0, "new": True})  # its key is free again
        assert await found(coll) == [{"_id": 0, "new": True}]

    run(main())


def test_deletes_while_a_cursor_is_open(run):
    """Nothing comes twice, and what stays all comes."""

    async def main():
        coll = lev.coll
        await coll.insert_many([{"_id": n} for n in range(100)])
        cursor, seen = coll.find(batch_size=10), []
        async for doc in cursor:
            seen.append(doc["_id"])
            if len(seen) == 10:
                await coll.delete_many({"_id": {"$gte": 5, "$lt": 95}})
        assert len(seen) == len(set(seen))
        assert set(seen) >= {*range(10), *range(95, 100)}

    run(main())


def test_many_tasks(run):
    async def main():
        coll = lev.coll
        await coll.insert_one({"_id": 0, "n": 0})
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(coll.update_one({"_id": 0}, {"$inc": {"n": 1}}))
        assert await coll.find_one(0) == {"_id": 0, "n": 50}
        await coll.insert_many([{"_id": n} for n in range(1, 51)])
        async with asyncio.TaskGroup() as group:
            gone = [
                group.create_task(coll.delete_one({"_id": {"$gt": 0}}))
                for _ in range(60)
            ]
        assert sum(task.result().deleted_count for task in gone) == 50

    run(main())


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda c: c.insert_one([1]), TypeError, "document must be a mapping, not li"),
        (lambda c: c.insert_one({"_id": [1]}), QueryError, "_id"),
        (lambda c: c.insert_many([]), ValueError, "documents must not be empty"),
        (lambda c: c.insert_many({"a": 1}), TypeError, "goes to insert_one"),
        (lambda c: c.insert_many([{}, 5]), TypeError, "must be a mapping, not int"),
        (lambda c: c.update_one({}, {"a": 1}), ValueError, "replace_one"),
        (lambda c: c.update_one({}, {}), ValueError, "replace_one"),
        (lambda c: c.update_one({}, [{"$set": {}}]), UnsupportedOperation, "pipe"),
        (lambda c: c.update_many({}, 5), TypeError, "update must be a mapping, not"),
        (lambda c: c.update_one(None, {"$set": {"a": 1}}), TypeError, "query must be"),
        (lambda c: c.replace_one({}, {"$set": {"a": 1}}), ValueError, "update_one"),
        (lambda c: c.replace_one({}, None), TypeError, "replacement must be a mapping"),
        (lambda c: c.delete_one(None), TypeError, "filter must be a mapping"),
        (lambda c: c.delete_many(5), TypeError, "filter must be a mapping, not int"),
    ],
)
def test_wrong_arguments(run, call, kind, text):
    async def main():
        await lev.coll.insert_one({"_id": 0})
        with pytest.raises(kind, match=text):
            await call(lev.coll)
        assert await found(lev.coll) == [{"_id": 0}]  # nothing has changed

    run(main())
