"""Runs over an engine that breaks: what is said, and that nothing is left.

Every request of a run fails in every way that an engine or its connection can
fail. In each case the error names the phase, the run comes to its end, and so
does its session: no thread, container or network stays.
"""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from loops import HANG

import levrt
from engine import Script
from levrt import (
    Conflict,
    Cr,
    EngineError,
    EngineUnavailable,
    ImageNotFound,
    PullError,
    StartFailed,
    UnsupportedOption,
)

# What a run asks for, in its order, and the phase that its error names.
PHASES = {
    "GET /version": "engine",
    "GET /images/*/json": "pull",
    "POST /images/create": "pull",
    "POST /networks/create": "create",
    "POST /containers/create": "create",
    "PUT /containers/*/archive": "files",
    "POST /containers/*/attach": "start",
    "POST /containers/*/wait": "start",
    "POST /containers/*/start": "start",
}
# After the run: its result is known, so it does not fail.
AFTERWARDS = ["GET /containers/*/json", "DELETE /containers/*", "DELETE /networks/*"]

BROKEN = {
    "drop": {"drop": True},
    "garbage": {"garbage": True},
    "500": {"status": 500, "message": "it broke"},
    "409": {"status": 409, "message": "in conflict"},
}


@pytest.fixture
def engine(engine):
    engine.script = Script(stdout=b"x\n")
    return engine


def prepare(engine, route):
    """A Cr whose run makes that request."""
    if "/images/create" in route:
        engine.images.clear()
        engine.remote_images.add("img:latest")
    return Cr("img", files={"/f": "x"} if "archive" in route else None)


def core_threads():
    """Threads of runs that have not ended; those of the pool may stay."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [name for name in names if name == "lev-run"]


def assert_nothing_left(engine):
    assert not engine.containers
    assert not engine.networks
    assert_no_threads()


def assert_no_threads():
    # A thread's last act but one is to say that it has ended.
    for _ in range(1000):
        if not core_threads():
            break
        threading.Event().wait(0.001)
    assert core_threads() == []


async def bounded(awaitable):
    return await asyncio.wait_for(awaitable, HANG)


def expected(route, fault):
    if fault in ("drop", "garbage"):
        if route == "GET /version":
            return EngineUnavailable
        return EngineError
    if "/images/create" in route:
        return PullError
    if fault == "409":
        return StartFailed if "archive" in route else Conflict
    if route == "GET /version":
        return EngineUnavailable
    return StartFailed if route.endswith("/start") else EngineError


# A subnet that is taken is another one's turn; whether a wait that breaks off at
# once does so before the run has begun is a matter of luck.
MENDED = [("POST /networks/create", "409"), ("POST /containers/*/wait", "drop")]


@pytest.mark.parametrize(
    ("route", "fault"),
    [(r, f) for r in PHASES for f in BROKEN if (r, f) not in MENDED],
)
def test_broken_once(engine, route, fault):
    engine.fault(route, times=1, **BROKEN[fault])
    cr = prepare(engine, route)

    async def main():
        with pytest.raises(levrt.LevError) as caught:
            await bounded(cr.done())
        return caught.value, await bounded(cr.done())

    exc, doc = levrt.run(main())
    assert type(exc) is expected(route, fault)
    text = str(exc)
    assert "-1 (image img), " in text  # the run's name and what it was to run
    assert f", {PHASES[route]}: " in text
    if "status" in BROKEN[fault]:
        assert BROKEN[fault]["message"] in text
    elif "/attach" not in route:
        assert str(engine.path) in text  # which engine
    if isinstance(exc, EngineError):
        assert exc.status == BROKEN[fault].get("status")
    else:
        assert exc.phase == PHASES[route]
    assert doc.run.exit_code == 0  # the second time it worked
    assert_nothing_left(engine)


def test_the_output_breaks_off(engine):
    """That is no end of the run."""
    engine.script = Script(hold=True)

    async def main():
        task = await bounded(Cr("img").start())
        engine.disconnect("POST /containers/*/attach")
        waiting = asyncio.create_task(task.done())
        # The engine has cut it when it does what it was told after that.
        for container in list(engine.containers.values()):
            container.finish(0)
        return (await bounded(waiting)).run.exit_code

    assert levrt.run(main()) == 0
    assert_nothing_left(engine)


def test_the_output_is_taken_up_again(engine, caplog):
    """What was printed meanwhile is missing, and that is said."""
    engine.script = Script(stdout=b"x\n", hold=True)
    route = "POST /containers/*/attach"

    async def main():
        task = await bounded(Cr("img").start())
        lines = aiter(task.logs())
        assert (await bounded(anext(lines))).text == "x"
        engine.disconnect(route)
        assert (await bounded(anext(lines))).text == "x"  # the fake says it again
        await task.stop()
        return task.name

    name = levrt.run(main())
    assert engine.count(route) == 2
    assert f"{name}: the connection to its output broke" in caplog.text
    assert_nothing_left(engine)


def test_the_wait_breaks_off(engine):
    """An engine that answers again is asked again."""
    engine.script = Script(hold=True)
    route = "POST /containers/*/wait"

    async def main():
        task = await bounded(Cr("img").start())
        engine.disconnect(route)
        await asyncio.to_thread(engine.wait_for, lambda: engine.count(route) == 2)
        assert engine.requests[-1].query == {"condition": "not-running"}
        for container in list(engine.containers.values()):
            container.finish(3)
        with pytest.raises(levrt.TaskFailed) as caught:
            await bounded(task.done())
        return caught.value.exit_code

    assert levrt.run(main()) == 3
    assert_nothing_left(engine)


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("route", AFTERWARDS)
def test_broken_at_the_end(engine, route, fault, caplog):
    """What could not be removed is removed when the session ends."""
    engine.fault(route, times=1, **BROKEN[fault])

    async def main():
        return (await bounded(Cr("img").done())).run.exit_code

    assert levrt.run(main()) == 0
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    if route == "DELETE /containers/*":
        assert any("could not remove " in text for text in warnings)
    if route.startswith("GET"):
        assert any("how it ended is not known in full" in text for text in warnings)
    if route != "DELETE /networks/*":
        assert_nothing_left(engine)


def test_what_stays_for_good_is_named(engine, caplog):
    engine.fault("DELETE /containers/*", status=500, message="it is stuck")

    async def main():
        task = await Cr("img").start()
        await task
        return task.name

    name = levrt.run(main())
    assert f"{name} is left behind: " in caplog.text
    assert "it is stuck" in caplog.text
    assert_no_threads()


# ---- mute engines ----

# What the engine may be in the middle of.
WHOLE = [
    "POST /networks/create",
    "POST /containers/create",
    "POST /containers/*/start",
]
MUTE = [route for route in PHASES if route not in WHOLE]


@pytest.mark.parametrize("how", ["cancel", "timeout"])
@pytest.mark.parametrize("route", MUTE)
def test_mute_and_cancelled(engine, route, how):
    """The answer never comes: a cancel ends the run all the same."""
    engine.script = Script(hold=True)
    engine.fault(route, stall=True, times=1)
    cr = prepare(engine, route)

    async def main():
        task = asyncio.create_task(cr.done())
        await asyncio.to_thread(engine.wait_for, lambda: engine.count(route))
        assert not task.done()
        if how == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await bounded(task)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await task

    levrt.run(main())
    assert_nothing_left(engine)


@pytest.mark.parametrize("route", WHOLE)
def test_not_given_up(engine, route):
    """The engine may be making it: the answer is waited for, then undone."""
    engine.fault(route, stall=True, times=1)

    async def main():
        task = asyncio.create_task(Cr("img").done())
        await asyncio.to_thread(engine.wait_for, lambda: engine.count(route))
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done
        engine.disconnect(route)
        with pytest.raises(asyncio.CancelledError):
            await bounded(task)

    levrt.run(main())
    assert_nothing_left(engine)


@pytest.mark.parametrize("route", WHOLE)
def test_made_although_cancelled(engine, route):
    engine.script = Script(hold=True)
    engine.fault(route, stall=True, times=1)

    async def main():
        task = asyncio.create_task(Cr("img").done())
        await asyncio.to_thread(engine.wait_for, lambda: engine.count(route))
        task.cancel()
        await asyncio.sleep(0)
        engine.release(route)
        with pytest.raises(asyncio.CancelledError):
            await bounded(task)

    levrt.run(main())
    assert engine.count("POST /containers/*/start") == (route == WHOLE[-1])
    # Removed at once: what did not come to run is not asked to stop.
    assert engine.count("POST /containers/*/kill") == 0
    assert_nothing_left(engine)


def test_a_subnet_that_is_taken(engine):
    """Another one is tried."""
    engine.fault("POST /networks/create", status=409, message="overlaps", times=1)

    async def main():
        return (await bounded(Cr("img").done())).run.exit_code

    assert levrt.run(main()) == 0
    assert engine.count("POST /networks/create") == 2
    assert_nothing_left(engine)


def test_made_although_the_answer_was_lost(engine):
    """The connection breaks while the engine goes on: nothing is made twice,
    nothing stays."""
    route = "POST /containers/create"
    engine.fault(route, after=0.02, times=1)
    engine.fault(route, after=0.2, times=1)

    async def main():
        task = asyncio.create_task(Cr("img").done())
        await asyncio.to_thread(engine.wait_for, lambda: engine.count(route))
        engine.disconnect(route)
        try:
            await bounded(task)
        except EngineError as exc:
            assert ", create: " in str(exc)

    levrt.run(main())
    assert engine.count("POST /containers/*/start") <= 1
    assert_nothing_left(engine)


def test_mute_in_the_middle_of_many(engine):
    """One that hangs keeps nobody else."""
    engine.fault("POST /containers/*/attach", stall=True, times=1)

    async def main():
        tasks = [asyncio.create_task(Cr("img").done()) for _ in range(10)]
        done, stuck = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while len(stuck) > 1:
            more, stuck = await asyncio.wait(stuck, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert {task.result().run.exit_code for task in done} == {0}
        (last,) = stuck
        last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bounded(last)

    levrt.run(main())
    assert_nothing_left(engine)


# ---- engines and images ----


def test_no_engine(home, monkeypatch):
    monkeypatch.setenv("LEVRT_ENGINE", f"unix://{home}/none.sock")

    async def main():
        await Cr("img")

    with pytest.raises(EngineUnavailable, match=r"none\.sock"):
        levrt.run(main())


def test_engine_that_goes_away(engine):
    async def main():
        await Cr("img")
        engine.path.unlink()
        engine.disconnect("*")
        with pytest.raises(EngineError, match=str(engine.path)):
            await bounded(Cr("img").done())

    levrt.run(main())
    assert_no_threads()
    engine.path.touch()  # the fake removes it


def test_engine_of_the_run(engine, home):
    async def main():
        with pytest.raises(EngineUnavailable, match=r"other\.sock"):
            await Cr("img", engine=f"unix://{home}/other.sock")
        await Cr("img", engine=engine.url)

    levrt.run(main())
    assert_nothing_left(engine)


@pytest.mark.parametrize(
    ("image", "whose"), [("", "engine"), ("img", "engine"), ("far", "image far")]
)
def test_another_architecture(engine, image, whose):
    """A closure and the probe of ports are for this machine alone."""
    machine = os.uname().machine
    if image != "far":
        engine.arch = "s390x"
    engine.images.add("far:latest")
    engine.image_details["far:latest"] = {"Architecture": "s390x"}
    engine.image_details["img:latest"] = {"Architecture": ""}

    @levrt.remote
    def entry():
        pass

    says = f"the {whose} is for s390x and this machine is {machine}"
    way_out = r'use @remote\(python="image"\)'
    with pytest.raises(StartFailed, match=f"{says}: .*{way_out}"):
        levrt.run(Cr(image, entry=entry()).done())
    if image:
        with pytest.raises(UnsupportedOption, match=f"ports= .*{says}; leave ports="):
            levrt.run(Cr(image, ports=[80]).done())
    assert_nothing_left(engine)


def test_an_entry_that_closes_over_too_much(engine):
    data = b"x" * 50_000_000

    @levrt.remote
    def entry():
        return data

    says = r"entry entry closes over 50\d{6} bytes of data, more than \d+: .*files="
    with pytest.raises(ValueError, match=says):
        levrt.run(Cr("img", entry=entry).done())
    assert not engine.count("POST /containers/create")


def test_image_that_does_not_exist(engine):
    async def main():
        with pytest.raises(ImageNotFound) as caught:
            await Cr("other:1.0")
        assert caught.value.status == 404
        assert "other:1.0" in str(caught.value) and ", pull: " in str(caught.value)
        with pytest.raises(ImageNotFound):
            await Cr("other:1.0", pull="never")

    levrt.run(main())
    assert engine.count("POST /images/create") == 1
    assert_nothing_left(engine)


@pytest.mark.parametrize("pull", ["missing", "always", "never"])
def test_pull(engine, pull):
    engine.remote_images.add("img:latest")

    async def main():
        await Cr("img", pull=pull)

    levrt.run(main())
    assert engine.count("POST /images/create") == (pull == "always")


def test_error_in_the_middle_of_a_pull(engine):
    engine.images.clear()
    engine.remote_images.add("img:latest")
    engine.pull_messages = [
        {"status": "Pulling"},
        {"errorDetail": {"message": "the disk is full"}, "error": "the disk is full"},
    ]

    async def main():
        with pytest.raises(PullError, match="the disk is full") as caught:
            await Cr("img")
        assert caught.value.kind == "failed"

    levrt.run(main())
    assert_nothing_left(engine)


def test_pull_that_makes_no_progress(engine, monkeypatch):
    monkeypatch.setenv("LEVRT_PULL_STALL_TIMEOUT", "0.1")
    cr = prepare(engine, "POST /images/create")
    engine.fault("POST /images/create", stall=True)

    async def main():
        with pytest.raises(PullError, match="no progress") as caught:
            await bounded(cr.done())
        assert caught.value.kind == "stalled"

    levrt.run(main())
    assert_nothing_left(engine)


TINI = "[FATAL tini (7)] exec prog failed: %s\n"
CATATONIT = "ERROR (catatonit:2): failed to exec pid1: %s\n"
MISSING, DENIED = "No such file or directory", "Permission denied"


@pytest.mark.parametrize(
    ("code", "says", "why", "text"),
    [
        (127, TINI, MISSING, "prog is not in the image img (exit code 127): exec"),
        (126, TINI, DENIED, "prog in the image img cannot be executed (exit code 126)"),
        (1, CATATONIT, MISSING, "prog is not in the image img (exit code 1): exec"),
        (1, CATATONIT, DENIED, "prog in the image img cannot be executed (exit code 1"),
    ],
)
def test_a_program_that_cannot_be_started(engine, code, says, why, text):
    """Each init has its words and its exit code."""
    engine.script = Script(exit_code=code, stderr=(says % why).encode())
    with pytest.raises(StartFailed) as caught:
        levrt.run(Cr("img", cmd=["prog"]).done())
    assert text in str(caught.value) and why in str(caught.value)
    assert (caught.value.phase, caught.value.exit_code) == ("start", code)
    engine.script = Script(exit_code=code, stderr=b"exec prog failed\n")
    with pytest.raises(levrt.TaskFailed) as caught:
        levrt.run(Cr("img", cmd=["prog"]).done())
    assert caught.value.phase == "run"


def test_killed_within_a_limit_of_memory(engine):
    """Whether it was for memory is the engine's word, which may be lost."""
    limit = {"mem_limit": "64m"}
    for oom, kind, hint in (
        (True, levrt.OutOfMemory, "give it more"),
        (False, levrt.TaskFailed, "with mem_limit it is likely"),
    ):
        engine.script = Script(exit_code=137, oom_killed=oom)
        with pytest.raises(levrt.TaskFailed) as caught:
            levrt.run(Cr("img", host_config=limit).done())
        assert type(caught.value) is kind
        assert hint in caught.value.hint


# ---- services ----


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_service_that_does_not_start(engine, fault, n):
    """Whichever of the containers fails, all go."""
    engine.script_for = lambda config: Script(hold=True)
    # The nth start fails: those before work.
    for _ in range(n - 1):
        engine.fault("POST /containers/*/start", after=0.0, times=1)
    engine.fault("POST /containers/*/start", times=1, **BROKEN[fault])
    cr = Cr("img", services={"a": Cr("img"), "b": Cr("img")})

    async def main():
        with pytest.raises(levrt.LevError, match="start"):
            await bounded(cr.done())

    levrt.run(main())
    assert_nothing_left(engine)


def test_a_service_that_dies_before_the_main_one_runs(engine):
    route = "POST /containers/create"
    engine.fault(route, after=0.0, times=1)
    engine.fault(route, stall=True, times=1)
    engine.script = Script(hold=True, stderr=b"no space left\n")

    async def main():
        run = asyncio.create_task(Cr("img", services={"db": Cr("img")}).done())
        await asyncio.to_thread(engine.wait_for, lambda: engine.count(route) == 2)
        (db,) = engine.containers.values()
        db.finish(3)
        await asyncio.to_thread(engine.wait_for, lambda: not engine.containers)
        engine.release(route)
        with pytest.raises(levrt.TaskFailed) as caught:
            await bounded(run)
        return caught.value

    exc = levrt.run(main())
    assert exc.phase == "create"
    assert "service db" in str(exc)
    assert "no space left" in str(exc)
    assert engine.count("POST /containers/*/start") == 1
    assert_nothing_left(engine)


def test_a_service_that_dies_is_heard_of_at_once(engine):
    """While the engine still removes it the others go already."""
    create, removal = "POST /containers/create", "DELETE /containers/*"
    for _ in range(2):
        engine.fault(create, after=0.0, times=1)
    engine.fault(create, stall=True, times=1)
    engine.fault(removal, stall=True, times=1)
    engine.script = Script(hold=True)
    cr = Cr("img", services={"db": Cr("img"), "web": Cr("img")})

    async def until(route, n):
        await asyncio.to_thread(engine.wait_for, lambda: engine.count(route) == n)

    async def main():
        run = asyncio.create_task(cr.done())
        await until(create, 3)
        db, _ = engine.containers.values()
        db.finish(3)
        await until(removal, 1)
        engine.release(create)
        await until("POST /containers/*/kill", 1)
        engine.release(removal)
        with pytest.raises(levrt.TaskFailed, match="service (db|web)"):
            await bounded(run)

    levrt.run(main())
    assert_nothing_left(engine)


def test_a_service_that_is_lost_later(engine, caplog):
    """The run goes on without it, and says so."""
    engine.script = Script(hold=True)

    async def main():
        task = await bounded(Cr("img", services={"db": Cr("img")}).start())
        db, main = list(engine.containers.values())
        db.finish(9)
        await asyncio.to_thread(engine.wait_for, lambda: db.id not in engine.containers)
        main.finish(0)
        return task.name, (await bounded(task.done())).run.exit_code

    name, code = levrt.run(main())
    assert code == 0
    assert f"{name} has lost a service: service db (phase run): " in caplog.text
    assert_nothing_left(engine)


# ---- labels and names ----


@pytest.mark.parametrize("timeout", [None, 3600])
def test_labels(engine, timeout):
    before = int(time.time())
    levrt.run(Cr("img", timeout=timeout).done())
    (request,) = engine.find("POST /containers/create")
    labels = request.json["Labels"]
    assert labels["zone.lev.role"] == "main"
    assert labels["zone.lev.pid"].split(":")[0] == str(os.getpid())
    if timeout is None:
        assert "zone.lev.expires" not in labels
    else:
        day = 24 * 3600
        expires = int(labels["zone.lev.expires"]) - before
        assert timeout + day <= expires < timeout + 2 * day
    (request,) = engine.find("POST /networks/create")
    assert request.json["Labels"]["zone.lev.session"] == labels["zone.lev.session"]


def test_a_name_that_is_taken(engine):
    says = r", create: create container mine: .*; give another name=, or remove"
    engine.script = Script(hold=True)

    async def main():
        task = await Cr("img", name="mine").start()
        with pytest.raises(Conflict, match=says):
            await bounded(Cr("img", name="mine").done())
        await task.stop()

    levrt.run(main())
    assert_nothing_left(engine)


# ---- many ----


def test_many_runs_pending(engine):
    """500 that wait: no time is spent, and little memory, each with a thread."""
    engine.script = Script(hold=True)
    program = engine.path.parent / "pending.py"
    program.write_text(
        textwrap.dedent(
            """
            import asyncio, gc, json, resource, sys, time
            import levrt

            N = 500

            def private():
                with open("/proc/self/smaps_rollup") as file:
                    pairs = (line.split(":") for line in file if ":" in line)
                    return {k: v for k, v in pairs}["Private_Dirty"].split()[0]

            async def start(n):
                starts = (levrt.Cr("img").start() for _ in range(n))
                return await asyncio.gather(*starts)

            async def main():
                warm = await start(20)
                gc.collect()
                before = int(private())
                tasks = await start(N)
                gc.collect()
                after = int(private())
                cpu = time.process_time()
                # What is measured is what happens while nothing happens.
                await asyncio.sleep(1)
                cpu = time.process_time() - cpu
                ops = [asyncio.create_task(t.done()) for t in warm + tasks]
                await asyncio.sleep(0)
                for op in ops:
                    op.cancel()
                ends = await asyncio.gather(*ops, return_exceptions=True)
                print(json.dumps({
                    "kb": (after - before) / N,
                    "cpu": cpu,
                    "ends": sorted({type(e).__name__ for e in ends}),
                }))

            levrt.run(main())
            """
        )
    )
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(levrt.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["ends"] == ["CancelledError"]
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        assert measured["kb"] <= 150  # tests/bench has the number
    assert measured["cpu"] <= 0.05
    assert not engine.containers and not engine.networks
