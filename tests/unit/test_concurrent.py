"""levrt.concurrent: order, limit, failures, cancelling, nesting, progress.

Every test runs on asyncio's loop, on uvloop's, and with eager tasks where
Python has them. Nothing sleeps: tasks wait on gates that the test opens.
"""

import asyncio
import contextlib
import gc
import inspect
import logging
import os
import signal
import subprocess
import sys
import textwrap
import types

import pytest
import uvloop
from hypothesis import given, settings, strategies as st

from levrt.concurrent import Concurrent

LOOPS = ["asyncio", "uvloop"]
if sys.version_info >= (3, 12):
    LOOPS.append("eager")
HANG = 20  # seconds after which a test that hangs fails


def _run(kind, main):
    factory = uvloop.new_event_loop if kind == "uvloop" else None
    with asyncio.Runner(loop_factory=factory, debug=kind == "asyncio") as runner:
        if kind == "eager":
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        return runner.run(asyncio.wait_for(main, HANG))


@pytest.fixture(params=LOOPS)
def run(request):
    return lambda main: _run(request.param, main)


class Gate:
    """A task's work: says that it has begun, waits to be let through."""

    def __init__(self):
        self.begun = []
        self.active = 0
        self.most = 0
        self.cancelled = []
        self._open = {}

    def future(self, name):
        loop = asyncio.get_running_loop()
        return self._open.setdefault(name, loop.create_future())

    def let(self, *names):
        for name in names:
            self.future(name).set_result(name)

    def fail(self, name, error):
        self.future(name).set_exception(error)

    async def work(self, name):
        self.begun.append(name)
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            return await self.future(name)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.active -= 1


async def settle():
    """Let everything happen that can happen without the outside."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- order and limit ----------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 0])
def test_without_a_limit_all_run_at_once(run, limit):
    async def main():
        gate = Gate()
        async with Concurrent(limit) as c:
            tasks = [c.start(gate.work(i)) for i in range(50)]
            await settle()
            assert gate.active == 50
            gate.let(*range(50))
        assert [task.result() for task in tasks] == list(range(50))

    run(main())


def test_at_most_limit_run_in_the_order_of_start(run):
    async def main():
        gate = Gate()
        async with Concurrent(limit=2) as c:
            for i in range(6):
                c.start(gate.work(i))
            await settle()
            assert gate.begun == [0, 1]
            gate.let(1)
            await settle()
            assert gate.begun == [0, 1, 2]
            gate.let(0, 2)
            await settle()
            assert gate.begun == [0, 1, 2, 3, 4]
            gate.let(3, 4, 5)
        assert gate.begun == list(range(6)) and gate.most == 2

    run(main())


def test_one_that_is_cancelled_while_it_waits_gives_its_place_away(run):
    async def main():
        gate = Gate()
        async with Concurrent(1) as c:
            tasks = [c.start(gate.work(i)) for i in range(4)]
            await settle()
            tasks[1].cancel()
            await settle()
            assert tasks[1].cancelled() and gate.begun == [0]
            tasks[0].cancel()
            await settle()
            assert gate.begun == [0, 2]
            gate.let(2, 3)
        assert gate.most == 1

    run(main())


def test_one_that_is_cancelled_before_its_first_step(run):
    async def main():
        gate = Gate()
        async with Concurrent(1) as c:
            c.start(gate.work(0)).cancel()
            c.start(gate.work(1))
            gate.let(1)
        assert gate.begun == [1]

    run(main())


def test_leaving_waits_for_what_tasks_have_started(run):
    async def main():
        done = []

        async def chain(c, n):
            await asyncio.sleep(0)
            if n:
                c.start(chain(c, n - 1))
            done.append(n)

        async with Concurrent(1) as c:
            c.start(chain(c, 5))
        assert done == [5, 4, 3, 2, 1, 0]

    run(main())


def test_an_empty_block(run):
    async def main():
        async with Concurrent(3) as c:
            assert c() == 0.0
        assert c() == 1.0

    run(main())


def test_start_does_not_begin_before_the_caller_waits(run):
    """The same on every loop, with eager tasks as well."""

    async def main():
        gate = Gate()
        async with Concurrent() as c:
            c.start(gate.work(1))
            assert gate.begun == []
            gate.let(1)

    run(main())


def test_context_variables_are_those_of_start(run):
    import contextvars

    var = contextvars.ContextVar("var")

    async def read():
        await asyncio.sleep(0)
        return var.get()

    async def main():
        async with Concurrent(1) as c:
            tasks = []
            for i in range(3):
                var.set(i)
                tasks.append(c.start(read()))
        assert [task.result() for task in tasks] == [0, 1, 2]

    run(main())


# --- what can be started ----------------------------------------------------------


class Awaitable:
    """As Cr is: awaited by __await__, no coroutine itself."""

    def __init__(self, coroutine_function, *args):
        self._made = coroutine_function, args

    def __await__(self):
        function, args = self._made
        return function(*args).__await__()


class ByHand:
    """An iterator that has nothing but __next__."""

    def __init__(self, values):
        self._values = iter(values)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._values)


@pytest.mark.parametrize("limit", [None, 1])
def test_any_awaitable_can_be_started(run, limit):
    @types.coroutine
    def by_generator(gate):
        result = yield from gate.work("generator").__await__()
        return result

    async def main():
        gate = Gate()
        names = ["coroutine", "awaitable", "generator", "future", "task"]
        gate.let(*names)
        async with Concurrent(limit) as c:
            tasks = [
                c.start(gate.work("coroutine")),
                c.start(Awaitable(gate.work, "awaitable")),
                c.start(by_generator(gate)),
                c.start(gate.future("future")),
                c.start(asyncio.ensure_future(gate.work("task"))),
            ]
            hand = c.start(ByHand([None, None]))
        assert [task.result() for task in tasks] == names
        assert hand.result() is None

    run(main())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "not NoneType$"),
        (7, "not int$"),
        (asyncio.sleep, "not function: call it first"),
        (Awaitable, "not type: call it first"),
    ],
)
def test_what_cannot_be_awaited_is_refused_at_once(run, value, message):
    async def main():
        async with Concurrent() as c:
            with pytest.raises(TypeError, match=message):
                c.start(value)

    run(main())


@pytest.mark.parametrize(
    ("limit", "error"),
    [(-1, ValueError), (1.5, TypeError), ("5", TypeError), (True, TypeError)],
)
def test_bad_limits(limit, error):
    with pytest.raises(error, match="Concurrent: limit must"):
        Concurrent(limit)


def test_tasks_have_names(run):
    async def scan():
        return None

    async def main():
        async with Concurrent() as c:
            names = [
                c.start(scan()).get_name(),
                c.start(Awaitable(scan)).get_name(),
                c.start(scan(), name="mine").get_name(),
            ]
        assert names == ["scan-1", "Awaitable-2", "mine"]

    run(main())


def test_start_outside_of_the_block(run):
    async def main():
        c = Concurrent()
        with pytest.raises(RuntimeError, match="inside of `async with"):
            c.start(asyncio.sleep(0))
        async with c:
            pass
        with pytest.raises(RuntimeError, match="has been left"):
            c.start(asyncio.sleep(0))
        with pytest.raises(RuntimeError, match="entered before"):
            async with c:
                pass

    run(main())


def test_start_from_another_thread(run):
    async def main():
        async with Concurrent() as c:
            with pytest.raises(RuntimeError, match="outside of its event loop"):
                await asyncio.to_thread(c.start, asyncio.sleep(0))

    run(main())


# --- failures ------------------------------------------------------------------


def test_a_failure_does_not_stop_the_others(run):
    async def main():
        gate = Gate()
        with pytest.raises(ValueError, match="first") as caught:
            async with Concurrent(2) as c:
                tasks = [c.start(gate.work(i), name=f"t{i}") for i in range(5)]
                await settle()
                gate.fail(1, ValueError("first"))
                await settle()
                gate.fail(0, KeyError("second"))
                gate.fail(2, OSError("third"))
                gate.let(3, 4)
        assert caught.value.__notes__ == [
            "2 more tasks failed: t0 (KeyError), t2 (OSError)"
        ]
        assert [task.result() for task in tasks[3:]] == [3, 4]
        assert caught.value.__context__ is None

    run(main())


def test_one_more_is_one_task(run):
    async def main():
        gate = Gate()
        with pytest.raises(ValueError) as caught:
            async with Concurrent() as c:
                for name in "ab":
                    c.start(gate.work(name), name=name)
                    gate.fail(name, ValueError())
        assert caught.value.__notes__ == ["1 more task failed: b (ValueError)"]

    run(main())


def test_a_single_failure_has_no_note(run):
    async def main():
        gate = Gate()
        gate.fail(1, ValueError())
        with pytest.raises(ValueError) as caught:
            async with Concurrent() as c:
                c.start(gate.work(1))
        assert not hasattr(caught.value, "__notes__")

    run(main())


@pytest.mark.parametrize("how", ["await", "exception", "result", "gather"])
def test_a_failure_that_was_retrieved_is_not_raised(run, how):
    async def main():
        gate = Gate()
        gate.fail(1, ValueError("mine"))
        async with Concurrent(1) as c:
            task = c.start(gate.work(1))
            if how == "await":
                with pytest.raises(ValueError):
                    await task
            elif how == "gather":
                assert isinstance(
                    (await asyncio.gather(task, return_exceptions=True))[0], ValueError
                )
            else:
                await asyncio.wait([task])
                with contextlib.suppress(ValueError):
                    getattr(task, how)()

    run(main())


def test_a_failure_that_was_only_seen_is_raised(run):
    async def main():
        gate = Gate()
        gate.fail(1, ValueError("mine"))
        with pytest.raises(ValueError, match="mine"):
            async with Concurrent() as c:
                await asyncio.wait([c.start(gate.work(1))])

    run(main())


def test_a_failure_that_another_task_has_retrieved_is_not_raised(run):
    async def main():
        gate = Gate()

        async def careful(c):
            with contextlib.suppress(ValueError):
                await c.start(gate.work(1))
            return "caught"

        async with Concurrent(1) as c:
            task = c.start(careful(c))
            await settle()
            gate.fail(1, ValueError())
        assert task.result() == "caught"

    run(main())


def test_a_failure_that_goes_up_is_raised_once(run):
    async def main():
        gate = Gate()

        async def careless(c):
            await c.start(gate.work(1))

        with pytest.raises(ValueError) as caught:
            async with Concurrent(1) as c:
                c.start(careless(c))
                await settle()
                gate.fail(1, ValueError())
        assert not hasattr(caught.value, "__notes__")

    run(main())


def test_nothing_is_reported_as_never_retrieved(run):
    reports = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        gate = Gate()
        with contextlib.suppress(ValueError):
            async with Concurrent() as c:
                for i in range(3):
                    c.start(gate.work(i))
                    gate.fail(i, ValueError(i))
        del c
        gc.collect()

    run(main())
    assert reports == []


def test_a_cancelled_task_is_no_failure(run):
    async def main():
        gate = Gate()
        async with Concurrent() as c:
            task = c.start(gate.work(1))
            await settle()
            task.cancel()
        assert task.cancelled()

    run(main())


def test_the_cause_of_a_failure_stays(run):
    async def fail():
        try:
            raise KeyError("context")
        except KeyError:
            raise ValueError("error") from OSError("cause")

    async def main():
        for fail_fast in (False, True):
            with pytest.raises(ValueError) as caught:
                async with Concurrent(fail_fast=fail_fast) as c:
                    c.start(fail())
                    await settle()
            assert isinstance(caught.value.__cause__, OSError)
            assert isinstance(caught.value.__context__, KeyError)

    run(main())


# --- fail_fast -------------------------------------------------------------------


def test_fail_fast_cancels_the_rest_and_the_block(run):
    async def main():
        gate = Gate()
        after = []
        with pytest.raises(ValueError, match="first"):
            async with Concurrent(2, fail_fast=True) as c:
                tasks = [c.start(gate.work(i)) for i in range(4)]
                await settle()
                gate.fail(0, ValueError("first"))
                await gate.future("never")
                after.append("not reached")
        assert gate.begun == [0, 1] and gate.cancelled == [1] and not after
        assert [task.cancelled() for task in tasks] == [False, True, True, True]
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_fail_fast_while_leaving(run):
    async def main():
        gate = Gate()
        with pytest.raises(ValueError):
            async with Concurrent(fail_fast=True) as c:
                for i in range(3):
                    c.start(gate.work(i))
                asyncio.get_running_loop().call_soon(gate.fail, 1, ValueError())
        assert sorted(gate.cancelled) == [0, 2]
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_fail_fast_raises_the_failure_where_the_block_awaits_another(run):
    async def main():
        gate = Gate()
        with pytest.raises(ValueError, match="first"):
            async with Concurrent(fail_fast=True) as c:
                c.start(gate.work(0))
                other = c.start(gate.work(1))
                await settle()
                gate.fail(0, ValueError("first"))
                await other

    run(main())


def test_fail_fast_with_an_exception_of_the_block(run):
    async def main():
        gate = Gate()
        with pytest.raises(RuntimeError, match="the block's") as caught:
            async with Concurrent(fail_fast=True) as c:
                c.start(gate.work(0), name="t0")
                await settle()
                gate.fail(0, ValueError())
                try:
                    await gate.future("never")
                except asyncio.CancelledError:
                    raise RuntimeError("the block's") from None
        assert caught.value.__notes__ == ["1 more task failed: t0 (ValueError)"]

    run(main())


def test_fail_fast_when_the_block_swallows_the_cancel(run):
    async def main():
        gate = Gate()
        with pytest.raises(ValueError, match="first"):
            async with Concurrent(fail_fast=True) as c:
                c.start(gate.work(0))
                await settle()
                gate.fail(0, ValueError("first"))
                with contextlib.suppress(asyncio.CancelledError):
                    await gate.future("never")

    run(main())


def test_what_is_started_after_the_first_failure_is_cancelled(run):
    async def main():
        gate = Gate()

        async def late(c):
            try:
                await gate.future("never")
            finally:
                late_tasks.append(c.start(gate.work("late")))

        late_tasks = []
        with pytest.raises(ValueError):
            async with Concurrent(fail_fast=True) as c:
                c.start(late(c))
                await settle()
                c.start(gate.work(0))
                gate.fail(0, ValueError())
        assert late_tasks[0].cancelled() and "late" not in gate.begun

    run(main())


# --- cancelling --------------------------------------------------------------------


class Slow:
    """Work whose teardown takes its time, as that of a container does."""

    def __init__(self):
        self.gone = 0
        self.cancels = 0
        self.release = asyncio.get_running_loop().create_future()

    async def work(self):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancels += 1
            while not self.release.done():
                try:
                    await asyncio.shield(self.release)
                except asyncio.CancelledError:
                    self.cancels += 1
            self.gone += 1
            raise


def test_a_block_that_raises_cancels_all_and_waits(run):
    async def main():
        slow = Slow()
        loop = asyncio.get_running_loop()
        with pytest.raises(KeyError) as caught:
            async with Concurrent(2) as c:
                tasks = [c.start(slow.work()) for _ in range(3)]
                await settle()
                loop.call_later(0, slow.release.set_result, None)
                raise KeyError("block")
        assert slow.gone == 2 and all(task.cancelled() for task in tasks)
        assert not hasattr(caught.value, "__notes__")

    run(main())


def test_failures_are_noted_on_the_blocks_exception(run):
    async def main():
        gate = Gate()
        with pytest.raises(KeyError) as caught:
            async with Concurrent() as c:
                c.start(gate.work(1), name="t1")
                gate.fail(1, ValueError())
                await settle()
                raise KeyError("block")
        assert caught.value.__notes__ == ["1 more task failed: t1 (ValueError)"]

    run(main())


@pytest.mark.parametrize("where", ["block", "leaving"])
def test_a_cancel_waits_for_all(run, where):
    async def main():
        slow = Slow()

        async def inner():
            async with Concurrent(2) as c:
                for _ in range(3):
                    c.start(slow.work())
                if where == "block":
                    await asyncio.get_running_loop().create_future()

        task = asyncio.get_running_loop().create_task(inner())
        await settle()
        task.cancel()
        await settle()
        assert not task.done() and (slow.gone, slow.cancels) == (0, 2)
        task.cancel()  # the second one reaches the tasks again
        await settle()
        assert not task.done() and (slow.gone, slow.cancels) == (0, 4)
        slow.release.set_result(None)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slow.gone == 2

    run(main())


@pytest.mark.parametrize("where", ["block", "leaving"])
def test_a_timeout_around_the_block(run, where):
    async def main():
        gate = Gate()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                async with Concurrent(1) as c:
                    tasks = [c.start(gate.work(i)) for i in range(2)]
                    await settle()
                    timeout.reschedule(asyncio.get_running_loop().time())
                    if where == "block":
                        await gate.future("never")
        assert all(task.cancelled() for task in tasks)
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_a_cancel_beats_the_blocks_exception(run):
    async def main():
        slow = Slow()

        async def inner():
            async with Concurrent() as c:
                c.start(slow.work())
                await settle()
                raise KeyError("block")

        task = asyncio.get_running_loop().create_task(inner())
        await settle()
        await settle()
        task.cancel()
        await settle()
        slow.release.set_result(None)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert isinstance(caught.value.__context__, KeyError)

    run(main())


def test_coroutines_that_never_began_are_closed(run):
    async def main():
        gate = Gate()
        waiting = gate.work(1)
        fresh = gate.work(2)
        with pytest.raises(KeyError):
            async with Concurrent(1) as c:
                c.start(gate.work(0))
                c.start(waiting)
                await settle()
                c.start(fresh)
                raise KeyError
        assert inspect.getcoroutinestate(waiting) == inspect.CORO_CLOSED
        assert inspect.getcoroutinestate(fresh) == inspect.CORO_CLOSED

    run(main())  # "was never awaited" would be an error


def test_futures_that_wait_for_a_slot_are_cancelled_and_waited_for(run):
    async def main():
        slow = Slow()
        gate = Gate()
        with pytest.raises(KeyError):
            async with Concurrent(1) as c:
                c.start(gate.work(0))
                at_work = asyncio.get_running_loop().create_task(slow.work())
                c.start(at_work)
                await settle()
                asyncio.get_running_loop().call_later(0, slow.release.set_result, None)
                raise KeyError
        assert at_work.cancelled() and slow.gone == 1

    run(main())


def test_a_failed_teardown_is_not_hidden(run):
    async def stubborn():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise OSError("teardown")

    async def main():
        with pytest.raises(KeyError) as caught:
            async with Concurrent() as c:
                c.start(stubborn(), name="s")
                await settle()
                raise KeyError
        assert caught.value.__notes__ == ["1 more task failed: s (OSError)"]

    run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_inside_of_a_task_ends_all(error):
    """It leaves the loop, which cancels main; the block raises it as well."""
    seen = []

    async def leave():
        raise error("out")

    async def main():
        gate = Gate()
        try:
            async with Concurrent(2) as c:
                c.start(gate.work(0))
                await settle()
                c.start(leave())
                await gate.future("never")
        except BaseException as exc:
            seen.append(type(exc))
            raise
        finally:
            seen.append(gate.cancelled)

    with pytest.raises(error, match="out"):
        asyncio.run(main())
    assert seen == [error, [0]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_of_the_block_goes_on_after_the_tasks(run, error):
    gates = []

    async def main():
        gates.append(Gate())
        async with Concurrent() as c:
            c.start(gates[0].work(0))
            await settle()
            raise error("out")

    with pytest.raises(error, match="out"):
        # Not in wait_for: it would see the exit in a task of its own.
        asyncio.run(main())
    assert gates[0].cancelled == [0]


def test_ctrl_c(tmp_path):
    """In a process of its own: cancelled, cleaned up, ended by SIGINT."""
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio
        from levrt.concurrent import Concurrent

        async def work():
            try:
                print("up", flush=True)
                await asyncio.get_running_loop().create_future()
            finally:
                print("gone", flush=True)

        async def main():
            async with Concurrent(2) as c:
                for _ in range(3):
                    c.start(work())

        asyncio.run(main())
        """)
    )
    with subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG)
    assert out == "gone\n" * 2
    assert process.returncode == -signal.SIGINT, err


# --- nesting -----------------------------------------------------------------------


async def _await(tasks):
    return [await task for task in tasks]


async def _gather(tasks):
    return await asyncio.gather(*tasks)


async def _wait(tasks):
    await asyncio.wait(tasks)
    return [task.result() for task in tasks]


async def _wait_for(tasks):
    return [await asyncio.wait_for(task, HANG) for task in tasks]


async def _timeout(tasks):
    async with asyncio.timeout(HANG):
        return [await task for task in tasks]


async def _shield(tasks):
    return [await asyncio.shield(task) for task in tasks]


async def _first_completed(tasks):
    pending = set(tasks)
    while pending:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    return [task.result() for task in tasks]


async def _as_completed(tasks):
    for each in asyncio.as_completed(tasks):
        await each
    return [task.result() for task in tasks]


async def _group(tasks):
    async def one(task):
        return await task

    loop = asyncio.get_running_loop()
    helpers = [loop.create_task(one(task)) for task in tasks]
    return [await helper for helper in helpers]


WAYS = [
    _await,
    _gather,
    _wait,
    _wait_for,
    _timeout,
    _shield,
    _first_completed,
    _as_completed,
    _group,
]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_nesting_does_not_deadlock(run, way, limit):
    active = most = 0

    async def leaf(value):
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        active -= 1
        return value

    async def node(c, depth):
        if not depth:
            return await leaf(1)
        tasks = [c.start(node(c, depth - 1)) for _ in range(3)]
        return sum(await way(tasks)) + await leaf(0)

    async def main():
        async with Concurrent(limit) as c:
            task = c.start(node(c, 3))
        assert task.result() == 27
        assert c._slots._free == limit and not c._slots._queue

    run(main())
    # A task of the task's own (_group) may go on beside those.
    assert most <= limit or way is _group


def test_the_slot_is_given_away_only_while_the_task_waits_for_one(run):
    async def main():
        gate = Gate()

        async def outer(c):
            task = c.start(gate.work("inner"))
            await gate.work("before")
            await task
            await gate.work("after")

        async with Concurrent(1) as c:
            c.start(outer(c))
            c.start(gate.work("later"))
            await settle()
            assert gate.begun == ["before"]
            gate.let("before")
            await settle()
            # In the order of start: "later" was first.
            assert gate.begun == ["before", "later"]
            gate.let("later")
            await settle()
            assert gate.begun == ["before", "later", "inner"]
            gate.let("inner", "after")
        assert gate.most == 1

    run(main())


def test_what_has_waited_goes_on_before_a_later_one_begins(run):
    async def main():
        gate = Gate()

        async def outer(c):
            await c.start(gate.work("inner"))
            await gate.work("after")

        async with Concurrent(1) as c:
            c.start(outer(c))
            await settle()
            c.start(gate.work("later"))
            gate.let("inner")
            await settle()
            assert gate.begun == ["inner", "after"]
            gate.let("after", "later")

    run(main())


def test_a_done_callback_is_no_wait(run):
    """Tasks are often discarded from a set so: that gives no slot away."""

    async def main():
        gate = Gate()
        known = set()

        async def outer(c):
            task = c.start(gate.work("inner"))
            known.add(task)
            task.add_done_callback(known.discard)
            task.add_done_callback(lambda _: None)
            await gate.work("outer")

        async with Concurrent(1) as c:
            c.start(outer(c))
            await settle()
            assert gate.begun == ["outer"]
            gate.let("outer", "inner")
        assert gate.most == 1 and not known

    run(main())


def test_waiting_for_a_sibling_gives_the_slot_away(run):
    async def main():
        gate = Gate()

        async def waits():
            return await second

        async with Concurrent(1) as c:
            first = c.start(waits())
            second = c.start(gate.work("x"))
            gate.let("x")
        assert first.result() == "x"

    run(main())


def test_a_timeout_while_the_slot_is_lent(run):
    """The exception is delivered at once; the count is made good later."""

    async def main():
        gate = Gate()

        async def outer(c):
            inner = c.start(gate.work("inner"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as timeout:
                    timeout.reschedule(asyncio.get_running_loop().time())
                    await asyncio.shield(inner)
            await gate.work("outer")

        async with Concurrent(1) as c:
            c.start(outer(c))
            c.start(gate.work("later"))
            await settle()
            while "outer" not in gate.begun:
                await settle()
            assert gate.begun == ["later", "outer"]
            gate.let("outer")
            await settle()
            assert gate.begun == ["later", "outer"]  # no slot is free yet
            gate.let("later")
            await settle()
            assert gate.begun == ["later", "outer", "inner"]
            gate.let("inner")
        assert c._slots._free == 1 and not c._slots._queue

    run(main())


def test_a_concurrent_in_a_task_of_another(run):
    async def main():
        gate = Gate()

        async def outer(c, i):
            async with Concurrent(1) as inner:
                for name in "ab":
                    inner.start(gate.work(f"{i}{name}"))
                await c.start(gate.work(f"{i}c"))

        async with Concurrent(1) as c:
            for i in range(2):
                c.start(outer(c, i))
                gate.let(*(f"{i}{name}" for name in "abc"))
        assert sorted(gate.begun) == ["0a", "0b", "0c", "1a", "1b", "1c"]

    run(main())


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_random_trees(data):
    """Any tree of tasks, any way to wait, failures and cancels: it ends, no
    slot is lost, and no more than the limit work at once."""
    limit = data.draw(st.integers(1, 3))
    ways = st.sampled_from([_await, _gather, _wait, _first_completed, _as_completed])
    tree = data.draw(
        st.recursive(
            st.sampled_from(["ok", "fail", "cancel"]),
            lambda children: st.tuples(ways, st.lists(children, max_size=3)),
            max_leaves=12,
        )
    )
    active = most = 0

    async def node(c, tree):
        nonlocal active, most
        active += 1
        most = max(most, active)
        try:
            await asyncio.sleep(0)
            if tree == "fail":
                raise ValueError
            if tree == "cancel":
                asyncio.current_task().cancel()
                await asyncio.sleep(0)
        finally:
            active -= 1
        if isinstance(tree, tuple):
            way, children = tree
            tasks = [c.start(node(c, child)) for child in children]
            if tasks:
                await way(tasks)

    async def main():
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            async with Concurrent(limit) as c:
                c.start(node(c, tree))
                c.start(node(c, tree))
        assert c._slots._free == limit and not c._slots._queue
        assert not c._pending

    _run("asyncio", main())
    assert active == 0 and most <= limit


# --- progress -------------------------------------------------------------------------


def test_progress_is_the_share_of_what_has_ended(run, caplog):
    caplog.set_level(logging.INFO, "lev")

    async def main():
        gate = Gate()
        async with Concurrent(2) as c:
            for i in range(4):
                c.start(gate.work(i))
            assert c() == 0.0
            gate.let(1)
            await settle()
            assert c() == 0.25
            gate.let(0, 2)
            await settle()
            assert c() == 0.75
            gate.let(3)
        assert c() == 1.0

    run(main())
    assert caplog.messages == [f"progress: 0.{n}" for n in (25, 50, 75)] + [
        "progress: 1.00"
    ]
    assert {record.name for record in caplog.records} == {"lev"}


def test_weights(run, caplog):
    caplog.set_level(logging.INFO, "lev")

    async def main():
        gate = Gate()
        async with Concurrent() as c:
            assert c(6, 2) == 0.0
            first = c.start(gate.work(0))
            gate.let(0)
            await first
            await settle()
            assert c() == 0.75
            c.start(gate.work(1))
            c.start(gate.work(2))
            c.start(gate.work(3))
            assert c() == 0.6  # tasks beyond the weights weigh 1
            gate.let(1, 2)
            await settle()
            assert c() == 0.9
            assert c(1, 1, 1, 7) == 0.3
            gate.let(3)
        assert c() == 1.0

    run(main())
    assert caplog.messages[0] == "progress: 0.75"


def test_failures_and_cancels_count_as_ended(run):
    async def main():
        gate = Gate()
        async with Concurrent() as c:
            failed = c.start(gate.work(0))
            c.start(gate.work(1)).cancel()
            gate.fail(0, ValueError())
            await settle()
            assert failed.exception() and c() == 1.0

    run(main())


def test_weights_that_do_not_add_up_exactly(run):
    async def main():
        async with Concurrent() as c:
            c(*[0.1] * 10)
            for i in range(10):
                await c.start(asyncio.sleep(0, i))
            await settle()
            assert c() == 1.0

    run(main())


def test_weights_of_nothing(run):
    async def main():
        async with Concurrent() as c:
            assert c(0, 0) == 0.0
        assert c() == 1.0

    run(main())


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("1", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_bad_weights(weight, error):
    with pytest.raises(error, match="a weight must be"):
        Concurrent()(1, weight)


def test_a_thousand_tasks_are_no_trouble(run):
    async def main():
        async with Concurrent(5) as c:
            tasks = [c.start(asyncio.sleep(0, i)) for i in range(1000)]
        assert [task.result() for task in tasks] == list(range(1000))

    run(main())
