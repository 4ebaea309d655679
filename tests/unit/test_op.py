"""What Python awaits: levrt.Op as a coroutine, and what cancelling it means."""

import asyncio
import collections.abc
import gc
import inspect
import signal
import sys
import threading
import weakref

import pytest
from loops import run_on, unraisable, writes_blocked

import levrt
from engine import Script
from levrt import Cr, lev
from levrt._levrt import begin

STARTS = "POST /containers/*/start"
KILLS = "POST /containers/*/kill"
REMOVES = "DELETE /containers/*"


@pytest.fixture
def held(engine):
    """Containers run until they are told to end; a grace nobody waits for."""
    engine.script = Script(hold=True)
    with open("levrt.toml", "w") as file:
        file.write("grace = 1000\n")
    return engine


async def until(engine, condition):
    await asyncio.to_thread(engine.wait_for, condition)


async def until_started(engine, n=1):
    await until(engine, lambda: engine.count(STARTS) == n)


async def settled(future):
    """Waits for what an operation driven by hand has given to its loop."""
    future._asyncio_future_blocking = False
    await asyncio.wait([future])


def new_op():
    """A store's operation that nobody has awaited."""
    return lev.coll.count_documents()


async def new_op_later():
    return await new_op()


# ---- a coroutine ----


def test_it_is_a_coroutine(run):
    async def main():
        op = new_op()
        assert isinstance(op, collections.abc.Coroutine)
        assert isinstance(op, collections.abc.Awaitable)
        assert asyncio.iscoroutine(op) and inspect.isawaitable(op)
        assert type(op) is levrt.Op
        assert (op.__name__, op.__qualname__) == (
            "count_documents",
            "Collection.count_documents",
        )
        assert op.cr_running is False
        op.close()

    run(main())


def test_it_is_made_by_methods_only():
    with pytest.raises(TypeError, match="cannot create"):
        levrt.Op()
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("MyOp", (levrt.Op,), {})
    assert str(levrt.Op[int]) == "levrt._levrt.Op[int]"


def test_repr_tells_its_state(run):
    async def main():
        op = new_op()
        states = [repr(op)]
        future = op.send(None)
        states.append(repr(op))
        await settled(future)
        states.append(repr(op))
        with pytest.raises(StopIteration):
            op.send(None)
        states.append(repr(op))
        return states

    name = "Collection.count_documents"
    assert run(main()) == [
        f"<{name}, {state}>" for state in ["not started", "running", "done", "closed"]
    ]


def test_await(run):
    async def main():
        return await new_op()

    assert run(main()) == 0


def test_create_task(run):
    async def main():
        task = asyncio.create_task(new_op(), name="count")
        assert "count_documents" in repr(task)
        assert await task == 0
        assert task.result() == 0

    run(main())


def test_gather_and_wait(run):
    async def main():
        assert await asyncio.gather(*(new_op() for _ in range(50))) == [0] * 50
        done, left = await asyncio.wait([asyncio.create_task(new_op())])
        assert [task.result() for task in done] == [0] and not left
        assert await asyncio.shield(new_op()) == 0
        assert [await one for one in asyncio.as_completed([new_op()])] == [0]

    run(main())


def test_wait_for_and_timeout_that_do_not_come(run):
    async def main():
        assert await asyncio.wait_for(new_op(), 100) == 0
        async with asyncio.timeout(100):
            assert await new_op() == 0

    run(main())


def test_task_group(run):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(new_op()) for _ in range(5)]
        return [task.result() for task in tasks]

    assert run(main()) == [0] * 5


def test_it_is_the_main_of_a_loop(home):
    """asyncio.run() takes it as it takes a coroutine."""

    async def make():
        return Cr("img")

    op = asyncio.run(make()).done()
    with pytest.raises(levrt.LevError):
        asyncio.run(op)


def test_run_coroutine_threadsafe(home):
    async def main():
        loop = asyncio.get_running_loop()
        op = new_op()
        result = await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(op, loop).result(30)
        )
        assert result == 0

    asyncio.run(main())


def test_results_that_stop_iteration_would_unpack(run):
    """A tuple is one value."""

    async def main():
        session = lev.coll._session
        op = session.update("c", {"_id": 1}, {"$set": {"a": 1}}, upsert=True)
        assert await op == (0, 0, 1)
        op = session.update("c", {"_id": 1}, {"$set": {"a": 2}})
        await settled(op.send(None))
        with pytest.raises(StopIteration) as stop:
            next(op)
        assert stop.value.value == (1, 1, None)

    run(main())


def test_errors_are_raised_where_it_is_awaited(run):
    async def main():
        op = lev.coll.find_one({"$no": 1})
        with pytest.raises(levrt.QueryError, match=r"\$no"):
            await op
        assert repr(op).endswith("closed>")

    run(main())


# ---- used wrongly ----


def test_never_awaited_warns(run):
    async def main():
        for make in [new_op, Cr("img").done, Cr("img").start]:
            op = make()
            name = op.__qualname__
            with pytest.warns(RuntimeWarning, match=f"^{name} was never awaited$"):
                del op
                gc.collect()

    run(main())


def test_closed_before_the_start_does_not_warn(run):
    async def main():
        op = new_op()
        op.close()
        op.close()
        assert repr(op).endswith("closed>")
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await op

    run(main())


def test_awaiting_twice(run):
    async def main():
        op = new_op()
        await op
        for _ in range(2):
            with pytest.raises(RuntimeError, match="awaited already"):
                await op

    run(main())


def test_awaiting_it_while_another_task_does(held, run):
    async def main():
        op = Cr("img").done()
        task = asyncio.create_task(op)
        await until_started(held)
        with pytest.raises(RuntimeError, match="Cr.done is being awaited already"):
            await op
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_outside_of_a_loop(home):
    op = Cr("img").done()
    with pytest.raises(RuntimeError, match="no running event loop"):
        op.send(None)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        op.send(None)


def test_on_a_loop_that_has_shut_down(home):
    ops = []

    async def first():
        ops.append(new_op())
        await settled(ops[0].send(None))
        write = lev.coll._session.update("c", {}, {"$set": {"a": 1}}, upsert=True)
        write.send(None)
        ops.append(write)

    async def second(op):
        return await op

    asyncio.run(second(new_op_later()))  # makes the database
    with writes_blocked(home):
        asyncio.run(first())
        assert asyncio.run(second(ops[0])) == 0  # it was done
        with pytest.raises(RuntimeError, match="the event loop of this operation has"):
            asyncio.run(second(ops[1]))


def test_made_in_one_loop_awaited_in_another(home):
    async def make():
        return new_op()

    op = asyncio.run(make())

    async def main():
        return await op

    assert asyncio.run(main()) == 0


def test_begin(run):
    async def main():
        op = new_op()
        assert begin(op) is op
        assert op.cr_running
        with pytest.raises(TypeError, match="has not started"):
            begin(op)
        assert await op == 0
        for wrong in [op, None, asyncio.sleep]:
            with pytest.raises(TypeError, match="has not started"):
                begin(wrong)
        begin(new_op())  # need not be awaited

    run(main())


# ---- throw ----


@pytest.mark.parametrize("with_value", [0, 1, 2])
@pytest.mark.parametrize("started", [False, True])
def test_throw(run, with_value, started):
    async def main():
        op = new_op()
        if started:
            op.send(None)
        args = [KeyError, "k", None][: 1 + with_value]
        with pytest.raises(KeyError) as caught:
            future = op.throw(*args)
            assert started
            await settled(future)
            op.send(None)
        assert caught.value.args == (("k",) if with_value else ())
        assert repr(op).endswith("closed>")
        with pytest.raises(RuntimeError, match="cannot reuse"):
            op.send(None)

    run(main())


def test_throw_an_instance_keeps_it(run):
    async def main():
        op, mine = new_op(), OSError(5, "mine")
        op.send(None)
        await settled(op.throw(mine))
        with pytest.raises(OSError) as caught:
            op.send(None)
        assert caught.value is mine

    run(main())


def test_throw_with_a_traceback(run):
    async def main():
        try:
            raise KeyError("k")
        except KeyError as e:
            where = e.__traceback__
        with pytest.raises(KeyError) as caught:
            new_op().throw(KeyError, KeyError("k"), where)
        frames = []
        tb = caught.value.__traceback__
        while tb is not None:
            frames.append(tb)
            tb = tb.tb_next
        assert where in frames

    run(main())


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "throw.* takes 1 to 3 arguments"),
        ((KeyError, None, None, None), "throw.* takes 1 to 3 arguments"),
        ((5,), "deriving from BaseException, not int"),
        ((int,), "deriving from BaseException, not type"),
        ((KeyError("k"), "v"), "instance exception may not have a separate value"),
        ((KeyError, None, 5), "third argument must be a traceback"),
    ],
)
def test_throw_wrong_things(run, args, text):
    async def main():
        op = new_op()
        with pytest.raises(TypeError, match=text):
            op.throw(*args)
        assert await op == 0  # nothing was thrown

    run(main())


def test_throw_again_keeps_the_first(held, run):
    async def main():
        op = Cr("img").done()
        op.send(None)
        await until_started(held)
        op.throw(KeyError("first"))
        await settled(op.throw(ValueError("second")))
        with pytest.raises(KeyError, match="first"):
            op.send(None)

    run(main())


def test_throw_into_a_closed_one(run):
    async def main():
        op = new_op()
        await op
        with pytest.raises(KeyError):
            op.throw(KeyError)

    run(main())


# ---- cancelled ----


def test_cancelled_before_it_starts(engine, home):
    async def main():
        for op in [Cr("img").done(), Cr("img").start(), new_op()]:
            task = asyncio.create_task(op)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert repr(op).endswith("closed>")
        return engine.requests

    assert asyncio.run(main()) == []


@pytest.mark.parametrize("method", ["done", "start"])
def test_cancelled_while_it_runs(held, run, method):
    """When the await returns, the container is gone."""

    async def main():
        task = asyncio.create_task(await operation())
        await until_started(held)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not held.containers
        assert held.count(KILLS) == held.count(REMOVES) == 1

    async def operation():
        if method == "done":
            return Cr("img").done()
        return (await Cr("img").start()).done()

    run(main())


@pytest.mark.parametrize("how", ["wait_for", "timeout", "TaskGroup"])
def test_cancelled_by_asyncio(held, run, how):
    async def main():
        cr = Cr("img")
        if how == "TaskGroup":
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(cr.done())
                    await until_started(held)
                    raise KeyError
        else:
            with pytest.raises(TimeoutError):
                if how == "wait_for":
                    await asyncio.wait_for(cr.done(), 0.2)
                else:
                    async with asyncio.timeout(0.2):
                        await cr
        assert not held.containers

    run(main())


def test_a_second_cancel_ends_the_grace(held, run):
    held.script = Script(hold=True, signals={15: None})

    async def main():
        task = asyncio.create_task(Cr("img").done())
        await until_started(held)
        task.cancel()
        await until(held, lambda: held.count(KILLS) == 1)
        assert held.containers and not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not held.containers

    run(main())


def test_cancelled_when_done_but_undelivered(held, run):
    """The task that start() gives was never seen: its container goes first."""

    async def main():
        op = Cr("img").start()
        await settled(op.send(None))
        assert repr(op) == "<Cr.start, done>"
        assert len(held.containers) == 1
        await settled(op.throw(asyncio.CancelledError))
        assert not held.containers
        with pytest.raises(asyncio.CancelledError):
            op.send(None)

    run(main())


def test_cancelled_twice_when_done_but_undelivered(held, run):
    held.script = Script(hold=True, signals={15: None})

    async def main():
        op = Cr("img").start()
        await settled(op.send(None))
        op.throw(asyncio.CancelledError)
        await until(held, lambda: held.count(KILLS) == 1)
        await settled(op.throw(asyncio.CancelledError))
        assert not held.containers
        with pytest.raises(asyncio.CancelledError):
            op.send(None)

    run(main())


def test_cancelled_when_the_run_has_ended(engine, run):
    async def main():
        op = Cr("img").done()
        await settled(op.send(None))
        assert repr(op) == "<Cr.done, done>"
        with pytest.raises(asyncio.CancelledError):
            op.throw(asyncio.CancelledError)

    run(main())


def test_a_task_that_cancels_its_start_at_the_last_moment(held, run):
    """However the two race, no container is left."""

    async def main():
        for n in range(30):
            task = asyncio.create_task(Cr("img").start())
            await until_started(held, n + 1)
            task.cancel()
            try:
                started = await task
            except asyncio.CancelledError:
                pass
            else:
                await started.stop()
            assert not held.containers

    run(main())


def test_others_that_wait_for_a_cancelled_run(held, run):
    async def main():
        task = await Cr("img").start()
        first = asyncio.create_task(task.done())
        second = asyncio.create_task(task.done())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(levrt.TaskFailed) as caught:
            await second
        assert caught.value.phase == "cancelled"
        assert caught.value.task is task

    run(main())


def test_awaiting_a_task_twice_gives_the_same(engine, run):
    async def main():
        task = await Cr("img").start()
        docs = [await task, await task.done(), await task]
        assert docs[0] is docs[1] is docs[2]

    run(main())


# ---- closed and dropped ----


@pytest.mark.parametrize("end", ["close", "GeneratorExit", "drop"])
def test_closed_while_it_runs(held, home, end):
    """Nobody waits, but the session does."""

    async def main():
        op = Cr("img").done()
        op.send(None)
        await until_started(held)
        if end == "close":
            op.close()
        elif end == "GeneratorExit":
            op.throw(GeneratorExit)
        else:
            held.script.signals[15] = 0
        del op

    levrt.run(main())
    assert not held.containers
    assert held.count(REMOVES) == 1


@pytest.mark.parametrize("end", ["close", "drop"])
def test_closed_when_done_but_undelivered(held, run, end):
    async def main():
        op = Cr("img").start()
        await settled(op.send(None))
        assert held.containers
        if end == "close":
            op.close()
        del op
        gc.collect()
        await until(held, lambda: not held.containers)

    run(main())


def test_dropped_write_is_stored(run):
    async def main():
        for n in range(20):
            lev.set(n=n)
        return await lev.doc.get()

    assert run(main()) == {"n": 19}


# ---- threads ----


def test_a_task_of_another_threads_loop(held, home):
    """Its operations belong to its loop, and say so."""
    held.script.signals[signal.SIGUSR1] = None
    ready, go = threading.Event(), threading.Event()
    tasks = []

    async def owner():
        tasks.append(await Cr("img").start())
        ready.set()
        await asyncio.to_thread(go.wait)
        await tasks[0].stop()

    async def stranger():
        with pytest.raises(RuntimeError, match="another event loop"):
            await tasks[0].done()
        with pytest.raises(RuntimeError, match="another event loop"):
            await tasks[0].stop()
        await tasks[0].signal(signal.SIGUSR1)  # what has an end of its own is fine

    thread = threading.Thread(target=lambda: asyncio.run(owner()))
    thread.start()
    ready.wait()
    try:
        asyncio.run(stranger())
    finally:
        go.set()
        thread.join()

    async def later():
        return await tasks[0].done()

    assert isinstance(asyncio.run(later()), levrt.Document)


def test_loops_in_many_threads(home):
    results = []

    def work(n):
        async def main():
            lev.set(n=n)
            return (await lev.doc.get())["n"]

        results.append(run_on("asyncio", main()))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(8))


# ---- memory ----


def test_cycles_are_collected(run):
    class Tool(Cr):
        pass

    async def main():
        gone = []
        for started in [False, True]:
            cr = Tool("img")
            cr.op = cr.done()
            if started:
                cr.op.throw  # noqa: B018
                cr.box = [cr.op, cr]
            cr.op.close()
            gone.append(weakref.ref(cr))
            del cr
        gc.collect()
        assert [ref() for ref in gone] == [None, None]

    run(main())


def test_a_cycle_through_a_task_is_collected(engine, run):
    async def main():
        task = await Cr("img").start()
        document = await task
        failing = Cr("img")
        engine.script = Script(exit_code=3)
        with pytest.raises(levrt.TaskFailed) as caught:
            await failing
        exc = caught.value
        exc.loop = exc  # through the exception's dict, besides task and document
        del caught, exc
        gone = weakref.finalize(asyncio.current_task(), lambda: None)
        assert gone.alive
        before = sys.getrefcount(document)
        gc.collect()
        assert sys.getrefcount(document) == before
        del task
        gc.collect()
        assert sys.getrefcount(document) == before - 1

    run(main())


def test_errors_of_a_callback_do_not_get_lost(home):
    """What is delivered to a loop that has closed is reported, not raised."""
    loop = asyncio.new_event_loop()

    async def main():
        return new_op()

    op = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    with unraisable() as seen, pytest.raises(RuntimeError):
        op.send(None)
    assert seen == []


@pytest.mark.parametrize(
    ("grace", "kind", "text"),
    [
        ("5", TypeError, "grace must be a number of seconds, not str"),
        (True, TypeError, "grace must be a number of seconds, not bool"),
        (None, TypeError, "grace must be a number of seconds, not NoneType"),
        (-1, ValueError, "grace must be a number of seconds from 0 up, not -1"),
        (float("nan"), ValueError, "seconds from 0 up, not nan"),
    ],
)
def test_stop_refuses(run, held, grace, kind, text):
    async def main():
        task = await Cr("img").start()
        with pytest.raises(kind) as caught:
            task.stop(grace)
        assert text in str(caught.value)
        await task.stop(0)

    run(main())
