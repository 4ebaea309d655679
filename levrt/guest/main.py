"""Runs the entry: greets the workflow, loads the payload, calls, reports."""

import posix
import sys

from levrt.guest import channel as channel_module, env, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from levrt.guest.channel import Channel

# The workflow cannot be reached, so nobody can be told but by this code.
NO_CHANNEL = 70
LOG_LEVEL = 20  # logging.INFO, unless the workflow asks for another
# Where processes that multiprocessing starts anew find the payload.
SPAWN = b"LEV_SPAWN"


def run(root: str) -> "NoReturn":
    """Does not return: the process ends with the entry's exit code."""
    env.prepare(root, bundled=sys.prefix == root)
    channel, answer = _greet()
    sys.argv[:] = [str(answer.get("entry", "entry")), *answer.get("argv", ())]
    _line_buffered()
    sys.exit(_Run(channel, answer).code())


def _greet() -> "tuple[Channel, dict[str, Any]]":
    """By the first way that leads to the workflow; a comma stands between them.

    A mounted socket may be there and lead nowhere: what counts is the answer.
    """
    address = env.take_variable("LEV_CHANNEL") or ""
    token = env.take_variable("LEV_TOKEN") or ""
    reasons = []
    for way in address.split(","):
        try:
            channel = channel_module.connect(way, token)
            return channel, channel.hello(token, "%d.%d.%d" % sys.version_info[:3])
        except OSError as e:
            reasons.append(f"{way}: {e}")
    print("levrt: no way to the workflow by", "; ".join(reasons), file=sys.stderr)
    sys.exit(NO_CHANNEL)


def _line_buffered() -> None:
    """A tool that is killed has shown what it printed."""
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


class _Run:
    def __init__(self, channel: "Channel", answer: "dict[str, Any]") -> None:
        self.channel = channel
        self.answer = answer
        self.lines: dict[str, list[tuple[int, str]]] = {}
        self.reported = False

    def code(self) -> int:
        """Runs all of it; the exit code."""
        code = self._guarded(self._call)
        # As the interpreter does when it ends, but before the last frame: what
        # threads and exit functions store is stored.
        late = self._guarded(_finish)
        code = code or late
        _flush()
        if not self.channel.is_own:
            return code  # a fork that came back from the entry: not the end
        _quietly(self.channel.end, code)
        _disconnect()
        return code

    def _call(self) -> None:
        payload = load.Payload(self.answer["payload"])
        self.lines = payload.lines
        sys.argv[0] = payload.name
        _replace_main()
        _keep_for_spawn(self.answer.pop("payload"))
        level = self.answer.get("level", LOG_LEVEL)
        _watch_logging(self.channel, level)
        _connect(self.channel)
        entry, args, kwargs = payload.load()
        _set_package()
        result = entry(*args, **kwargs)
        if result is not None:
            _run_coroutine(result)

    def _guarded(self, step: "Callable[[], None]") -> int:
        try:
            step()
        except SystemExit as e:
            return _exit_code(e.code)
        except BaseException as e:
            return self._failed(e)
        return 0

    def _failed(self, error: BaseException) -> int:
        from levrt.guest import fail

        frame = fail.frame(error, self.lines)
        if self.channel.is_own and not self.reported:
            self.reported = True  # the first is what ended the entry
            _quietly(self.channel.tell, frame)
        # Into the container's output as well, as any Python program does.
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1


def _exit_code(code: object) -> int:
    """As the interpreter reads sys.exit's argument."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _run_coroutine(result: object) -> None:
    """Of an `async def`; other results have nowhere to go."""
    from _collections_abc import Coroutine

    if isinstance(result, Coroutine):
        import asyncio

        asyncio.run(result)


def _watch_logging(channel: "Channel", level: int) -> None:
    from levrt.guest import logs

    logs.watch(channel, level)


def _connect(channel: "Channel") -> None:
    from levrt.guest.ctx import lev

    lev._connect(channel)


def _disconnect() -> None:
    from levrt.guest.ctx import lev

    lev._disconnect("the entry has ended: nothing can be stored any more")


class _Spec:
    """As much of a module's spec as is asked of that of `__main__`.

    Its name is what multiprocessing runs first in a process that it starts
    anew; the parent is where relative imports begin.
    """

    loader = origin = None
    _initializing = False

    def __init__(self, parent: str) -> None:
        self.name = "levrt.guest.child"
        self.parent = parent


def _replace_main() -> None:
    """`__main__` is the workflow's, as far as it came along."""
    load.module("__main__").__spec__ = _Spec(parent="")


def _set_package() -> None:
    """Relative imports in the program itself, of a package run by -m."""
    main = load.module("__main__")
    main.__spec__ = _Spec(main.__dict__.get("__package__") or "")


def _keep_for_spawn(payload: bytes) -> None:
    """Holds the payload in memory that children can open by /proc."""
    try:
        fd = posix.memfd_create("lev-payload", posix.MFD_CLOEXEC)
        rest = memoryview(payload)
        while rest:
            rest = rest[posix.write(fd, rest) :]
    except OSError:
        return  # no memfd in this sandbox: a child says that it has no payload
    env.set_variable(SPAWN, b"/proc/%d/fd/%d" % (posix.getpid(), fd))


def _finish() -> None:
    """What the interpreter does before it takes itself down."""
    import atexit

    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
    finally:
        atexit._run_exitfuncs()


def _flush() -> None:
    """A stream that was closed, replaced or broken is no error of the entry."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception:
            continue


def _quietly(send: "Callable[[Any], None]", what: "Any") -> None:
    try:
        send(what)
    except OSError as e:
        print(f"levrt: the workflow could not be told: {e}", file=sys.stderr)
