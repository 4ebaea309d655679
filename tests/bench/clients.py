"""The peers of levrt for short runs: one of them per process.

usage: clients.py NAME SOCKET IMAGE NETWORK CONCURRENCY

SOCKET is that of a Docker engine, or "oci:DIRECTORY" for levrt. NETWORK is a
bridge's name (levrt makes one itself), "none", or "publish": the engine's
default bridge, with a port published.

Each line of the input is a number of runs to make; each line of the output is
JSON: the wall-clock and CPU seconds that they took, children's and a helper's
included, and the private memory of the process and its helper afterwards, in
KiB.

Each client does the same work in its own best way: create a container with an
init, without a log, on that network, read its output to the end, see its exit
code, leave nothing behind. Setting up (imports, connections, levrt's session
with its network) is not counted.
"""

import asyncio
import functools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import helper

SOCKET, IMAGE, NETWORK = "", "", ""
COMMAND = ["true"]
PORT = 80


def cpu_seconds() -> float:
    total = helper.cpu_seconds()
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def private_kib() -> int:
    pids = [os.getpid(), helper.pid()]
    return sum(helper.private_kib(pid) for pid in pids if pid is not None)


def answer(wall: float, cpu: float) -> None:
    figures = {
        "seconds": time.perf_counter() - wall,
        "cpu": cpu_seconds() - cpu,
        "private": private_kib(),
    }
    print(json.dumps(figures), flush=True)


def serve(many: Callable[[int], object]) -> None:
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), cpu_seconds()
        many(int(line))
        answer(wall, cpu)


async def serve_async(one: Callable[[], Awaitable[object]], concurrency: int) -> None:
    loop = asyncio.get_running_loop()

    async def some(numbers: list[int]) -> None:
        while numbers:
            numbers.pop()
            await one()

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        wall, cpu = time.perf_counter(), cpu_seconds()
        numbers = list(range(int(line)))
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(some(numbers))
        answer(wall, cpu)


def threads(one: Callable[[], object], concurrency: int) -> None:
    def some(numbers: list[int]) -> None:
        while True:
            try:
                numbers.pop()
            except IndexError:
                return
            one()

    with ThreadPoolExecutor(concurrency) as pool:

        def many(count: int) -> None:
            numbers = list(range(count))
            for future in [pool.submit(some, numbers) for _ in range(concurrency)]:
                future.result()

        serve(many)


def levrt_(concurrency: int, *, closure: bool = False) -> None:
    import levrt

    @levrt.remote
    def entry() -> None:
        from levrt import lev

        lev.set(a=1)

    async def main() -> None:
        async def one() -> None:
            if closure:
                await levrt.Cr(IMAGE, entry=entry(), host_config=config)
            else:
                await levrt.Cr(IMAGE, cmd=COMMAND, host_config=config)

        await one()
        await serve_async(one, concurrency)

    config: dict[str, Any] = {}
    if NETWORK == "none":
        config["network_mode"] = "none"
    elif NETWORK == "publish":
        config["port_bindings"] = {f"{PORT}/tcp": None}
    is_url = SOCKET.startswith("oci:")
    os.environ["LEVRT_ENGINE"] = SOCKET if is_url else f"unix://{SOCKET}"
    levrt.run(main())


def docker_py(concurrency: int) -> None:
    import docker  # type: ignore[import-untyped]

    api = docker.APIClient(f"unix://{SOCKET}", num_pools=4 * concurrency)
    publish = NETWORK == "publish"
    config = api.create_host_config(
        init=True,
        network_mode="bridge" if publish else NETWORK,
        log_config={"Type": "none"},
        port_bindings={PORT: None} if publish else None,
    )
    ports = [PORT] if publish else None

    def one() -> None:
        made = api.create_container(IMAGE, COMMAND, host_config=config, ports=ports)
        id_ = made["Id"]
        try:
            output = api.attach(id_, stream=True)
            api.start(id_)
            for _ in output:
                pass
            assert api.wait(id_)["StatusCode"] == 0
        finally:
            api.remove_container(id_, v=True, force=True)

    threads(one, concurrency)


def aiodocker_(concurrency: int) -> None:
    import aiodocker

    config: dict[str, Any] = {
        "Image": IMAGE,
        "Cmd": COMMAND,
        "HostConfig": {
            "Init": True,
            "NetworkMode": NETWORK,
            "LogConfig": {"Type": "none"},
        },
    }

    async def main() -> None:
        async with aiodocker.Docker(f"unix://{SOCKET}") as docker:

            async def one() -> None:
                container = await docker.containers.create(config)
                try:
                    async with container.attach(stdout=True, stderr=True) as output:
                        await container.start()
                        while await output.read_out():
                            pass
                    assert (await container.wait())["StatusCode"] == 0
                finally:
                    await container.delete(v=True, force=True)

            await serve_async(one, concurrency)

    asyncio.run(main())


def docker_cli(concurrency: int) -> None:
    argv = ["docker", "-H", f"unix://{SOCKET}", "run", "--rm", "--init"]
    argv += ["--log-driver", "none", "--network", NETWORK, IMAGE, *COMMAND]

    def one() -> None:
        subprocess.run(argv, check=True, capture_output=True)

    threads(one, concurrency)


CLIENTS: dict[str, Callable[[int], None]] = {
    "levrt": levrt_,
    "levrt-closure": functools.partial(levrt_, closure=True),
    "docker-py": docker_py,
    "aiodocker": aiodocker_,
    "docker CLI": docker_cli,
}

if __name__ == "__main__":
    _, name, SOCKET, IMAGE, NETWORK, count = sys.argv
    CLIENTS[name](int(count))
