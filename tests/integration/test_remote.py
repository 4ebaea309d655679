"""An engine that is reached over the network: nothing here can be mounted.

The runtime is in a volume there, and entries speak through a relay.
"""

import asyncio
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from workflows import failure, lines, logged, sh

import levrt
from levrt import Cr, lev


@pytest.fixture
def there(remote_engine, monkeypatch):
    """All runs go there, of sessions that begin now."""
    monkeypatch.setenv("LEVRT_ENGINE", remote_engine.url)
    return remote_engine


@levrt.remote
def serves():
    import socket

    lev.set(role="service")
    with socket.create_server(("", 8000)) as server:
        while True:
            connection, _ = server.accept()
            connection.sendall(b"hello\n")
            connection.close()


@levrt.remote
def asks(name):
    import socket

    with socket.create_connection((name, 8000)) as connection:
        lev.set(answer=connection.makefile().readline().strip())
    with open("/etc/given") as f:
        lev.set(given=f.read())


def test_all_of_it(there, tools, tmp_path):
    (tmp_path / "given").write_text("by a path")
    given = {"/etc/given": tmp_path / "given"}

    async def main():
        service = Cr("", entry=serves(), ports=[8000])
        documents = await asyncio.gather(
            Cr(
                "",
                entry=asks("server"),
                files=given,
                services={"server": service},
            ),
            Cr(
                "",
                entry=asks("server"),
                files={"/etc/given": "as text"},
                host_config={"read_only": True},
                services={"server": service},
            ),
        )
        assert [await d.get() for d in documents] == [
            {"answer": "hello", "given": "by a path"},
            {"answer": "hello", "given": "as text"},
        ]
        task = await Cr("", entry=serves(), ports=[8000]).start()
        socket.create_connection((task.host, 8000), timeout=30).close()
        linked = Cr("", entry=asks("web"), links={"web": task.host}, files=given)
        assert (await (await linked).get())["answer"] == "hello"
        await task.stop(0)
        assert await lines(sh(tools, "echo plain")) == ["plain"]
        return lev.job_id

    session = levrt.run(main())
    assert there.containers(session) == []
    assert there.networks(session) == []
    assert there.images() == []


def test_failures_are_the_same(there, tools):
    @levrt.remote
    def raises():
        lev.set(a=1)
        raise LookupError("over there")

    @levrt.remote
    def stops():
        import os

        lev.set(a=1)
        os._exit(3)

    async def main():
        e = await failure(Cr("", entry=raises()), levrt.RemoteError)
        assert type(e.__cause__) is LookupError
        assert __file__ in e.traceback
        assert await e.document.get() == {"a": 1}
        e = await failure(Cr("", entry=stops()), levrt.TaskFailed)
        assert e.exit_code == 3
        assert await e.document.get() == {"a": 1}
        e = await failure(Cr(tools, cmd=["/nowhere"]), levrt.StartFailed)
        assert e.exit_code == 127

    levrt.run(main())


def test_cancelled(there):
    @levrt.remote
    def waits():
        import threading

        lev.set(a=1)
        print("up", flush=True)
        threading.Event().wait()

    async def main():
        started = await Cr("", entry=waits()).start()
        task, other = [asyncio.create_task(started.done()) for _ in range(2)]
        await logged(started, "up")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert there.containers(lev.job_id) == []
        e = await failure(other, levrt.TaskFailed)
        assert await e.document.get() == {"a": 1}

    levrt.run(main())


def test_many_guests_at_once(there):
    @levrt.remote
    def stores(n):
        for i in range(20):
            lev.set({f"k{i}": [n, i]})

    async def main():
        documents = await asyncio.gather(*[Cr("", entry=stores(n)) for n in range(6)])
        for n, document in enumerate(documents):
            assert await document.get() == {f"k{i}": [n, i] for i in range(20)}

    levrt.run(main())


_ONE = """
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


def test_many_processes_fill_the_volume_at_once(there):
    for volume in there.volumes():
        if volume.startswith("levrt-runtime-"):
            there.remove_volume(volume)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(_):
        return subprocess.run(
            [sys.executable, "-c", _ONE], env=env, capture_output=True, text=True
        )

    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(run, range(4)):
            assert done.stdout == "['went']\n", done.stderr
    volumes = [v for v in there.volumes() if v.startswith("levrt-runtime-")]
    assert len(volumes) == 1
