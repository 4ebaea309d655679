"""levrt.Document: get, set, all, and how its run went."""

import datetime
import types
from collections import UserDict

import pytest

import levrt
from engine import Script
from levrt import Cr, Document, ObjectId, QueryError, RunRecord, lev

pytestmark = pytest.mark.usefixtures("each_store")

STORED = {
    "target": "h",
    "ports": [
        {"port": 22, "state": "open"},
        {"port": 80, "state": "closed"},
        {"port": 443, "state": "open"},
    ],
    "os": {"name": "linux", "major": 6},
}


@pytest.fixture
def stored(run):
    """Runs a coroutine function with a document that holds STORED."""

    def with_document(main):
        async def stored_main():
            await lev.set(STORED)
            return await main(lev.doc)

        return run(stored_main())

    return with_document


# ---- get ----


def test_get(stored):
    async def main(doc):
        assert await doc.get() == STORED
        assert await doc.get(None, None) == STORED
        assert await doc.get({}) == STORED
        assert await doc.get({"target": "h"}) == STORED
        assert await doc.get({"target": "other"}) is None
        assert await doc.get(query={"os.major": {"$gt": 5}}) == STORED

    stored(main)


def test_get_the_matching_element(stored):
    async def main(doc):
        return await doc.get({"ports.state": "open"}, {"ports.$": 1})

    assert stored(main) == {"ports": [{"port": 22, "state": "open"}]}


@pytest.mark.parametrize(
    ("projection", "result"),
    [
        ("target", {"target": "h"}),
        ("os.name", {"os": {"name": "linux"}}),
        ("missing", {}),
        (["target", "os.major"], {"target": "h", "os": {"major": 6}}),
        (("target",), {"target": "h"}),
        ({"target": 1}, {"target": "h"}),
        ({"target": True, "_id": 0}, {"target": "h"}),
        ({"ports": 0, "os": 0}, {"target": "h"}),
        ({"_id": 0, "ports": 0, "os": 0}, {"target": "h"}),
        (UserDict({"target": 1}), {"target": "h"}),
    ],
)
def test_projections(stored, projection, result):
    async def main(doc):
        assert await doc.get(None, projection) == result
        assert await doc.get(projection=projection) == result

    stored(main)


@pytest.mark.embedded
def test_a_slice_beside_an_exclusion(stored):
    async def main(doc):
        found = await doc.get(None, {"ports": {"$slice": 1}, "os": 0})
        assert found == {"target": "h", "ports": STORED["ports"][:1]}
        assert "_id" in await doc.get(None, {"_id": 1, "ports": 0})

    stored(main)


@pytest.mark.parametrize(
    ("projection", "rest"),
    [
        ("_id", {}),
        (["_id", "target"], {"target": "h"}),
        ({"_id": 1}, {}),
        ({"_id": 1, "target": 1}, {"target": "h"}),
        ([], {}),
    ],
)
def test_projections_that_ask_for_the_id(stored, projection, rest):
    async def main(doc):
        found = await doc.get(None, projection)
        oid = found.pop("_id")
        assert {"_id": oid} == doc.filter
        assert found == rest

    stored(main)


def test_the_filter_counts_more_than_the_query(stored):
    async def main(doc):
        return await doc.get({"_id": ObjectId()})

    assert stored(main) == STORED


@pytest.mark.parametrize("query", ["x", b"x", [("a", 1)], ("a", 1), 5, {"a"}])
def test_queries_that_are_no_mapping(stored, query):
    async def main(doc):
        text = f"query must be a mapping, not {type(query).__name__}"
        with pytest.raises(TypeError, match=text):
            doc.get(query)

    stored(main)


@pytest.mark.parametrize(
    "query", [UserDict({"target": "h"}), types.MappingProxyType({"target": "h"})]
)
def test_any_mapping_is_a_query(stored, query):
    async def main(doc):
        return await doc.get(query)

    assert stored(main) == STORED


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        (({5: 1},), TypeError, "a key must be str, not int"),
        (({"a": object()},), TypeError, "a"),
        ((None, 5), TypeError, "projection must be a mapping, not int"),
        ((None, [1]), TypeError, "a projection's names must be str, not int"),
        ((None, {"a": {1}}), TypeError, "a"),
        ((None, None, 1), TypeError, "at most 2"),
    ],
)
def test_get_refuses_at_once(stored, args, kind, text):
    async def main(doc):
        with pytest.raises(kind) as caught:
            doc.get(*args)
        assert text in str(caught.value)

    stored(main)


@pytest.mark.embedded
def test_get_refuses_what_mongodb_refuses(stored):
    async def main(doc):
        with pytest.raises(QueryError, match="os"):
            await doc.get(None, {"target": 1, "os": 0})
        with pytest.raises(QueryError, match="ports"):
            await doc.get(None, {"ports.$": 1})

    stored(main)


def test_values_come_back_as_they_were(run):
    when = datetime.datetime(2024, 2, 29, 1, 2, 3, 4000, datetime.UTC)
    values = {
        "int": 2**53 + 1,
        "small": -1,
        "float": 0.1,
        "none": None,
        "bytes": b"\0\xff",
        "text": "ünï\0",
        "list": [1, [2, {"x": []}]],
        "when": when,
        "oid": ObjectId(),
        "deep": {"x.y": 1, "$z": 2, "": 3},
    }

    async def main():
        await lev.set(values)
        return await lev.doc.get()

    back = run(main())
    assert back == values
    assert list(back["deep"]) == list(values["deep"])
    assert {k: type(v) for k, v in back.items()} == {
        k: type(v) for k, v in values.items()
    }


# ---- set, coll, filter, all ----


def test_set(stored):
    async def main(doc):
        assert await doc.set({"target": "x", "os.major": 7}) is None
        assert await doc.set(new=[1]) is None
        assert await doc.set("key", "value") is None
        assert await doc.get() == {
            **STORED,
            "target": "x",
            "os": {"name": "linux", "major": 7},
            "new": [1],
            "key": "value",
        }
        with pytest.raises(QueryError) as caught:
            await doc.set({"target.sub": 1})
        assert caught.value.code == 28
        assert (await doc.get(None, "target")) == {"target": "x"}

    stored(main)


def test_set_makes_it(run):
    """It is there from the first write on."""

    async def main():
        doc = lev.coll._session.document("c", oid := ObjectId())
        assert await doc.get() is None
        await doc.set(a=1)
        assert await doc.get(None, {"_id": 1, "a": 1}) == {"_id": oid, "a": 1}

    run(main())


def test_filter(stored):
    async def main(doc):
        assert list(doc.filter) == ["_id"]
        assert isinstance(doc.filter["_id"], ObjectId)
        assert getattr(doc, "__filters") == doc.filter
        doc.filter.clear()
        assert doc.filter
        assert await doc.coll.find_one(doc.filter) == {**doc.filter, **STORED}

    stored(main)


def test_all(engine, run):
    async def main():
        docs = []
        for n in range(5):
            docs.append(await Cr("img", "t/x@1.0"))
            await docs[-1].set(n=n)
        first = docs[0]
        assert first.coll.name == "t/x@1.0"
        assert [d["n"] async for d in first.all()] == [0, 1, 2, 3, 4]
        assert [d["n"] async for d in first.all({"n": {"$gt": 2}})] == [3, 4]
        found = first.all(query={"n": 1}, projection={"_id": 0})
        assert [d async for d in found] == [{"n": 1}]
        assert [d["n"] async for d in first.all(None, "n").sort("n", -1).limit(2)] == [
            4,
            3,
        ]
        for wrong in [{"filter": {}}, {"skip": 1}]:
            with pytest.raises(TypeError):
                first.all(**wrong)
        with pytest.raises(TypeError):
            first.all({}, {}, 1)

    run(main())


def test_equality_and_repr(run):
    async def main():
        session = lev.coll._session
        a, b = ObjectId(), ObjectId()
        doc = session.document("c", a)
        assert doc == session.document("c", a)
        assert hash(doc) == hash(session.document("c", a))
        assert doc != session.document("c", b)
        assert doc != session.document("d", a)
        assert doc != doc.filter
        assert repr(doc) == f"<Document {{'_id': {a!r}}} in c>"
        with pytest.raises(TypeError):
            assert doc < doc

    run(main())


def test_it_is_made_by_levrt_only():
    with pytest.raises(TypeError, match="cannot create"):
        Document()
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("MyDocument", (Document,), {})
    with pytest.raises(TypeError, match="cannot create"):
        levrt.Task()


# ---- run ----


def test_run(engine, run):
    engine.script = Script(exit_code=0)

    async def main():
        before = datetime.datetime.now(datetime.UTC)
        doc = await Cr("img", cmd=["tool", "-x"])
        assert doc.run is doc.run
        assert (before - datetime.timedelta(seconds=1)) < doc.run.finished
        return doc

    record = run(main()).run
    assert isinstance(record, RunRecord)
    assert (record.image, record.argv) == ("img", ("tool", "-x"))
    assert (record.exit_code, record.signal, record.oom) == (0, None, False)
    assert record.started.tzinfo is record.finished.tzinfo is datetime.UTC
    assert record.duration == (record.finished - record.started).total_seconds() >= 0
    with pytest.raises(AttributeError):
        record.exit_code = 1


def test_run_of_the_jobs_own_document(run):
    async def main():
        return lev.doc.run, await lev.doc.logs()

    assert run(main()) == (None, [])


def test_run_while_it_lasts(engine, run):
    engine.script = Script(hold=True)

    async def main():
        task = await Cr("img").start()
        (container,) = engine.containers.values()
        waiting = task.done()
        container.finish(0)
        doc = await waiting
        assert doc.run.exit_code == 0

    run(main())


@pytest.mark.parametrize(
    ("script", "check", "expected"),
    [
        (Script(exit_code=3), [3], (3, None, False)),
        (Script(exit_code=3), False, (3, None, False)),
        (Script(exit_code=255), False, (255, None, False)),
        (Script(exit_code=139), False, (139, 11, False)),
    ],
)
def test_codes_that_are_accepted(engine, run, script, check, expected):
    engine.script = script

    async def main():
        return (await Cr("img", check=check)).run

    record = run(main())
    assert (record.exit_code, record.signal, record.oom) == expected


def test_a_failed_run_has_its_document(engine, run):
    engine.script = Script(exit_code=3, stderr=b"cannot open it\n")

    async def main():
        with pytest.raises(levrt.TaskFailed) as caught:
            await Cr("img", "t/x@1.0")
        exc = caught.value
        assert (exc.exit_code, exc.signal, exc.oom_killed) == (3, None, False)
        assert exc.phase == "run"
        assert exc.log_tail == "cannot open it\n" or exc.log_tail == "cannot open it"
        assert "cannot open it" in str(exc)
        assert exc.document.run.exit_code == 3
        assert exc.document.coll.name == "t/x@1.0"
        assert exc.task.name in str(exc) or "img" in str(exc)
        assert [line.text for line in await exc.document.logs()] == ["cannot open it"]

    run(main())
