"""What the C half calls: parts that are words, files or loops, not work."""

import ast
import asyncio
import builtins
import contextlib
import logging
import os
import posixpath
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from levrt import errors
from levrt.collection import Collection as collection
from levrt.files import Digest
from levrt.logs import KeptLogs as kept_logs, follow_logs
from levrt.namespace import namespace_prefix
from levrt.session import close_of_loop, current_session, forget_loop

if TYPE_CHECKING:
    from levrt._levrt import Bridge, Document, Task
    from levrt.entry import RemoteCall

__all__ = [
    "RunRecord",
    "check_files",
    "check_targets",
    "collection",
    "current_session",
    "entry_call",
    "failure",
    "follow_logs",
    "kept_logs",
    "merge_set",
    "namespace_prefix",
    "run_record",
    "wants_output",
    "watch_loop",
]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """How a run went.

    ``image`` is the reference that was run, ``digest`` its digest in the registry
    (``name@sha256:…``), None for an image that came from none; ``argv`` is the
    command. ``exit_code`` is None when its process never ran;
    ``signal`` is the number of the signal that ended it, ``oom`` whether that was
    the kernel for memory; ``started`` and ``finished`` are aware datetimes in UTC;
    ``duration`` is in seconds; ``peak_memory`` in bytes, None where the engine
    cannot tell.
    """

    image: str | None
    digest: str | None
    argv: tuple[str, ...]
    exit_code: int | None
    signal: int | None
    oom: bool
    started: datetime | None
    finished: datetime | None
    peak_memory: int | None

    @property
    def duration(self) -> float | None:
        """Seconds from its start to its end; None where either did not come."""
        if self.started is None or self.finished is None:
            return None
        return (self.finished - self.started).total_seconds()


def _time(ms: int) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None


def run_record(
    image: str | None,
    digest: str | None,
    argv: list[str],
    exit_code: int,
    signal: int,
    oom: int,
    started: int,
    finished: int,
    peak_memory: int,
) -> RunRecord:
    return RunRecord(
        image,
        digest,
        tuple(argv),
        exit_code if exit_code >= 0 else None,
        signal or None,
        bool(oom),
        _time(started),
        _time(finished),
        peak_memory if peak_memory >= 0 else None,
    )


def failure(
    task: "Task",
    document: "Document",
    name: str,
    text: str,
    detail: int,
    phase: str,
    exit_code: int,
    signal: int,
    oom_killed: int,
    log_tail: str,
    hint: str | None,
    remote_type: str | None,
    remote_text: str | None,
    traceback: str | None,
    builtin: str | None,
) -> BaseException:
    """The exception for a run that did not come to a good end."""
    if name == "CancelledError":
        name, phase, text = "TaskFailed", "cancelled", f"{text}: it was stopped"
    type_: type[BaseException] = getattr(errors, name, None) or getattr(builtins, name)
    exc = type_(detail, text) if type_ is OSError else type_(text)
    if isinstance(exc, errors.EngineError):
        exc.status = detail or None
    if not isinstance(exc, errors.TaskFailed):
        return exc
    exc.task = task
    exc.phase = phase
    exc.exit_code = exit_code if exit_code >= 0 else None
    exc.signal = signal or None
    exc.oom_killed = bool(oom_killed)
    exc.log_tail = log_tail
    exc.document = document
    exc.hint = hint
    if isinstance(exc, errors.RemoteError):
        exc.remote_type = remote_type or ""
        exc.traceback = traceback or ""
        exc.__cause__ = _cause(builtin, remote_text or "")
    return exc


def _cause(name: str | None, text: str) -> BaseException | None:
    type_ = getattr(builtins, name, None) if name else None
    if not isinstance(type_, type) or not issubclass(type_, BaseException):
        return None
    if type_ is KeyError:
        # Its text is the repr of the key.
        with contextlib.suppress(ValueError, SyntaxError):
            return KeyError(ast.literal_eval(text))
    try:
        return type_(text)
    except TypeError:  # UnicodeDecodeError and its like take more than a text
        return None


def entry_call(entry: object) -> "RemoteCall":
    """``entry=``: a call of a remote function, or the function itself."""
    from levrt.entry import RemoteCall, RemoteFunction

    if isinstance(entry, RemoteCall):
        return entry
    if isinstance(entry, RemoteFunction):
        return entry()
    hint = ""
    if callable(entry):
        hint = "; decorate the function with @levrt.remote"
    raise TypeError(
        "entry must be a call of a @remote function, or the function, not"
        f" {type(entry).__name__}{hint}"
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_files(files: dict[Any, Any]) -> dict[str, Any]:
    """``files=`` with normalised targets; those given as None left out."""
    found: dict[str, Any] = {}
    for target, value in files.items():
        if not isinstance(target, str):
            raise TypeError(f"files: a target must be str, not {type(target).__name__}")
        if not _is_utf8(target):
            raise ValueError(
                f"files: the target {target!r} has a lone surrogate, which UTF-8"
                " cannot hold"
            )
        if "\0" in target:
            raise ValueError(f"files: the target {target!r} must not contain NUL")
        if not target.startswith("/"):
            raise ValueError(f"files: the target {target!r} is no absolute path")
        if value is None:
            continue
        if isinstance(value, Digest):
            raise errors.UnsupportedOption(
                f"files[{target!r}]: artifacts cannot be given as files yet"
            )
        if isinstance(value, (bytearray, memoryview)):
            value = bytes(value)
        if not isinstance(value, (bytes, str, os.PathLike)):
            raise TypeError(
                f"files[{target!r}] must be bytes, str or a path, not"
                f" {type(value).__name__}"
            )
        if isinstance(value, str) and not _is_utf8(value):
            raise ValueError(
                f"files[{target!r}] has a lone surrogate, which UTF-8 cannot hold;"
                " give bytes"
            )
        if isinstance(value, os.PathLike) and b"\0" in os.fsencode(value):
            raise ValueError(f"files[{target!r}]: the path must not contain NUL")
        path = "/" + posixpath.normpath(target).lstrip("/")
        if path == "/" and not isinstance(value, os.PathLike):
            raise ValueError("files: '/' takes a local directory only")
        if path in found:
            raise ValueError(f"files: two files for the one target {path!r}")
        found[path] = value
    for path in found:
        parent = posixpath.dirname(path)
        while parent != "/":
            if parent in found and not isinstance(found[parent], os.PathLike):
                raise ValueError(
                    f"files: {path!r} is below {parent!r}, which is a file itself"
                )
            parent = posixpath.dirname(parent)
    return found


_OURS = ("/lev", "/proc", "/sys", "/dev")


def check_targets(
    files: Mapping[str, Any], options: Mapping[str, Any], host: Mapping[str, Any]
) -> None:
    """Files are not copied to where something is mounted at the start."""
    tmpfs = {**options, **host}.get("tmpfs") or ()
    mounts = [*_OURS]
    for item in [tmpfs] if isinstance(tmpfs, str) else tmpfs:
        mounts.append(posixpath.normpath(str(item).partition(":")[0]))
    for target in files:
        for mount in mounts:
            if target == mount or target.startswith(mount + "/"):
                raise ValueError(
                    f"files: {target!r} is below {mount}, which is mounted when the"
                    " container starts and would hide it"
                )


def merge_set(
    data: Mapping[str, Any] | str | None = None, *args: Any, **kwargs: Any
) -> dict[str, Any]:
    """The keys that ``set(data, **kwargs)`` or ``set("key", value)`` means.

    As in a container: ``levrt.guest.ctx`` has the same checks.
    """
    if isinstance(data, str):
        if len(args) != 1:
            raise TypeError(
                f"set({data!r}, …) takes one value after the key: set({data!r}, value)"
            )
        merged = {data: args[0], **kwargs}
    elif args:
        raise TypeError("set() takes a mapping, keywords, or a key and its value")
    elif data is not None and not isinstance(data, Mapping):
        raise TypeError(
            f"data must be a mapping, not {type(data).__name__};"
            ' a key called data is stored by set({"data": …})'
        )
    else:
        merged = {**(data or {}), **kwargs}
    for key in merged:
        if not isinstance(key, str):
            raise TypeError(f"a key must be str, not {type(key).__name__}")
        if key.partition(".")[0] in ("_id", "_lev"):
            raise ValueError(f"the key {key} is reserved")
        if key == "":
            raise ValueError("a key must not be empty")
    return merged


def wants_output() -> bool:
    """Whether anybody listens to the containers' output."""
    return logging.getLogger("lev.ctr").isEnabledFor(logging.DEBUG)


# Loops in use, each with its bridge and what watches for its end: a generator
# that is dropped would be closed at once.
_watched: dict[
    asyncio.AbstractEventLoop, tuple["Bridge", AsyncGenerator[None, None]]
] = {}


async def _until_shutdown(bridge: "Bridge") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        try:
            await close_of_loop()
        finally:
            bridge.close()
            _watched.pop(asyncio.get_running_loop(), None)


def watch_loop(bridge: "Bridge") -> None:
    """Have the session closed when the running loop shuts down.

    A loop has no hook for its end, but ``shutdown_asyncgens()``, which
    ``asyncio.run`` and its like call, closes every asynchronous generator that
    has begun: this one begins here and then waits for just that.
    """
    for loop in [loop for loop in _watched if loop.is_closed()]:
        forget_loop(loop)  # closed without a shutdown
        _watched.pop(loop)[0].close()
    watcher = _until_shutdown(bridge)
    begin = watcher.__anext__()
    with contextlib.suppress(StopIteration):
        begin.send(None)
    _watched[asyncio.get_running_loop()] = (bridge, watcher)
