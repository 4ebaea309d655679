"""What the public API gives, as a type checker sees it. Checked, never run."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, assert_type

import levrt
from levrt import (
    Collection,
    Concurrent,
    Cr,
    Document,
    LogLine,
    ObjectId,
    Op,
    RunRecord,
    Task,
    annot,
    cli,
    ctx,
    lev,
    remote,
)
from levrt.collection import Find
from levrt.entry import RemoteCall


@remote
def entry(target: str, *, fast: bool = False) -> int:
    return len(target)


@remote(python="image")
async def on_the_image() -> None:
    pass


class Tool(Cr):
    """A subclass is what it makes."""


def describe(cr: Cr) -> None:
    assert_type(entry("x", fast=True), RemoteCall)
    assert_type(on_the_image(), RemoteCall)
    assert_type(Tool("img").image, str)
    assert_type(
        Cr(
            "img",
            "a/b@1.0",
            False,
            entry("x"),
            ("a", "b"),
            {"A": "1"},
            {"/a": b"x", "/b": "y", "/c": Path("z"), "/d": None},
            {"l": "h"},
            (80,),
            {"s": Cr("img")},
            timeout=1,
            check=[1],
            host_config={"read_only": True},
            options={"user": "1"},
            pull="never",
            engine=None,
            name="n",
        ),
        Cr,
    )
    Cr("img", entry=entry, check=False, env=["A=1"])
    assert_type(cr.schema, str | None)
    assert_type(cr.host, bool)
    assert_type(cr.entry, RemoteCall | None)
    assert_type(cr.cmd, list[str] | None)
    assert_type(cr.env, list[str])
    assert_type(cr.links, dict[str, str])
    assert_type(cr.ports, list[int])
    assert_type(cr.services, dict[str, Cr])
    assert_type(cr.timeout, float | None)
    assert_type(cr.check, bool | list[int])
    assert_type(cr.options, dict[str, Any])


async def run(cr: Cr) -> None:
    assert_type(await cr, Document)
    assert_type(await cr.done(), Document)
    assert_type(cr.done(), Op[Document])
    task = await cr.start()
    assert_type(task, Task)
    assert_type(await task, Document)
    assert_type(await task.done(), Document)
    assert_type(await task.stop(grace=1), None)
    assert_type(await task.signal("SIGINT"), None)
    assert_type(await task.signal(2), None)
    assert_type((task.id, task.name, task.host), tuple[int, str, str])
    assert_type(task.logs(), AsyncIterator[LogLine])
    async for line in task.logs():
        assert_type(line.text, str)
        assert_type(line.time, datetime.datetime)
    # What asyncio makes of them.
    assert_type(asyncio.create_task(cr.done()), asyncio.Task[Document])
    assert_type(await asyncio.gather(cr.done(), cr.start()), tuple[Document, Task])
    assert_type(await asyncio.wait_for(cr.start(), 1), Task)


async def read(doc: Document) -> None:
    assert_type(await doc.get(), dict[str, Any] | None)
    await doc.get({"a": {"$gt": 1}}, {"a.$": 1})
    await doc.get(None, ["a"])
    await doc.get(projection="a")
    assert_type(await doc.set({"a": 1}, b=2), None)
    await doc.set("key", 5)
    assert_type(doc.filter, dict[str, Any])
    assert_type(doc.coll, Collection)
    assert_type(doc.run, RunRecord | None)
    assert_type(await doc.logs(), list[LogLine])
    assert_type(asyncio.create_task(doc.logs()), asyncio.Task[list[LogLine]])
    async for line in doc.logs():
        assert_type(line, LogLine)
    assert_type(doc.all({"a": 1}, "a"), Find)
    async for found in doc.all():
        assert_type(found, dict[str, Any])
    if doc.run is not None:
        assert_type(doc.run.exit_code, int | None)
        assert_type(doc.run.duration, float | None)
        assert_type(doc.run.argv, tuple[str, ...])


async def find(coll: Collection, query: Mapping[str, Any]) -> None:
    assert_type(await coll.find_one(query), dict[str, Any] | None)
    await coll.find_one(ObjectId())
    assert_type(await coll.count_documents(query), int)
    found = coll.find(query, ["a"], limit=5, sort=[("a", -1), "b"])
    assert_type(found.sort("a", 1).sort({"a": 1}).skip(1).limit(2), Find)
    assert_type(await found.to_list(5), list[dict[str, Any]])
    assert_type((coll.name, coll.full_name), tuple[str, str])


async def namespaces() -> None:
    with lev / "a" / "b" as doc, ctx / "c":
        assert_type(doc, Document)
    assert_type(await lev.set({"a": 1}, b=2), None)
    assert_type(lev.set("key", 1), Op[None])
    assert_type(lev.update({"a": 1}), Op[None])
    assert_type((lev.doc, lev.coll), tuple[Document, Collection])
    assert_type(lev.job_id, str)
    lev.progress(0.5, "half")


async def together(cr: Cr) -> None:
    async def number() -> int:
        return 1

    async with Concurrent(limit=5) as c:
        assert_type(c, Concurrent)
        assert_type(c.start(cr), asyncio.Task[Document])
        assert_type(c.start(cr.start()), asyncio.Task[Task])
        assert_type(c.start(number()), asyncio.Task[int])
    assert_type(c(1.0, 2.0), float)


def programs(cr: Cr) -> None:
    async def main() -> str:
        return ""

    assert_type(levrt.run(main()), str)
    assert_type(levrt.run(cr, db="sqlite:x.db"), Document)
    assert_type(cli("a", n=1, flag=True, many=["x"]), list[str])

    @annot.meta(desc="x", params=[annot.Param("target", "y", regex=".*")])
    def scan(target: str) -> Cr:
        return Cr("img", cmd=[target])

    kept: Callable[[str], Cr] = scan
    assert_type(kept("x"), Cr)


def errors() -> None:
    try:
        pass
    except levrt.RemoteError as exc:
        assert_type(exc.traceback, str)
        assert_type(exc.document, Document | None)
    except levrt.TaskFailed as exc:
        assert_type(exc.exit_code, int | None)
        assert_type(exc.task, Task | None)
    except levrt.PullError as exc:
        assert_type(exc.kind, str)
    except levrt.EngineError as exc:
        assert_type(exc.status, int | None)
    except levrt.QueryError as exc:
        assert_type(exc.code, int)
