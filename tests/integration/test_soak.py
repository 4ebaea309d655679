"""A thousand runs, some of which fail or are cancelled: nothing is left."""

import asyncio
import gc
import os
import random

import pytest
from engines import left_behind
from test_loops import descriptors, threads
from workflows import sh

import levrt
from levrt import Concurrent, Cr, lev

RUNS = int(os.environ.get("LEVRT_SOAK_RUNS", "1000"))


class Soak:
    """Runs of each kind, and what they have acknowledged."""

    def __init__(self, image, seed):
        self.image = image
        self.random = random.Random(seed)
        self.acknowledged = {}
        self.ended = {"well": 0, "failed": 0, "cancelled": 0}

    async def one(self, number):
        if number % 10 == 3:
            await self.cancelled(number)
        else:
            await self.uncancelled(number)

    async def uncancelled(self, number):
        cr, wanted = self.make(number)
        try:
            document = await cr
        except levrt.TaskFailed as e:
            assert number % 10 == 7, e
            assert e.exit_code == 9 or isinstance(e, levrt.RemoteError), e
            document = e.document
            self.ended["failed"] += 1
        else:
            assert number % 10 != 7
            self.ended["well"] += 1
        assert await document.get() == wanted
        if wanted:
            self.acknowledged[document.filter["_id"]] = wanted

    async def cancelled(self, number):
        """At a random moment of what a run takes here."""

        async def run():
            await self.make(number)[0]

        task = asyncio.ensure_future(run())
        await asyncio.wait([task], timeout=self.random.expovariate(1 / 0.4))
        task.cancel()
        await asyncio.wait([task])
        self.ended["cancelled"] += 1

    def make(self, number):
        """The run, and what its document holds at its end."""
        fails = number % 10 == 7
        if number % 3 == 0:
            return Cr(self.image, "team/soak@1.0", entry=_entry(number, fails)), {
                "number": number,
                "parts": {"a": [number] * 10, "b": number},
            }
        script = "exit 9" if fails else "echo $0"
        return sh(self.image, script, str(number)), {}


@levrt.remote
def _entry(number, fails):
    lev.set(number=number)
    lev.set({"parts.a": [number] * 10, "parts.b": number})
    if fails:
        raise ValueError(number)


async def _workflow(image, session):
    soak = Soak(image, seed=RUNS)
    session.append(lev.job_id)
    async with Concurrent(limit=10) as c:
        for number in range(RUNS):
            c.start(soak.one(number))
    return soak


async def _stored():
    found = {}
    with lev / "team/soak@1.0" as document:
        async for each in document.coll.find():
            found[each.pop("_id")] = each
    return found


@pytest.fixture
def as_before(engine, scratch, tools):
    """Threads, descriptors, and what is on the engine and in folders."""
    levrt.run(_workflow_of_few(tools))

    def there():
        gc.collect()
        return {
            "threads": sorted(threads().values()),
            "descriptors": sorted(descriptors().values()),
            "engine": left_behind(engine, engine.volumes()),
            "volumes": engine.volumes(),
            "runtime files": os.listdir(scratch / "run"),
            "temporary files": os.listdir(scratch / "tmp"),
        }

    before = there()
    yield
    assert there() == before


async def _workflow_of_few(image):
    soak = Soak(image, seed=0)
    await asyncio.gather(*map(soak.one, range(3)))


def test_a_thousand_runs(engine, tools, as_before, caplog):
    session = []
    soak = levrt.run(_workflow(tools, session))
    assert sum(soak.ended.values()) == RUNS
    if RUNS >= 100:
        assert soak.ended["failed"] >= RUNS // 10 - 1
        assert soak.ended["cancelled"] >= RUNS // 10 - 1
    assert engine.containers(session[0]) == []
    for name in engine.networks(session[0]):
        assert f"{name} is left behind: " in caplog.text
        assert "nothing is connected to it: the engine has miscounted" in caplog.text
    stored = levrt.run(_stored())
    missing = [key for key in soak.acknowledged if key not in stored]
    assert missing == []
    for key, wanted in soak.acknowledged.items():
        assert stored[key] == wanted
