"""``Concurrent``: many runs at once, at most so many.

A task holds one of the *limit* slots from the moment it may begin until it has
ended. Slots are given in the order of ``start()``. A task that waits for
another task of the same Concurrent lends its slot meanwhile, or nesting would
deadlock. Two places see that: ``_Task.add_done_callback`` is how everything in
asyncio (await, gather, wait, shield, …) begins to wait for a task, and
``_Run.__await__``, which all steps of the task's own coroutine go through,
knows when it stands still and takes the slot back before it goes on.

One event loop, its thread: nothing here is thread-safe, as asyncio's own
objects are not.
"""

import asyncio
import inspect
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from functools import partial
from types import BuiltinFunctionType, TracebackType
from typing import Any, Self, TypeVar

__all__ = ["Concurrent"]

_T = TypeVar("_T")
_log = logging.getLogger("lev")

# The innermost run that the current code belongs to, also in tasks that the
# run's code has made for itself.
_current: ContextVar["_Run[Any] | None"] = ContextVar("levrt.concurrent", default=None)


class _Slots:
    """*limit* slots, given to runs in the order they asked for one."""

    def __init__(self, limit: int) -> None:
        self._free = limit  # below zero while a slot was taken by force
        self._queue: deque[_Run[Any]] = deque()

    def ask(self, run: "_Run[Any]", *, first: bool = False) -> None:
        if first:
            self._queue.appendleft(run)
        else:
            self._queue.append(run)
        self._serve()

    def forget(self, run: "_Run[Any]") -> None:
        if run in self._queue:
            self._queue.remove(run)

    def take(self, run: "_Run[Any]") -> None:
        """Give *run* a slot whether or not one is free."""
        self.forget(run)
        self._free -= 1
        run.admit()

    def release(self) -> None:
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        while self._free > 0 and self._queue:
            self._free -= 1
            self._queue.popleft().admit()


class _Run(Awaitable[_T]):
    """One task's place in a Concurrent: its slot, and the steps it makes."""

    def __init__(
        self, owner: "Concurrent", number: int, awaitable: Awaitable[_T]
    ) -> None:
        self.owner = owner
        self.number = number
        self.awaitable = awaitable
        self.begun = False
        self._outer = _current.get()
        self._slots = owner._slots
        self._holds = self._slots is None
        self._asking = False
        self._idle = False  # its coroutine stands still
        self._waits = 0  # for so many tasks of the same Concurrent
        self._wake: asyncio.Future[None] | None = None
        if self._slots is not None:
            self._ask(first=False)

    def admit(self) -> None:
        """Called by the slots: one of them is this run's now."""
        self._asking = False
        self._holds = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def waits_for_one_more(self) -> None:
        self._waits += 1
        self._lend()

    def waits_for_one_less(self) -> None:
        self._waits -= 1
        # Before the slot of what it waited for goes to a later one.
        if self._idle and not self._waits and not self._holds:
            self._ask(first=True)

    def end(self) -> None:
        if self._slots is None:
            return
        if self._asking:
            self._slots.forget(self)
        if self._holds:
            self._holds = False
            self._slots.release()

    async def main(self) -> _T:
        _current.set(self)
        await self._slot()
        self.begun = True
        if self._slots is None:
            return await self.awaitable
        return await self

    def __await__(self) -> Generator[Any, None, _T]:
        steps = _steps(self.awaitable)
        error: BaseException | None = None
        while True:
            try:
                future = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            self._stand()
            try:
                yield future
                self._idle = False
                if not self._holds:
                    yield from self._slot().__await__()
                error = None
            except BaseException as exc:
                error = exc
                self._seize()

    def _stand(self) -> None:
        self._idle = True
        self._lend()

    def _lend(self) -> None:
        if self._slots is None or not (self._idle and self._waits):
            return
        if self._asking:
            self._asking = False
            self._slots.forget(self)
        if self._holds:
            self._holds = False
            self._slots.release()

    def _ask(self, *, first: bool) -> None:
        assert self._slots is not None
        if not self._asking:
            self._asking = True
            self._slots.ask(self, first=first)

    async def _slot(self) -> None:
        """Return when this run holds a slot."""
        if self._holds:
            return
        self._ask(first=True)
        while not self._holds:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    def _seize(self) -> None:
        """Go on with an exception at once: what is cancelled must not queue.

        For a moment one more than the limit may be at work; no other begins
        before that is made good.
        """
        self._idle = False
        if self._slots is not None and not self._holds:
            self._asking = False
            self._slots.take(self)


async def _awaited(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


def _steps(awaitable: Awaitable[_T]) -> Coroutine[Any, None, _T]:
    if isinstance(awaitable, Coroutine):
        return awaitable
    return _awaited(awaitable)


def _is_wait(callback: Any) -> bool:
    """Whether a done callback is somebody's wait, and not a notification."""
    if isinstance(callback, partial):
        callback = callback.func
    if isinstance(callback, BuiltinFunctionType):  # Task's wake-up, in C
        return isinstance(callback.__self__, asyncio.Future)
    return str(getattr(callback, "__module__", "")).startswith("asyncio.")


class _Task(asyncio.Task[_T]):
    """What ``start()`` returns: a Task that knows who waits for it."""

    def __init__(
        self, run: _Run[_T], *, loop: asyncio.AbstractEventLoop, name: str
    ) -> None:
        self._run = run
        self._waiters: list[tuple[Callable[..., object], _Run[Any]]] = []
        super().__init__(run.main(), loop=loop, name=name)

    def add_done_callback(
        self, fn: Callable[[Self], object], /, *, context: Context | None = None
    ) -> None:
        super().add_done_callback(fn, context=context)
        run = self._run.owner._inside()
        if run is not None and not self.done() and _is_wait(fn):
            self._waiters.append((fn, run))
            run.waits_for_one_more()

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        removed = super().remove_done_callback(fn)
        if removed:
            gone = [run for waiter, run in self._waiters if waiter == fn]
            self._waiters = [item for item in self._waiters if item[0] != fn]
            for run in gone:
                run.waits_for_one_less()
        return removed

    def _ended(self) -> None:
        """Release the slot, first to those who have waited for this task."""
        waiters, self._waiters = self._waiters, []
        for _, run in waiters:
            run.waits_for_one_less()
        self._run.end()


class Concurrent:
    """Runs awaitables as tasks, at most *limit* at once (None or 0: no limit).

    ``async with Concurrent(limit=5) as c:`` then ``c.start(awaitable)``, in the
    block or in tasks that were started so. Leaving the block waits for all.

    A task that fails does not stop the others. When all have ended, the first
    exception that nobody has retrieved from its task is raised; its notes name
    the others. With *fail_fast* the first failure cancels the rest, and the
    block, and is raised. A block that raises or is cancelled cancels all tasks
    and waits for them before it goes on.

    Raises TypeError or ValueError for a limit that is no int or negative.
    """

    def __init__(self, limit: int | None = None, *, fail_fast: bool = False) -> None:
        self._slots = None if not _checked(limit) else _Slots(_checked(limit))
        self._fail_fast = bool(fail_fast)
        self._parent: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: dict[asyncio.Future[Any], None] = {}
        self._idle: asyncio.Future[None] | None = None
        self._leaving = self._left = False
        self._aborting = self._interrupted = False
        self._failed: list[_Task[Any]] = []
        self._fatal: BaseException | None = None
        self._started = 0
        self._ended: set[int] = set()
        self._weights: tuple[float, ...] = ()
        self._weight_done = self._weight_given = 0.0
        self._logged = ""

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("this Concurrent has been entered before; make another")
        self._loop = asyncio.get_running_loop()
        self._parent = asyncio.current_task()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leaving = True
        if self._interrupted:
            exc = self._without_interrupt(exc)
        if exc is not None:
            self._abort()
        cancelled = await self._drain()
        self._left = True
        error = self._outcome(exc, cancelled)
        if error is None:
            return
        context = error.__context__
        try:
            raise error
        finally:
            if exc is None:  # not our own CancelledError
                error.__context__ = context
            # The traceback holds this frame: let it hold no exception.
            del error, exc, cancelled, context

    def start(
        self, awaitable: Awaitable[_T], *, name: str | None = None
    ) -> asyncio.Task[_T]:
        """Start *awaitable* (a Cr, a coroutine, any awaitable) as a task.

        Where the limit is reached it begins when its turn comes, in the order
        of the calls. *name* is the task's; by default what was given, and a
        number.

        Raises TypeError for what cannot be awaited, RuntimeError outside of
        the ``async with`` block or its event loop.
        """
        if not inspect.isawaitable(awaitable):
            raise TypeError(
                "Concurrent.start: takes something to await, like a Cr or a"
                f" coroutine, not {type(awaitable).__name__}"
                + (": call it first" if callable(awaitable) else "")
            )
        loop = self._open_loop(awaitable)
        self._started += 1
        run = _Run(self, self._started, awaitable)
        name = name or f"{_label(awaitable)}-{self._started}"
        task = _Task(run, loop=loop, name=name)
        self._pending[task] = None
        task.add_done_callback(self._finish)
        if self._aborting:
            task.cancel()
        return task

    def __call__(self, *weights: float) -> float:
        """Return the progress, from 0.0 to 1.0: the share of what has ended.

        *weights* are the tasks' shares of the whole, in the order they are
        started, also of those that are not started yet; tasks beyond them
        weigh 1. They are kept for the next calls and for what is logged.
        """
        if weights:
            self._weights = tuple(map(_weight, weights))
            self._weight_given = math.fsum(self._weights)
            self._weight_done = math.fsum(map(self._weight_of, self._ended))
        to_come = max(0, len(self._weights) - self._started)
        if not to_come and len(self._ended) == self._started:
            return float(self._left or self._started > 0)
        total = self._weight_given + max(0, self._started - len(self._weights))
        return min(1.0, self._weight_done / total) if total else float(self._left)

    def _weight_of(self, number: int) -> float:
        return self._weights[number - 1] if number <= len(self._weights) else 1.0

    def _inside(self) -> _Run[Any] | None:
        """The run of this Concurrent that the current code belongs to."""
        run = _current.get()
        while run is not None and run.owner is not self:
            run = run._outer
        return run

    def _open_loop(self, awaitable: object) -> asyncio.AbstractEventLoop:
        error = ""
        if self._loop is None:
            error = "use it inside of `async with Concurrent() as c:`"
        elif self._left:
            error = "its `async with` block has been left"
        elif self._loop is not asyncio.events._get_running_loop():
            error = "called from outside of its event loop"
        if self._loop is None or error:
            _discard(awaitable)
            raise RuntimeError(f"Concurrent.start: {error}")
        return self._loop

    def _finish(self, task: _Task[Any]) -> None:
        """Done callback of each task, the first one of all."""
        run = task._run
        task._ended()
        del self._pending[task]
        if not run.begun:
            self._abandon(run.awaitable)
        self._ended.add(run.number)
        self._weight_done += self._weight_of(run.number)
        self._log_progress()
        # Not exception(): that would count as retrieving it.
        if not task.cancelled() and task._log_traceback:
            self._note_failure(task)
        self._wake_if_idle()

    def _abandon(self, awaitable: object) -> None:
        """End what never began: a future is at work nevertheless."""
        if asyncio.isfuture(awaitable):
            if not awaitable.done():
                awaitable.cancel()
                self._pending[awaitable] = None
                awaitable.add_done_callback(self._forget)
        else:
            _discard(awaitable)

    def _forget(self, future: asyncio.Future[Any]) -> None:
        del self._pending[future]
        self._wake_if_idle()

    def _wake_if_idle(self) -> None:
        if not self._pending and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _note_failure(self, task: _Task[Any]) -> None:
        self._failed.append(task)
        error = task._exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._fatal = self._fatal or error
            self._interrupt()
        elif self._fail_fast:
            self._interrupt()

    def _interrupt(self) -> None:
        """Cancel the tasks, and the block where it is still at work."""
        if self._aborting:
            return
        self._abort()
        if not self._leaving and self._parent is not None:
            self._interrupted = True
            self._parent.cancel()

    def _without_interrupt(self, exc: BaseException | None) -> BaseException | None:
        """What has ended the block, but for the cancel of _interrupt()."""
        assert self._parent is not None
        others = self._parent.uncancel()
        if isinstance(exc, asyncio.CancelledError) and not others:
            return None
        return exc

    def _abort(self) -> None:
        self._aborting = True
        for future in list(self._pending):
            future.cancel()

    async def _drain(self) -> asyncio.CancelledError | None:
        """Wait for all; returns the first cancel that came meanwhile."""
        assert self._loop is not None
        cancelled = None
        while self._pending:
            self._idle = self._loop.create_future()
            try:
                await self._idle
            except asyncio.CancelledError as exc:
                cancelled = cancelled or exc
                # Again on a second one: to a run that means "kill".
                self._abort()
            finally:
                self._idle = None
        return cancelled

    def _outcome(
        self, exc: BaseException | None, cancelled: asyncio.CancelledError | None
    ) -> BaseException | None:
        """What to raise; None also where *exc*, the block's own, goes on."""
        failed, fatal = self._unretrieved(), self._fatal
        first = self._failed[0] if self._failed else None
        self._parent = self._fatal = None
        self._failed = []
        if isinstance(exc, (KeyboardInterrupt, SystemExit)):
            return None
        if fatal is not None or cancelled is not None:
            return fatal or cancelled
        if isinstance(exc, asyncio.CancelledError):
            return None
        if exc is not None:
            _add_note(exc, failed)
            return None
        if self._interrupted and first is not None and first not in failed:
            failed.insert(0, first)
        if not failed:
            return None
        error = failed[0].exception()
        assert error is not None
        _add_note(error, failed[1:])
        return error

    def _unretrieved(self) -> list[_Task[Any]]:
        return [task for task in self._failed if task._log_traceback]

    def _log_progress(self) -> None:
        text = f"progress: {self():.2f}"
        if text != self._logged:
            self._logged = text
            _log.info(text)


def _checked(limit: object) -> int:
    if limit is None:
        return 0
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(
            f"Concurrent: limit must be an int or None, not {type(limit).__name__}"
        )
    if limit < 0:
        raise ValueError(
            f"Concurrent: limit must not be negative ({limit}); None or 0: no limit"
        )
    return limit


def _weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"Concurrent: a weight must be a number, not {type(value).__name__}"
        )
    if not math.isfinite(value) or value < 0:
        raise ValueError(
            f"Concurrent: a weight must be finite and not negative, not {value!r}"
        )
    return float(value)


def _label(awaitable: object) -> str:
    name = getattr(awaitable, "__qualname__", None)
    if not isinstance(name, str):
        name = type(awaitable).__name__
    return name.rpartition("<locals>.")[2]


def _discard(awaitable: object) -> None:
    """Close a coroutine that never began: there is nobody left to await it."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()


def _add_note(error: BaseException, tasks: list[_Task[Any]]) -> None:
    """Name the tasks that failed besides; they count as retrieved then."""
    if not tasks:
        return
    names = ", ".join(
        f"{task.get_name()} ({type(task.exception()).__name__})" for task in tasks
    )
    plural = "task" if len(tasks) == 1 else "tasks"
    error.add_note(f"{len(tasks)} more {plural} failed: {names}")
