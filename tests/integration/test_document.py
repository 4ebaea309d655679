"""Task, Document and lev in a workflow, over real runs."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from workflows import failure, logged, sh

import levrt
from levrt import Cr, lev


@levrt.remote
def finds():
    lev.set(target="example.com", ports=[{"port": 22, "state": "closed"}])
    lev.set({"ports": [{"port": 80, "state": "open"}, {"port": 443, "state": "open"}]})
    lev.set({"meta.tool": "x", "meta.version": 1})


@pytest.fixture
async def document(tools):
    return await Cr(tools, "team/finds@1.0", entry=finds())


async def test_get(document):
    whole = {
        "target": "example.com",
        "ports": [{"port": 80, "state": "open"}, {"port": 443, "state": "open"}],
        "meta": {"tool": "x", "version": 1},
    }
    assert await document.get() == whole
    assert await document.get({"target": "example.com"}) == whole
    assert await document.get({"target": "example.org"}) is None
    assert await document.get({"ports.port": {"$gt": 100}}, "target") == {
        "target": "example.com"
    }
    assert await document.get(projection=["meta.tool", "target"]) == {
        "target": "example.com",
        "meta": {"tool": "x"},
    }
    assert await document.get({"ports.port": 443}, {"ports.$": 1}) == {
        "ports": [{"port": 443, "state": "open"}]
    }
    assert await document.get(projection={"ports": 0, "meta": 0}) == {
        "target": "example.com"
    }
    with_id = await document.get(projection={"_id": 1})
    assert with_id == document.filter
    assert document.__filters == document.filter


async def test_set(document):
    await document.set(checked=True)
    await document.set({"meta.version": 2}, note=None)
    await document.set("single", [1])
    found = await document.get(projection=["checked", "meta", "note", "single"])
    assert found == {
        "checked": True,
        "meta": {"tool": "x", "version": 2},
        "note": None,
        "single": [1],
    }
    for bad in ({"_id": 1}, {"_lev": 1}, {"_lev.seq": 1}):
        with pytest.raises(ValueError, match="reserved"):
            document.set(bad)


async def test_all(tools, document):
    others = await asyncio.gather(
        *[Cr(tools, "team/finds@1.0", entry=finds()) for _ in range(2)]
    )
    ours = {d.filter["_id"] for d in (document, *others)}
    found = [
        d["_id"] async for d in document.all({"ports.port": 80}, {"_id": 1, "ports": 1})
    ]
    assert ours <= set(found)
    assert [d async for d in document.all({"no": "such"})] == []


async def test_run(tools, engine):
    before = datetime.now(UTC) - timedelta(seconds=2)
    document = await sh(tools, "exit 3", check=False)
    run = document.run
    assert run.image == tools
    assert run.argv == ("sh", "-c", "exit 3", "sh")
    assert (run.exit_code, run.signal, run.oom) == (3, None, False)
    assert before < run.started <= run.finished < datetime.now(UTC) + timedelta(hours=1)
    assert run.duration >= 0
    with pytest.raises(AttributeError):
        run.exit_code = 0
    assert await document.get() == {}
    task = await sh(tools, "exec sleep 600").start()
    waiter = asyncio.create_task(task.done())
    await task.stop(0)
    stopped = await waiter
    assert stopped.run.signal in (9, 15)  # no grace: whichever came first


async def test_the_record_is_stored(tools):
    document = await sh(tools, "exit 3", check=False)
    with lev / "lev.runs" as runs:
        pass
    record = await runs.coll.find_one(document.filter)
    assert record["image"] == tools
    assert record["exit_code"] == 3
    assert record["session"] == lev.job_id
    assert record["coll"] == "_"


async def test_logs_of_a_document(tools):
    document = await sh(tools, "echo out; echo err >&2; printf '\\377x'")
    logs = await document.logs()
    assert {(line.stream, line.text) for line in logs} == {
        ("stdout", "out"),
        ("stderr", "err"),
        ("stdout", "\N{REPLACEMENT CHARACTER}x"),
    }
    assert all(line.time.tzinfo is UTC for line in logs)


async def test_much_output(tools, scratch):
    # Beyond what is kept: the newest is there, and the disk is not filled.
    script = "yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
    document = await sh(tools, f"{script} | head -n 600000; echo the end")
    logs = await document.logs()
    assert logs[-1].text == "the end"
    assert 100_000 < len(logs) < 600_000
    assert logs[0].stream == "levrt" and "older output" in logs[0].text
    # What is kept may begin within a line.
    assert {len(line.text) for line in logs[2:-1]} == {63}
    log = document.filter["_id"]
    sizes = [p.stat().st_size for p in (scratch / "data/logs").glob(f"{log}*")]
    assert 0 < sum(sizes) < 40_000_000


# Task


async def test_task_attributes(tools):
    first, second = await asyncio.gather(
        sh(tools, "exec sleep 600").start(), sh(tools, "exec sleep 600").start()
    )
    assert first.id != second.id
    assert first.host != second.host
    assert first.name.endswith(f"-{first.id}")
    documents = asyncio.gather(first.done(), second.done())
    await asyncio.gather(first.stop(0), second.stop(0))
    assert len({d.filter["_id"] for d in await documents}) == 2
    assert await first.done() is await first


@pytest.mark.parametrize("given", ["SIGUSR1", "USR1", 10])
async def test_signal(tools, given):
    script = "trap 'echo got it; exit 0' USR1; echo up; while :; do sleep 0.02; done"
    task = await sh(tools, script).start()
    await logged(task, "up")
    await task.signal(given)
    document = await task
    assert [line.text for line in await document.logs()] == ["up", "got it"]


async def test_signal_to_a_program_without_a_handler(tools):
    # Under an init the default action applies to the main process, too.
    task = await sh(tools, "exec sleep 600").start()
    await task.signal()
    e = await failure(task.done(), levrt.TaskFailed)
    assert e.signal == 2


async def test_signal_after_the_end(tools):
    task = await sh(tools, "true").start()
    await task
    e = await failure(task.signal(), RuntimeError)
    assert task.name in str(e)
    assert "has ended" in str(e)


async def test_signals_that_are_none(tools):
    task = await sh(tools, "exec sleep 600").start()
    try:
        for bad, kind in (("SIGNOPE", ValueError), (0, ValueError), (99, ValueError)):
            with pytest.raises(kind, match="signal"):
                await task.signal(bad)
        with pytest.raises(TypeError, match="signal must be a name or a number"):
            await task.signal(1.5)
    finally:
        await task.stop(0)


async def test_stop(tools):
    polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    task = await sh(tools, polite).start()
    await logged(task, "up")
    await task.stop()
    document = await task
    assert document.run.exit_code == 0
    stubborn = "trap 'echo no' TERM; echo up; while :; do sleep 0.02; done"
    task = await sh(tools, stubborn).start()
    await logged(task, "up")
    await task.stop(grace=0.2)
    document = await task
    assert document.run.exit_code == 137
    assert [line.text for line in await document.logs()] == ["up", "no"]
    await task.stop()  # again: nothing to do


async def test_logs_while_it_runs(tools):
    script = (
        "n=0; trap 'n=$((n + 1)); echo $n' USR1; echo 0;"
        " while [ $n -lt 3 ]; do sleep 0.02; done; printf end"
    )
    task = await sh(tools, script).start()
    seen = []
    async for line in task.logs():
        seen.append(line.text)
        if line.text in ("0", "1", "2"):
            await task.signal("USR1")
    assert seen == ["0", "1", "2", "3", "end"]
    assert [line.text async for line in task.logs()] == seen
    await task


# lev in a workflow


async def test_a_namespaces_document(tools):
    with lev / "outer" as outer:
        await lev.set(a=1)
        with lev / "inner" / "most" as inner:
            await lev.set({"b": 2})
            assert lev.coll.name == "outer|inner|most"
        await lev.update({"c": 3})
        assert lev.doc.filter == outer.filter
        assert lev.coll == outer.coll
    assert await outer.get() == {"a": 1, "c": 3}
    assert await inner.get() == {"b": 2}
    await lev.set(root=True)
    assert lev.coll.name == "_"
    assert (await lev.doc.get())["root"]


async def test_namespaces_are_of_each_task(tools):
    async def one(name):
        with lev / name:
            document = await Cr(tools, "team/t@1.0", cmd=["true"])
            await asyncio.sleep(0)
            return document.coll.name

    names = [f"n{n}" for n in range(4)]
    found = await asyncio.gather(*map(one, names))
    assert found == [f"{name}|team/t@1.0" for name in names]


async def test_a_namespace_is_where_it_was_started(tools):
    with lev / "started":
        task = await Cr(tools, cmd=["true"]).start()
        op = asyncio.create_task(_done(Cr(tools, cmd=["true"])))
    assert (await task).coll.name == "started"
    assert (await op).coll.name == "started"


async def _done(cr):
    return await cr


async def test_a_prepared_namespace():
    prepared = lev / "again"
    with prepared as first, prepared as second:
        assert second.coll.name == "again|again"
    with prepared as third:
        assert third.filter == first.filter


@pytest.mark.parametrize("name", ["", "a|b", "$x", "nul\0", None, 3])
async def test_names_that_are_none(name):
    with pytest.raises((TypeError, ValueError), match="namespace"):
        lev / name


async def test_progress(caplog):
    caplog.set_level(logging.INFO, "lev")
    lev.progress(0.25)
    lev.progress(1, "done")
    for bad in (-0.1, 1.1, "x", None):
        with pytest.raises((TypeError, ValueError), match="progress"):
            lev.progress(bad)
    assert caplog.messages == ["progress: 0.25", "progress: 1 (done)"]


async def test_queries_over_what_runs_have_stored(tools):
    @levrt.remote
    def entry(n):
        lev.set(n=n, even=n % 2 == 0, tags=[f"t{n}", "all"])

    with lev / "queries":
        documents = await asyncio.gather(
            *[Cr(tools, "team/q@1.0", entry=entry(n)) for n in range(6)]
        )
    coll = documents[0].coll
    assert coll.name == coll.collection_name == "queries|team/q@1.0"
    assert coll.full_name.endswith(coll.name)
    assert await coll.count_documents() == 6
    assert await coll.count_documents({"even": True}) == 3
    found = (
        await coll.find({"n": {"$gte": 2}}, {"_id": 0, "n": 1}).sort("n", -1).to_list()
    )
    assert found == [{"n": n} for n in (5, 4, 3, 2)]
    found = await coll.find(sort=[("n", 1)]).skip(1).limit(2).to_list()
    assert [d["n"] for d in found] == [1, 2]
    assert (await coll.find_one({"tags": "t4"}))["n"] == 4
    assert await coll.find_one({"tags": "none"}) is None
    seen = [d["n"] async for d in coll.find({"tags": "all"}).batch_size(2)]
    assert sorted(seen) == list(range(6))
    e = await failure(coll.find_one({"n": {"$nope": 1}}), levrt.QueryError)
    assert "$nope" in str(e)
