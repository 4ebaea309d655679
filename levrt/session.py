"""Jobs: what ``levrt.run`` sets up, or the first use in a loop of one's own."""

import asyncio
import atexit
import contextlib
import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from levrt._levrt import Document, ObjectId, Op, Session
from levrt.config import Config, load

__all__ = ["current_job", "run"]

_T = TypeVar("_T")
_log = logging.getLogger("lev")
# What a session has where its loop has gone and it can only block.
LAST_SECONDS = 30.0


class Job:
    """A session with what the workflow itself stores in it."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.config = config
        self.pid = os.getpid()
        self.session = Session(
            job=name,
            user=_user(),
            store=config.store,
            data_dir=_data_dir(config.store),
            tool_registry=config.registry,
            mirrors=config.mirrors,
            engine=config.engine,
            engine_source=config.sources["engine"],
            bundle_argv=[sys.executable, "-I", _bundle_script(), _cache_dir()],
            pull_stall=config.pull_stall_timeout,
            ready_timeout=config.ready_timeout,
            grace=config.grace,
            log=_emit,
        )
        self._documents: dict[str, Document] = {}
        # Each with its collection and keys, to name those that were not stored.
        self._writes: list[tuple[Op[None], str, tuple[Any, ...]]] = []
        self._writes_bound = 64

    def document(self, coll: str) -> Document:
        """The namespace's own document of this job."""
        if coll not in self._documents:
            self._documents[coll] = self.session.document(coll, ObjectId())
        return self._documents[coll]

    def track(self, op: Op[None], coll: str, keys: Iterable[Any]) -> None:
        """A write that has begun: the session ends only when it is stored."""
        if len(self._writes) >= self._writes_bound:
            self._writes = [w for w in self._writes if w[0].cr_running or w[0].failed]
            self._writes_bound = 2 * len(self._writes) + 64
        self._writes.append((op, coll, tuple(keys)))

    async def close(self) -> list[Exception]:
        """End the session; the errors of writes that nobody was given."""
        if self.pid != os.getpid():
            return []  # it is the parent's
        try:
            await self.session.flush()
            return [exc for w in self._writes if (exc := _error_of(*w))]
        finally:
            self._writes = []
            await self.session.close()

    def abandon(self) -> None:
        """Its loop has gone without a shutdown: kill what runs, remove the rest."""
        if self.pid != os.getpid():
            return
        left = self.session.stop(True)
        if left:
            _log.warning(
                "an event loop was given up while %d runs were under way: they are"
                " killed. Use asyncio.run() or levrt.run().",
                left,
            )
        self.session.close_now(LAST_SECONDS)
        for write in self._writes:
            if write[0].cr_running:
                _log.error("lev.set of %s was not stored in time", _named(*write[1:]))
                write[0].close()
            else:
                _error_of(*write)
        self._writes = []


def _named(coll: str, keys: tuple[Any, ...]) -> str:
    named = ", ".join(repr(key) for key in keys[:5])
    return f"{named}{', …' * (len(keys) > 5)} in {coll}"


def _error_of(op: Op[None], coll: str, keys: tuple[Any, ...]) -> Exception | None:
    """Of a write that has ended; logged, for there is nobody else to know it."""
    if not op.failed:
        return None  # stored, or awaited by the workflow, which has its error
    try:
        op.send(None)
    except StopIteration:
        pass
    except Exception as exc:
        _log.error("lev.set of %s: %s", _named(coll, keys), exc)
        return exc
    return None


def _emit(level: int, name: str, text: str) -> None:
    logging.getLogger(name).log(level, "%s", text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this uid
        return f"u{os.getuid()}"


def _data_dir(store: str) -> str:
    """Where containers' output is kept: beside an embedded store."""
    if store.startswith("sqlite:"):
        return os.path.dirname(os.path.abspath(store.removeprefix("sqlite:")))
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(base, "levrt")


def _bundle_script() -> str:
    """The builder is a program of its own: it loads nothing of the package."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "bundle.py")


def _cache_dir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "levrt", "runtime")


_jobs: WeakKeyDictionary[asyncio.AbstractEventLoop, Job] = WeakKeyDictionary()


def current_job() -> Job:
    """The running loop's; made where ``levrt.run`` has made none."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no running event loop: use it inside of levrt.run() or asyncio.run()"
        ) from None
    job = _jobs.get(loop)
    if job is None:
        job = _jobs[loop] = Job(_script_name(), load())
    elif job.pid != os.getpid():
        raise RuntimeError(
            f"this process is a fork of process {job.pid}, and the job is that"
            " one's: start levrt.run() or asyncio.run() anew, in a process that"
            ' was started by itself (subprocess, multiprocessing\'s "spawn")'
        )
    return job


def current_session() -> Session:
    return current_job().session


async def close_of_loop() -> None:
    """What the end of a loop means for the job that was implicit in it."""
    job = _jobs.pop(asyncio.get_running_loop(), None)
    if job is not None:
        for exc in await job.close():
            raise exc


def forget_loop(loop: asyncio.AbstractEventLoop) -> None:
    """One that was closed without a shutdown: nothing can be awaited on it."""
    job = _jobs.pop(loop, None)
    if job is not None:
        job.abandon()


def _script_name() -> str:
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(path))[0] if path else "main"


def _runs(n: int) -> str:
    return "1 run is" if n == 1 else f"{n} runs are"


def _abandon_jobs() -> None:
    for job in list(_jobs.values()):
        job.abandon()


atexit.register(_abandon_jobs)


class _Interrupts:
    """Ctrl-C: once stops everything, twice kills.

    Code that keeps the loop from turning (a long computation, a blocking call) is
    broken by the second one, as by the first one outside of a loop.
    """

    def __init__(self) -> None:
        self.count = 0
        self.acted = 0
        self.job: Job | None = None
        self.task: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, signum: int, frame: object) -> None:
        self.count += 1
        if self.loop is None or self.loop.is_closed():
            raise KeyboardInterrupt
        self.loop.call_soon_threadsafe(self._act, self.count)
        if self.count > 1 and not self.acted:
            if self.job is not None:
                self.job.session.stop(True)
            raise KeyboardInterrupt

    def _act(self, count: int) -> None:
        self.acted = count
        runs = self.job.session.stop(count > 1) if self.job else 0
        if count == 1:
            _log.warning("interrupted: %s stopped; Ctrl-C kills now", _runs(runs))
            if self.task is not None:
                self.task.cancel()
        else:
            _log.warning("interrupted again: %s killed", _runs(runs))


@contextlib.contextmanager
def _interruptible(interrupts: _Interrupts) -> Iterator[None]:
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


async def _main(main: Awaitable[_T], config: Config, interrupts: _Interrupts) -> _T:
    loop = asyncio.get_running_loop()
    job = _jobs[loop] = Job(_script_name(), config)
    interrupts.job = job
    interrupts.task = asyncio.current_task()
    interrupts.loop = loop
    name = getattr(main, "__name__", type(main).__name__)
    _log.info("job: %s %s %s", job.name, name, job.session.id)
    for line in config.describe():
        _log.debug("config: %s", line)
    try:
        result = await main
    except BaseException as exc:
        for lost in await _end(job, interrupts):
            exc.add_note(f"besides, lev.set failed: {lost}")
        raise
    for lost in await _end(job, interrupts):
        raise lost
    return result


async def _end(job: Job, interrupts: _Interrupts) -> list[Exception]:
    interrupts.task = None
    if interrupts.loop is not None:
        _jobs.pop(interrupts.loop, None)
    return await job.close()


def run(main: Awaitable[_T], *, db: str | None = None) -> _T:
    """Run a workflow to its end: a session, in an event loop of its own.

    *main*: a coroutine, or anything awaitable (a ``Cr``). *db*: URL of the
    document store. Returns main's result. Ctrl-C stops every run (the stop
    signal, the grace, the kill) and then raises KeyboardInterrupt; a second
    Ctrl-C kills at once. Raises RuntimeError inside a running event loop.
    """
    if not isinstance(main, Awaitable):
        raise TypeError(
            f"run() takes a coroutine or an awaitable, not {type(main).__name__}"
        )
    interrupts = _Interrupts()
    try:
        config = load(store=db)
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "run() cannot be called from a running event loop: await there"
            )
        with _interruptible(interrupts), asyncio.Runner() as runner:
            result = runner.run(_main(main, config, interrupts))
    except BaseException as exc:
        if not interrupts.count or isinstance(exc, KeyboardInterrupt):
            raise
        cause = None if isinstance(exc, asyncio.CancelledError) else exc
        raise KeyboardInterrupt from cause
    finally:
        if isinstance(main, Coroutine):  # not awaited, where the setup failed
            main.close()
    if interrupts.count:  # also where main has made do with what it had
        raise KeyboardInterrupt
    return result
