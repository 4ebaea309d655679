"""A workflow that goes on until it is killed, or is told to end.

usage: victim.py IMAGE plain|services|closure|fork|keep|many

It prints its session's id, then "ready" when what the way says is running
("many": at once, with bring-ups that never cease), then waits for a line.
"""

import asyncio
import os
import signal
import sys
import threading

import levrt
from levrt import Cr
from levrt.session import current_session


def tool(image: str, **options: object) -> Cr:
    return Cr(image, cmd=["sh", "-c", "sleep 1000 & exec sleep 1000"], **options)


def nested(image: str) -> Cr:
    inner = tool(image, services={"inner": tool(image)})
    return tool(image, services={"outer": inner, "other": tool(image)})


def keep(image: str) -> Cr:
    return tool(image, keep=True)


def closure(image: str) -> Cr:
    @levrt.remote
    def entry():
        import time

        time.sleep(1000)

    return Cr(image, entry=entry())


async def start_many(image: str) -> None:
    """Some are brought up, some run, some are torn down at any moment."""

    async def one(number: int) -> None:
        while True:
            task = await (nested(image) if number == 0 else tool(image)).start()
            await asyncio.sleep(0.05 * number)
            await task.stop(grace=0)

    for number in range(4):
        _tasks.append(asyncio.ensure_future(one(number)))


_tasks: list[asyncio.Task[None]] = []


def fork_child() -> int:
    """One that holds everything that this process has open, as multiprocessing's
    children do, and outlives it."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)
        signal.pause()
        os._exit(0)
    return pid


def read_line(told: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    sys.stdin.readline()
    loop.call_soon_threadsafe(told.set)


async def main(image: str, way: str) -> None:
    print(current_session().id, flush=True)
    if way == "many":
        await start_many(image)
    else:
        making = {"services": nested, "closure": closure, "keep": keep}.get(way, tool)
        await making(image).start()
    if way == "fork":
        print(fork_child(), flush=True)
    print("ready", flush=True)
    told = asyncio.Event()
    args = (told, asyncio.get_running_loop())
    threading.Thread(target=read_line, args=args, daemon=True).start()
    await told.wait()
    for task in _tasks:
        task.cancel()


if __name__ == "__main__":
    levrt.run(main(*sys.argv[1:]))
