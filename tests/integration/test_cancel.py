"""Cancelled in every phase: when the await returns, nothing is left."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry import Registry
from workflows import failure, lines, logged, sh

import levrt
from levrt import Cr, lev

# Of the reached event, so that a broken test fails instead of hanging.
PATIENCE = 60


async def reached(hold):
    assert await asyncio.to_thread(hold.reached.wait, PATIENCE)


async def cancelled(task):
    """The task ends by being cancelled, soon."""
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    assert done, "it hangs"
    assert task.cancelled() or isinstance(task.exception(), TimeoutError)


class ByCancel:
    """task.cancel()"""

    def start(self, awaitable):
        async def run():
            return await awaitable

        self.task = asyncio.create_task(run())
        return self.task

    async def cancel(self):
        self.task.cancel()
        await asyncio.sleep(0)  # the cancellation reaches the operation


class ByTimeout:
    """asyncio.timeout()"""

    def start(self, awaitable):
        async def run():
            async with asyncio.timeout(None) as self.timeout:
                return await awaitable

        return asyncio.create_task(run())

    async def cancel(self):
        self.timeout.reschedule(asyncio.get_running_loop().time())
        await asyncio.sleep(0)  # the time is out, the task is cancelled
        await asyncio.sleep(0)  # the cancellation reaches the operation


@pytest.fixture(params=[ByCancel, ByTimeout], ids=lambda c: c.__name__)
def way(request):
    return request.param()


HELD = ["create", "put", "attach", "start", "inspect", "remove"]


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("phase", HELD)
async def test_in_a_phase(engine, gate, tools, way, phase, side):
    hold = gate.hold(phase, answer=side == "after")
    cr = sh(tools, "echo ran", files={"/file": b"x"}, engine=gate.url)
    task = way.start(cr.done())
    await reached(hold)
    await way.cancel()
    hold.release()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("phase", ["create", "start", "inspect"])
async def test_start_in_a_phase(engine, gate, tools, way, phase, side):
    hold = gate.hold(phase, answer=side == "after")
    task = way.start(sh(tools, "exec sleep 600", engine=gate.url).start())
    await reached(hold)
    await way.cancel()
    hold.release()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []


@pytest.mark.parametrize("side", ["before", "after"])
async def test_while_files_become_an_image(engine, gate, tools, way, side):
    hold = gate.hold("commit", answer=side == "after")
    options = {"read_only": True}
    cr = sh(tools, "true", files={"/f": b""}, host_config=options, engine=gate.url)
    task = way.start(cr.done())
    await reached(hold)
    await way.cancel()
    hold.release()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []
    assert engine.images() == []


async def test_while_an_image_is_pulled(engine, images, way):
    registry = Registry(images.fresh(os.urandom(1 << 20)), stop_at=1 << 18)
    try:
        task = way.start(Cr(registry.image).done())
        assert await asyncio.to_thread(registry.stalled.wait, PATIENCE)
        await way.cancel()
        await cancelled(task)
        assert not engine.has_image(registry.image)
    finally:
        await asyncio.to_thread(registry.close)


async def test_while_the_ports_are_awaited(engine, gate, tools, way):
    hold = gate.hold("exec", answer=True)
    cr = sh(tools, "exec sleep 600", ports=[8000], engine=gate.url)
    task = way.start(cr.start())
    await reached(hold)
    hold.release()
    await way.cancel()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []


@pytest.mark.parametrize("phase", ["create", "network"])
async def test_while_services_come_up(engine, gate, tools, way, phase):
    hold = gate.hold(phase, answer=True)
    services = {name: sh(tools, "exec sleep 600", engine=gate.url) for name in "abc"}
    task = way.start(sh(tools, "true", services=services, engine=gate.url).done())
    await reached(hold)
    await way.cancel()
    hold.release()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []
    assert [n for n in engine.networks(lev.job_id) if "-run-" in n] == []


async def test_while_it_runs(engine, tools, way):
    started = await sh(
        tools, "trap 'exit 3' TERM; echo up; while :; do :; done"
    ).start()
    task = way.start(started.done())
    await logged(started, "up")
    other = asyncio.create_task(started.done())
    await asyncio.sleep(0)
    await way.cancel()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []
    e = await failure(other, levrt.TaskFailed)
    assert e.phase == "cancelled"
    assert e.exit_code == 3  # it got its stop signal, and time for it


async def test_what_was_stored_stays(engine, tools):
    @levrt.remote
    def entry():
        import threading

        lev.set(found=[1, 2])
        print("stored", flush=True)
        threading.Event().wait()

    started = await Cr(tools, entry=entry()).start()
    task, other = [asyncio.create_task(started.done()) for _ in range(2)]
    await logged(started, "stored")
    task.cancel()
    await cancelled(task)
    e = await failure(other, levrt.TaskFailed)
    assert await e.document.get() == {"found": [1, 2]}


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _connect(port):
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port)).close()


async def test_when_it_has_started_but_nobody_knows(engine, gate, tools, scratch):
    """start() has done its work; its result is under way to the loop."""
    hold = gate.hold("inspect", answer=True)
    port, word = _free_port(), os.urandom(8).hex()
    script = f"nc -l -p {port}; echo {word}; exec sleep 600"
    task = asyncio.create_task(sh(tools, script, host=True, engine=gate.url).start())
    await reached(hold)
    # Nothing here lets the loop run. What a tool says is read when its start is
    # over, and so that has been reported.
    hold.release()
    _connect(port)
    logs = scratch / "data" / "logs"
    while not any(word.encode() in log.read_bytes() for log in logs.iterdir()):
        pass
    assert len(engine.containers(lev.job_id)) == 1
    task.cancel()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []


def _elsewhere(coroutine):
    """Runs it in another thread's loop, while this one stands still."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(levrt.run, coroutine).result()


async def test_when_it_has_ended_but_nobody_knows(engine, gate, tools):
    async def recorded():
        with lev / "lev.runs" as document:
            while not await document.coll.find_one({"name": name}):
                pass

    name = "ended-unheard"
    hold = gate.hold("remove", answer=True)
    task = asyncio.create_task(sh(tools, "true", name=name, engine=gate.url).done())
    await reached(hold)
    hold.release()
    _elsewhere(recorded())
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()
    assert engine.containers(lev.job_id) == []


async def test_twice_ends_the_grace(engine, tools, monkeypatch):
    monkeypatch.setenv("LEVRT_GRACE", "3600")
    stubborn = "trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done"

    async def main():
        started = await sh(tools, stubborn).start()
        await logged(started, "up")
        task = asyncio.create_task(started.done())
        await asyncio.sleep(0)
        task.cancel()
        await logged(started, "asked")
        assert not task.done()
        task.cancel()
        await cancelled(task)
        assert engine.containers(lev.job_id) == []

    await asyncio.to_thread(levrt.run, main())


async def test_a_task_group(engine, tools):
    class Stop(Exception):
        pass

    with pytest.raises(ExceptionGroup) as info:
        async with asyncio.TaskGroup() as group:
            tasks = [await sh(tools, "exec sleep 600").start() for _ in range(3)]
            for task in tasks:
                group.create_task(task.done())
            await asyncio.sleep(0)
            raise Stop
    assert info.group_contains(Stop)
    assert engine.containers(lev.job_id) == []


async def test_wait_for(engine, tools):
    started = await sh(tools, "exec sleep 600").start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(started.done(), 0.01)
    # Of 3.12 on, wait_for itself waits for the cancelled operation.
    await failure(started.done(), levrt.TaskFailed)
    assert engine.containers(lev.job_id) == []


async def test_concurrent_is_cancelled(engine, tools):
    up = asyncio.Event()

    async def one():
        task = await sh(tools, "exec sleep 600").start()
        up.set()
        await task

    async def all_of_them():
        async with levrt.Concurrent(limit=3) as c:
            for _ in range(6):
                c.start(one())

    task = asyncio.create_task(all_of_them())
    await up.wait()
    task.cancel()
    await cancelled(task)
    assert engine.containers(lev.job_id) == []


async def test_a_closed_operation_is_the_sessions(engine, tools):
    ids = []

    async def main():
        ids.append(lev.job_id)
        op = sh(tools, "exec sleep 600").start()
        op.send(None)
        op.close()

    await asyncio.to_thread(levrt.run, main())
    assert engine.containers(ids[0]) == []
    assert engine.networks(ids[0]) == []


async def test_an_operation_that_nobody_awaits(tools):
    with pytest.warns(RuntimeWarning, match="never awaited"):
        sh(tools, "true").done()
        gc.collect()


async def test_a_session_ends_with_runs_under_way(engine, tools):
    ids = []

    async def main():
        ids.append(lev.job_id)
        await sh(tools, "exec sleep 600").start()
        await sh(
            tools, "exec sleep 600", services={"a": sh(tools, "sleep 600")}
        ).start()

    await asyncio.to_thread(levrt.run, main())
    assert engine.containers(ids[0]) == []
    assert engine.networks(ids[0]) == []


# Ctrl-C

_INTERRUPTED = """
import asyncio
import sys

import levrt
from levrt import Concurrent, Cr, lev

image = sys.argv[1]

def polite():
    @levrt.remote
    def entry():
        import signal, sys, threading

        def stop(number, frame):
            lev.set(asked=signal.Signals(number).name)
            sys.exit(0)

        signal.signal(signal.SIGTERM, stop)
        lev.set(kind="polite")
        print("up", flush=True)
        threading.Event().wait()

    return Cr(image, entry=entry())

def stubborn():
    @levrt.remote
    def entry():
        import signal, sys, threading

        def stop(number, frame):
            lev.set(asked=signal.Signals(number).name)

        signal.signal(signal.SIGTERM, stop)
        lev.set(kind="stubborn")
        print("up", flush=True)
        while True:
            signal.pause()

    return Cr(image, entry=entry())

async def one(cr):
    task = await cr.start()
    async for line in task.logs():
        if line.text == "up":
            print("up", task.name, flush=True)
            break
    await task

async def main():
    print("session", lev.job_id, flush=True)
    with lev / sys.argv[2]:
        lev.set(of_the_workflow=1)
        async with Concurrent() as c:
            for make in (polite, polite, stubborn):
                c.start(one(make()))

if sys.argv[3] == "asyncio.run":
    asyncio.run(main())
else:
    levrt.run(main())
"""


@pytest.fixture
async def interrupted(tools, tmp_path):
    """Starts the workflow with that grace; returns when all its tools are up."""
    script = tmp_path / "workflow.py"
    script.write_text(_INTERRUPTED)
    processes = []

    async def start(name, grace, run="levrt.run"):
        env = {**os.environ, "LEVRT_GRACE": str(grace)}
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            tools,
            name,
            run,
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        session = (await process.stdout.readline()).decode().split()[1]
        for _ in range(3):
            assert (await process.stdout.readline()).startswith(b"up"), (
                await process.stderr.read()
            )
        return process, session

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _collected(name):
    with lev / name as document:
        return [d async for d in document.coll.find()]


@pytest.mark.parametrize("run", ["levrt.run", "asyncio.run"])
async def test_one_ctrl_c(engine, interrupted, run):
    process, session = await interrupted(run, 1, run)
    process.send_signal(signal.SIGINT)
    _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == -signal.SIGINT, stderr.decode()
    assert (b"3 runs are stopped" in stderr) == (run == "levrt.run")
    assert engine.containers(session) == []
    assert engine.networks(session) == []
    found = await _collected(run)
    assert sorted((d.get("kind"), d.get("asked")) for d in found if "kind" in d) == [
        ("polite", "SIGTERM"),
        ("polite", "SIGTERM"),
        ("stubborn", "SIGTERM"),
    ]
    assert [d["of_the_workflow"] for d in found if "kind" not in d] == [1]


async def test_a_second_ctrl_c(engine, interrupted):
    process, session = await interrupted("ctrl-c-twice", 3600)
    process.send_signal(signal.SIGINT)
    while b"runs are stopped" not in (line := await process.stderr.readline()):
        assert line, "no word of the first Ctrl-C"
    process.send_signal(signal.SIGINT)
    _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == -signal.SIGINT, stderr.decode()
    assert b"killed" in stderr
    assert engine.containers(session) == []
    assert engine.networks(session) == []
    kinds = [d["kind"] for d in await _collected("ctrl-c-twice") if "kind" in d]
    assert sorted(kinds) == ["polite", "polite", "stubborn"]


async def test_ctrl_c_while_an_image_is_pulled(images):
    registry = Registry(images.fresh(os.urandom(1 << 20)), stop_at=1 << 18)
    code = "import levrt, sys; levrt.run(levrt.Cr(sys.argv[1]))"
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            registry.image,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=asyncio.subprocess.PIPE,
        )
        assert await asyncio.to_thread(registry.stalled.wait, PATIENCE)
        process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == -signal.SIGINT, stderr.decode()
    finally:
        await asyncio.to_thread(registry.close)


async def test_after_all_that_runs_go_on(tools):
    assert await lines(sh(tools, "echo on")) == ["on"]
