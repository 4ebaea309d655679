"""Loops of every kind, and what is left when they are closed."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from workflows import failure, lines, sh

import levrt
from levrt import Cr, lev


def threads():
    """Of the process, with those that Python does not know.

    Not those of the pool, which is the process's: it has a bound, and they end
    when they have had nothing to do for a while.
    """
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as f:
                found[task] = f.read().strip()
        except FileNotFoundError:
            continue
    return {task: name for task, name in found.items() if name != "lev-worker"}


def descriptors():
    """Where each leads; of the image store's database one.

    SQLite keeps a closed connection's descriptor while another one of the
    process is open, for the next connection.
    """
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if not path.endswith("/names.db") or path not in found.values():
            found[fd] = path
    return found


async def workflow(image):
    """Some of everything; the session's id."""

    @levrt.remote
    def entry(n):
        lev.set(n=n)

    with lev / "loops":
        await lev.set(begun=True)
        documents = await asyncio.gather(
            *[Cr(image, entry=entry(n)) for n in range(2)],
        )
        assert [await d.get() for d in documents] == [{"n": 0}, {"n": 1}]
        task = await sh(image, "exec httpd -f -p 80", ports=[80]).start()
        get = "wget -qO- http://web/etc/group | head -n 1"
        assert await lines(sh(image, get, links={"web": task.host})) == ["root:x:0:"]
        await task.stop(0)
        await failure(sh(image, "exit 3"), levrt.TaskFailed)
    return lev.job_id


@pytest.fixture(scope="module")
def warm(tools):
    """What is made once per process is made."""
    asyncio.run(workflow(tools))
    uvloop.run(asyncio.sleep(0))


@pytest.fixture
def nothing_is_left(engine, scratch, warm):
    """Threads, descriptors, containers, networks, files: as before."""

    def there():
        gc.collect()
        return {
            "threads": sorted(threads().values()),
            "descriptors": sorted(descriptors().values()),
            "containers": engine.containers(),
            "networks": engine.networks(),
            "files": sorted(os.listdir(scratch / "run")),
        }

    before = there()
    yield
    assert there() == before


def test_asyncio_run(tools, nothing_is_left):
    asyncio.run(workflow(tools))


def test_levrt_run(tools, nothing_is_left):
    assert levrt.run(workflow(tools))


def test_uvloop(tools, nothing_is_left):
    uvloop.run(workflow(tools))


def test_uvloop_under_levrt(tools, nothing_is_left):
    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        levrt.run(workflow(tools))
    finally:
        asyncio.set_event_loop_policy(policy)


def test_eager_tasks(tools, nothing_is_left):
    if sys.version_info < (3, 12):
        factory = None  # they come with 3.12: here it is one more loop
    else:
        factory = asyncio.eager_task_factory

    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        return await workflow(tools)

    asyncio.run(main())


def test_several_loops_one_after_the_other(tools, nothing_is_left):
    sessions = [asyncio.run(workflow(tools)) for _ in range(3)]
    sessions.append(levrt.run(workflow(tools)))
    assert len(set(sessions)) == 4


def test_loops_in_threads(tools, nothing_is_left):
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(run, workflow(tools)) for run in _RUNS]
        assert len({run.result() for run in runs}) == 3


_RUNS = [asyncio.run, levrt.run, uvloop.run]


def test_a_loop_by_hand(tools, nothing_is_left):
    loop = asyncio.new_event_loop()
    try:
        first = loop.run_until_complete(workflow(tools))
        assert loop.run_until_complete(workflow(tools)) == first
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def test_the_loop_of_pytest_asyncio(tools):
    assert await workflow(tools) == lev.job_id


def test_a_failing_workflow(tools, nothing_is_left):
    async def main():
        await sh(tools, "exec sleep 600").start()
        raise LookupError("of the workflow")

    for run in (levrt.run, asyncio.run):
        with pytest.raises(LookupError, match="of the workflow"):
            run(main())


def test_writes_of_the_workflow_are_stored_at_the_end(nothing_is_left):
    async def main():
        with lev / "unawaited":
            for n in range(20):
                lev.set({f"k{n}": n})
        return lev.job_id

    async def check():
        with lev / "unawaited" as document:
            return [d async for d in document.coll.find({"k19": 19})]

    levrt.run(main())
    asyncio.run(main())
    found = levrt.run(check())
    assert len(found) == 2
    for document in found:
        assert {k: v for k, v in document.items() if k != "_id"} == {
            f"k{n}": n for n in range(20)
        }


def test_levrt_run_returns_and_logs(tools, caplog):
    async def count():
        return 42

    caplog.set_level(logging.INFO, "lev")
    assert levrt.run(count()) == 42
    jobs = [m for m in caplog.messages if m.startswith("job: ")]
    assert len(jobs) == 1
    assert " count " in jobs[0]


def test_levrt_run_takes_a_cr(tools, nothing_is_left):
    document = levrt.run(sh(tools, "echo of a Cr"))
    assert document.run.exit_code == 0


async def test_levrt_run_in_a_loop(tools):
    async def main():
        raise AssertionError("it ran")

    with pytest.raises(RuntimeError, match="running event loop"):
        levrt.run(main())


@pytest.mark.parametrize("main", [None, 3, print])
def test_levrt_run_of_something_else(main):
    with pytest.raises(TypeError, match="coroutine or an awaitable"):
        levrt.run(main)


def test_the_store_of_a_run(tools, tmp_path):
    async def main():
        with lev / "elsewhere":
            await lev.set(a=1)

    levrt.run(main(), db=f"sqlite:{tmp_path}/own.db")
    assert (tmp_path / "own.db").exists()


def test_a_document_of_another_loop(tools, nothing_is_left):
    async def make():
        return await sh(tools, "true")

    async def use():
        return await document.get()

    document = asyncio.run(make())
    assert asyncio.run(use()) == {}


_FORKS = """
import asyncio, os, sys
import levrt

async def main():
    cr = levrt.Cr(sys.argv[1], cmd=["true"])
    document = await cr
    pid = os.fork()
    if pid == 0:
        # Whatever happens: an asyncio loop that its child closes is no loop any
        # more for the parent, with whom it shares the epoll instance.
        try:
            for awaitable in (document.get, cr.done):
                try:
                    asyncio.run(once(awaitable))
                except (levrt.StoreError, RuntimeError) as e:
                    print(type(e).__name__, e, flush=True)
        finally:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    await cr
    print("parent goes on")

async def once(awaitable):
    return await awaitable()

levrt.run(main())
"""


def run_script(code, *args, **env):
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_forked_child_says_so(tools):
    done = run_script(_FORKS, tools)
    assert done.returncode == 0, done.stderr
    *child, last = done.stdout.splitlines()
    assert [line.partition(" ")[0] for line in child] == ["RuntimeError", "StoreError"]
    assert all("fork" in line for line in child)
    assert last == "parent goes on"


_ENDS = """
import asyncio, sys
import levrt

loop = asyncio.new_event_loop()
task = loop.run_until_complete(levrt.Cr(sys.argv[1], cmd=["sleep", "600"]).start())
print(levrt._levrt.__name__, flush=True)
"""


def test_a_program_that_ends_without_closing_its_loop(engine, tools):
    done = run_script(_ENDS, tools)
    assert done.returncode == 0
    assert "1 runs were under way: they are killed" in done.stderr
    assert engine.containers() == []


def test_many_processes_build_the_bundle_at_once(engine, tmp_path):
    code = """
import levrt

@levrt.remote
def entry():
    import sqlite3
    print("went", flush=True)

async def main():
    document = await levrt.Cr("", entry=entry())
    print([line.text for line in await document.logs()])

levrt.run(main())
"""
    with ThreadPoolExecutor(4) as pool:
        cache = str(tmp_path / "cache")
        runs = [pool.submit(run_script, code, XDG_CACHE_HOME=cache) for _ in range(4)]
        for run in runs:
            assert run.result().stdout == "['went']\n", run.result().stderr
    built = (tmp_path / "cache" / "levrt" / "runtime").iterdir()
    assert len([p for p in built if p.is_dir()]) == 1


def test_threads_do_not_outlive_a_loop_that_is_stopped(tools, nothing_is_left):
    """A loop in a thread that is stopped from outside, as servers do."""
    loop = asyncio.new_event_loop()
    up = threading.Event()

    async def main():
        await sh(tools, "exec sleep 600").start()
        up.set()
        await asyncio.Event().wait()

    def serve():
        with asyncio.Runner(loop_factory=lambda: loop) as runner, _ignored():
            runner.run(main())

    thread = threading.Thread(target=serve)
    thread.start()
    assert up.wait(60)
    loop.call_soon_threadsafe(lambda: [t.cancel() for t in asyncio.all_tasks(loop)])
    thread.join(60)
    assert not thread.is_alive()


def _ignored():
    import contextlib

    return contextlib.suppress(asyncio.CancelledError)
