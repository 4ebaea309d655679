"""What must leave nothing behind: every public call, also where it fails.

A coroutine is awaited again and again in one job; a plain function is called
without a loop, and may run one.
"""

import asyncio
import contextlib
import datetime
import decimal
import gc
import logging
import pathlib
import re
import uuid

import levrt
from levrt import Concurrent, Cr, ObjectId, annot, cli, lev
from levrt._levrt import Cursor, begin, decode, encode

logging.getLogger("lev").setLevel(logging.CRITICAL)
logging.getLogger("asyncio").setLevel(logging.CRITICAL)
refused = contextlib.suppress(Exception)


@levrt.remote
def entry(n=0):
    return n


# ---- without a loop ----


def describe():
    cr = Cr(
        "my/tool:1",
        "a/b@1.0",
        False,
        entry(1),
        ["a", "b"],
        {"A": "1"},
        {"/a": b"x", "/b": "y", "/c": pathlib.Path("/etc/hosts"), "/d": None},
        {"l": "h"},
        [80, 443],
        {"s": Cr("img"), "t": Cr("img", ports=[1])},
        timeout=1.5,
        check=[1, 2],
        host_config={"cap_add": ["NET_RAW"]},
        options={"user": "1", "tmpfs": ["/t"]},
        pull="never",
        engine="unix:///x",
        name="n1",
    )
    repr(cr)
    for name in "image cmd env files links ports services check options".split():
        getattr(cr, name)
    with refused:
        cr.image = 1


def describe_wrong():
    for wrong in [
        {"image": 5},
        {"image": "A B"},
        {"schema": "x"},
        {"host": 1},
        {"entry": len},
        {"cmd": ["a", 1]},
        {"env": {"A": 1}},
        {"env": ["A"]},
        {"files": {"/a": 1}},
        {"files": {"/a": "x", "/a/b": "y"}},
        {"links": {"a": ""}},
        {"ports": [80, 0]},
        {"services": {"a": 1}},
        {"timeout": -1},
        {"check": [300]},
        {"host_config": {"nothing": 1}},
        {"options": {"user": object()}},
        {"options": {"user": "1"}, "host_config": {"user": "1"}},
        {"pull": "x"},
        {"name": "-"},
        {"other": 1},
    ]:
        with refused:
            Cr(**{"image": "img", **wrong})


def subclasses():
    class Tool(Cr):
        pass

    tool = Tool("img", services={"s": Tool("img")})
    tool.own = tool
    tool.op = tool.done()
    tool.op.close()


def ops_outside_of_a_loop():
    op = Cr("img").done()
    with refused:
        op.send(None)
    Cr("img").start().close()
    Cr("img").done()  # never awaited
    for args in [(), (5,), (KeyError,), (KeyError, "k"), (KeyError("k"), 1)]:
        op = Cr("img").done()
        with refused:
            op.throw(*args)
        op.close()
    with refused:
        begin(None)
    with refused:
        lev.set(a=1)


VALUES = {
    "a": [1, 2**40, 1.5, None, True, "x", b"y", {"z": []}],
    "o": ObjectId(),
    "t": datetime.datetime.now(datetime.UTC),
    "u": uuid.uuid4(),
    "d": decimal.Decimal("1.5"),
    "r": re.compile("x", re.I),
}


def bson():
    data = encode(VALUES)
    decode(data)
    ObjectId(str(ObjectId()))
    for wrong in [data[:-1], data + b"x", b"", b"\5\0\0\0\1", 5]:
        with refused:
            decode(wrong)
    for wrong in [5, {5: 1}, {"a": object()}, {"a": [{1}]}, {"a": 2**65}, {"\0": 1}]:
        with refused:
            encode(wrong)
    with refused:
        ObjectId("x")


def closures():
    big = list(range(100))

    @levrt.remote
    def inner(n):
        return big, n

    inner(1).payload()
    with refused:
        inner()
    lock = contextlib.ExitStack()

    @levrt.remote
    def wrong():
        return lock, gc.get_objects

    with refused:
        wrong().payload()


def helpers():
    cli("x", a=1, long_name=[1, 2], flag=True, none=None)
    with refused:
        cli(a=object())
    annot.Param("a", "b", regex="x")
    levrt.Digest("0" * 64)
    with refused:
        levrt.Digest("0")


def jobs():
    """Whole jobs, each with a loop of its own."""

    async def main():
        with lev / "a" as doc:
            lev.set(x=1)
            await (await Cr("img")).get()
            return await doc.get()

    levrt.run(main())
    asyncio.run(main())


def jobs_that_fail():
    async def main():
        lev.set(a=1)
        lev.set({"a.b": 1})
        task = await Cr("hold").start()
        asyncio.ensure_future(task.done())
        raise KeyError

    with contextlib.suppress(KeyError):
        levrt.run(main())
    with refused:
        levrt.run(5)
    coroutine = main()
    with refused:
        levrt.run(coroutine, db="nothing:")


def loops_that_are_just_closed():
    async def main():
        await lev.set(a=1)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


# ---- in one job ----


async def fill_caches():
    """The store keeps pages in memory, up to a bound."""
    with lev / "cache" as doc:
        for n in range(20):
            await lev.set({f"page{n}": b"x" * 200_000})
        await doc.get()


async def settle():
    """Until the runs that nobody waits for have ended."""
    while lev.coll._session.stop():
        await asyncio.sleep(0.001)


async def ops():
    def make():
        return lev.coll.count_documents()

    assert await make() >= 0
    await asyncio.gather(make(), make())
    await asyncio.wait_for(make(), 10)
    begun = begin(make())
    await begun
    with refused:
        await begun
    begin(make())
    make()
    make().close()
    op = make()
    op.send(None)
    op.close()
    task = asyncio.ensure_future(make())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    repr(op), op.cr_running, op.failed, op.__name__, op.__qualname__


async def writes():
    with lev / "a" / "b" as doc:
        lev.set(a=1)
        lev.set({"b.c": [1, {"x": b"y" * 100}]})
        await lev.set("k", 1)
        await lev.update({"a": 2})
        await doc.set(z=1)
        for wrong in [{}, {"a": object()}, {"_id": 1}, {5: 1}]:
            with refused:
                lev.set(wrong)
            with refused:
                doc.set(wrong)
        with refused:
            await lev.set({"a.b": 1})
        with refused:
            await doc.set({"a.b": 1})
    with refused:
        lev / "a|b"
    with refused:
        lev.progress(5)


async def reads():
    await lev.set({"a": [{"b": 1}, {"b": 2}], "c": "x" * 1000})
    doc = lev.doc
    for projection in [None, "c", ["a", "_id"], {"a": 0}, {"a": {"$slice": 1}}]:
        await doc.get(None, projection)
    await doc.get({"a.b": 2}, {"a.$": 1})
    assert await doc.get({"c": "y"}) is None
    doc.filter, doc.coll, doc.run, repr(doc), hash(doc), doc == doc
    await doc.logs()
    async for _ in doc.all({"c": {"$regex": "^x"}}, ["c"]):
        pass
    for args in [(5,), (None, 5), (None, {"a": 1, "c": 0}), ({"$x": 1},)]:
        with refused:
            await doc.get(*args)


async def finds():
    coll = lev.coll
    if await coll.count_documents() < 20:
        await coll._session.insert(coll.name, [{"n": n} for n in range(20)])
    await coll.find_one({"n": 3})
    await coll.find({"n": {"$gt": 3}}).sort([("n", -1)]).skip(1).limit(5).to_list()
    found = coll.find().batch_size(3)
    await anext(found)
    await found.close()
    unfinished = coll.find(batch_size=2)
    await anext(unfinished)
    await asyncio.gather(*(anext(unfinished) for _ in range(3)), return_exceptions=True)
    for wrong in [
        lambda: coll.find().sort("n", 5),
        lambda: coll.find().limit(-1),
        lambda: coll.find(5).to_list(),
        lambda: coll.find({"$x": 1}).to_list(),
        lambda: coll.find(None, {"a": 1, "b": 0}).to_list(),
        lambda: coll.count_documents({"n": {"$in": 5}}),
        lambda: coll._session.insert(coll.name, [{"_id": 1}, {"_id": 1}]),
        lambda: coll._session.update(coll.name, {}, {"$x": 1}),
        lambda: Cursor(coll._session, "c", skip=-1),
        lambda: Cursor(5, "c"),
    ]:
        with refused:
            await wrong()


async def runs():
    doc = await Cr("img", "a/b@1.0", files={"/f": "x"}, env=["A=1"])
    await doc.logs()
    await doc.get()
    task = await Cr("hold").start()
    task.id, task.name, task.host, repr(task)
    logs = task.logs()
    await anext(logs)
    await logs.aclose()
    with refused:
        await task.signal("NO")
    with refused:
        await task.stop(-1)
    await task.signal("SIGTERM")
    with refused:
        await task.done()
    with refused:
        await task.signal()
    [line async for line in task.logs()]
    task = await Cr("hold", services={"s": Cr("hold")}).start()
    await task.stop()


async def runs_that_fail():
    for cr in [
        Cr("bad"),
        Cr("nowhere"),
        Cr("img", files={"/f": pathlib.Path("/does/not/exist")}),
        Cr("img", engine="unix:///does/not/exist"),
        Cr("img", services={"s": Cr("nowhere")}),
    ]:
        with refused:
            await cr
        with refused:
            await cr.start()


async def runs_that_are_cancelled():
    for make in [Cr("hold").done, Cr("hold").start]:
        for wait in range(3):
            task = asyncio.ensure_future(make())
            for _ in range(wait):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    task = await Cr("hold").start()
    first, second = (asyncio.ensure_future(task.done()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    op = Cr("hold").start()
    future = op.send(None)
    future._asyncio_future_blocking = False
    await asyncio.wait([future])
    op.close()
    await task.stop()
    await settle()


async def together():
    async with Concurrent(limit=3) as c:
        for _ in range(4):
            c.start(Cr("img"))
    with refused:
        async with Concurrent() as c:
            c.start(Cr("bad"))
            c.start(Cr("img"))
    with refused:
        async with Concurrent(fail_fast=True) as c:
            c.start(Cr("bad"))
            c.start(Cr("hold"))
    await settle()
