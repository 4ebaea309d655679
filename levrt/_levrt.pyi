"""Run containers from asyncio; the C half of levrt."""

import os
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from types import GenericAlias
from typing import Any, Generic, Literal, TypeVar, final

from typing_extensions import disjoint_base

from levrt._guest import ObjectId as ObjectId, decode as decode, encode as encode
from levrt.collection import Collection, Find
from levrt.entry import RemoteCall, RemoteFunction
from levrt.files import Digest
from levrt.glue import RunRecord
from levrt.logs import KeptLogs, LogLine

_T = TypeVar("_T")
_File = bytes | str | os.PathLike[str] | Digest

def begin(op: Op[_T], /) -> Op[_T]:
    """Start an operation now instead of when it is first awaited."""

@final
class Bridge:
    """Delivers what the core's threads have finished to one event loop."""

    def close(self) -> None:
        """Leave the loop. Closing twice is fine."""

@final
class Op(Coroutine[Any, Any, _T], Generic[_T]):
    """An operation of levrt: await it, or make an asyncio task of it.

    It starts when it is first awaited. Cancelling it cancels the operation and
    waits until that has ended: when a cancelled ``await`` returns, the container
    is gone. Cancelling a second time ends the grace of a stop at once.
    """

    def __await__(self) -> Generator[Any, None, _T]: ...
    def __iter__(self) -> Generator[Any, None, _T]: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any:
        """Advance it, as a coroutine's send()."""

    def throw(self, *args: Any) -> Any:
        """Cancel it; the exception is raised when the operation has ended."""

    def close(self) -> None:
        """Cancel it without waiting; its session waits."""

    @property
    def cr_running(self) -> bool:
        """Whether it has started and not ended."""

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error that nobody was given yet."""

    # A coroutine's names, for the repr of tasks.
    __name__: str
    __qualname__: str
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

@final
class Session:
    """What the runs of one job share: engines, document store, log records."""

    def __new__(
        cls,
        *,
        job: str,
        user: str,
        store: str,
        data_dir: str,
        tool_registry: str,
        mirrors: Sequence[str],
        engine: str | None,
        engine_source: str | None,
        bundle_argv: Sequence[str],
        pull_stall: float,
        ready_timeout: float,
        grace: float,
        log: Callable[[int, str, str], None],
    ) -> Session: ...
    @property
    def id(self) -> str:
        """24 hexadecimal digits; the label ``zone.lev.session``."""

    def find_one(
        self,
        coll: str,
        query: Mapping[str, Any] | None = None,
        projection: Any = None,
    ) -> Op[dict[str, Any] | None]:
        """The first document that matches, or None."""

    def update(
        self,
        coll: str,
        query: Mapping[str, Any],
        update: Mapping[str, Any],
        *,
        upsert: bool = False,
        multi: bool = False,
    ) -> Op[tuple[int, int, Any]]:
        """Update documents: (matched, modified, upserted id or None)."""

    def insert(self, coll: str, documents: Sequence[Mapping[str, Any]]) -> Op[None]:
        """Append documents: all or none where the store has transactions."""

    def delete(
        self, coll: str, query: Mapping[str, Any], *, multi: bool = False
    ) -> Op[int]:
        """Take away what matches, or the first of it; how many."""

    def count(self, coll: str, query: Mapping[str, Any] | None = None) -> Op[int]:
        """How many documents match."""

    def collections(self) -> Op[list[str]]:
        """The names of the collections, sorted."""

    def gc(
        self, engine: str | None = None, *, dry_run: bool = False, kept: bool = False
    ) -> Op[list[dict[str, Any]]]:
        """Remove what dead sessions have left; see `levrt.gc`."""

    def document(self, coll: str, oid: ObjectId) -> Document:
        """The document with that ``_id``, whether or not it exists yet.

        Its writes and reads take place in the order in which they begin.
        """

    def flush(self) -> Op[None]:
        """Wait for the ordered writes that have begun, however they end."""

    def stop(self, hurry: bool = False) -> int:
        """Stop every run that has not ended; how many. *hurry*: kill them now."""

    def close(self) -> Op[None]:
        """Stop what runs, wait for it, remove what is left, and the networks."""

    def close_now(self, seconds: float, /) -> None:
        """As flush() and close() where the loop does not run any more.

        Waits at most *seconds*, and then delivers what the loop was not given:
        a write that is not stored has ``failed``, or is ``cr_running`` still.
        """

@final
class Cursor:
    """The documents of a find, or of a *pipeline*, batch by batch."""

    def __new__(
        cls,
        session: Session,
        coll: str,
        query: Mapping[str, Any] | None = None,
        projection: Any = None,
        sort: Mapping[str, int] | None = None,
        skip: int = 0,
        limit: int = 0,
        pipeline: Sequence[Mapping[str, Any]] | None = None,
    ) -> Cursor: ...
    def next_batch(self, size: int, /) -> Op[list[dict[str, Any]]]:
        """The next documents, at most *size* and about 16 MiB; [] at the end."""

@disjoint_base
class Cr:
    """What to run: an image, and how. Awaiting it runs it, to its document.

    A ``Cr`` is a description: it can be awaited many times, each time a new
    container and a new document.

    *image*: any reference, ``name[:tag][@digest]``, an image id or its prefix, a
    tool image ``.user.tool[:version]``; ``""`` with an *entry*: an empty image.
    *schema*: ``namespace/name@major.minor``, the collection's name.
    *host*: use the host's network.
    *entry*: a call of a ``@remote`` function, or the function; replaces the
    image's entrypoint.
    *cmd*: arguments, after the image's entrypoint; with *entry* they are
    ``sys.argv[1:]``.
    *env*: ``["NAME=value"]`` or a dict, added to the image's.
    *files*: by absolute path: bytes or str are content, a path is a local file or
    directory read at the start; None: no file.
    *links*: alias to host: an entry of the container's hosts file.
    *ports*: TCP ports that have to accept connections inside the container's
    network before ``start()`` returns.
    *services*: alias to ``Cr``: started before, reachable by their alias,
    destroyed after it.

    *timeout*: seconds of run time; then stop signal, grace, kill.
    *check*: True: an exit code other than 0 raises TaskFailed; a list of further
    accepted codes; False: none raises.
    *host_config*, *options*: create options in docker-py's names.
    *pull*: ``"missing"``, ``"always"`` or ``"never"``.
    *engine*: URL of the engine for this run. *name*: the container's.
    *keep*: the container stays when the run ends; when the session ends first, or
    its process is killed, it runs on, its output going nowhere. Without *services*
    and on a daemon's engine only; ``levrt.gc(kept=True)`` removes it afterwards.

    Raises TypeError or ValueError, naming the parameter.
    """

    def __new__(
        cls,
        image: str,
        schema: str | None = None,
        host: bool = False,
        entry: RemoteCall | RemoteFunction[...] | None = None,
        cmd: Sequence[str] | None = None,
        env: Sequence[str] | Mapping[str, str] | None = None,
        files: Mapping[str, _File | None] | None = None,
        links: Mapping[str, str] | None = None,
        ports: Sequence[int] | None = None,
        services: Mapping[str, Cr] | None = None,
        *,
        timeout: float | None = None,
        check: bool | Sequence[int] = True,
        host_config: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        pull: Literal["missing", "always", "never"] = "missing",
        engine: str | None = None,
        name: str | None = None,
        keep: bool = False,
    ) -> Cr: ...
    @property
    def image(self) -> str:
        """The reference, as it was given."""

    @property
    def schema(self) -> str | None:
        """The collection's name behind the namespace; None: the namespace alone."""

    @property
    def host(self) -> bool:
        """Whether it uses the host's network."""

    @property
    def entry(self) -> RemoteCall | None:
        """What runs instead of the image's entrypoint: a call of a ``@remote``."""

    @property
    def cmd(self) -> list[str] | None:
        """Arguments; None: the image's own."""

    @property
    def env(self) -> list[str]:
        """``NAME=value``, one each; a dict that was given too."""

    @property
    def files(self) -> dict[str, _File]:
        """By absolute path, normalised; without those given as None."""

    @property
    def links(self) -> dict[str, str]:
        """Alias to host."""

    @property
    def ports(self) -> list[int]:
        """TCP ports that have to accept before ``start()`` returns."""

    @property
    def services(self) -> dict[str, Cr]:
        """Alias to Cr."""

    @property
    def timeout(self) -> float | None:
        """Seconds of run time; None: no limit."""

    @property
    def check(self) -> bool | list[int]:
        """Whether a non-zero exit raises, or the codes that are accepted besides 0."""

    @property
    def host_config(self) -> dict[str, Any]:
        """Create options of docker-py's ``host_config``, as they were given."""

    @property
    def options(self) -> dict[str, Any]:
        """Create options of docker-py's ``create_container``, likewise."""

    @property
    def pull(self) -> str:
        """``"missing"``, ``"always"`` or ``"never"``."""

    @property
    def engine(self) -> str | None:
        """URL of the engine; None: the session's."""

    @property
    def name(self) -> str | None:
        """The container's name; None: it is given one."""

    @property
    def keep(self) -> bool:
        """Whether the container stays when the run, or the session, ends."""

    def start(self) -> Op[Task]:
        """Start a container; the Task, when it runs and its *ports* accept.

        Raises StartFailed or ReadinessTimeout (both TaskFailed) when it does not
        come to that, EngineError and its children (ImageNotFound, PullError, …)
        where the engine is why, OSError for a local file that is not there, ValueError
        for a link that leads nowhere.
        Cancelling it waits until the container is gone.
        """

    def done(self) -> Op[Document]:
        """Run a container to its end; its Document.

        Raises what start() raises; TaskFailed when it exits with a code that
        *check* does not accept, OutOfMemory, DeadlineExceeded after *timeout*,
        RemoteError when the *entry* raises; StoreError and its children. The
        exception's ``document`` has what was stored until then. Cancelling it
        waits until the container is gone.
        """

    def __await__(self) -> Generator[Any, None, Document]: ...

@final
class Task:
    """A run under way: what ``Cr.start()`` gives. Awaiting it is ``done()``."""

    @property
    def id(self) -> int:
        """Its number in the session, from 1."""

    @property
    def host(self) -> str:
        """The container's address, from every other run of the session.

        It is one of the session's network; with ``host=True`` the network's
        gateway; "" where the container has none.
        """

    @property
    def name(self) -> str:
        """The container's name."""

    @property
    def published(self) -> dict[str, list[tuple[str, int]]]:
        """Addresses and ports of the engine's machine that lead to the container.

        By the container's port: ``{"80/tcp": [("0.0.0.0", 49153)]}``; empty without
        ``port_bindings`` and ``publish_all_ports``. A binding to None has the port
        that was free.
        """

    def signal(self, signal: str | int = "SIGINT") -> Op[None]:
        """Send a Unix signal to the main process.

        *signal*: a name (``"SIGINT"``, ``"INT"``) or a number. Raises TypeError or
        ValueError for what is neither, RuntimeError when the process has ended or
        has not started, EngineError.
        """

    def done(self) -> Op[Document]:
        """Wait for its end; its Document, the same one each time.

        Raises as ``Cr.done()`` does. Cancelling this stops the run, and waits until
        its container is gone; others that wait get TaskFailed with the phase
        ``"cancelled"``. RuntimeError on another event loop than the run's.
        """

    def __await__(self) -> Generator[Any, None, Document]: ...
    def stop(self, grace: float = 10) -> Op[None]:
        """Stop it, and wait for its end: the stop signal, *grace* seconds, kill.

        The signal is the image's (SIGTERM where it names none). Raises ValueError
        for a negative *grace*. How the run ends is for done() to tell.
        """

    def logs(self) -> AsyncIterator[LogLine]:
        """Its output, line by line, as it comes: ``async for line in …``.

        32 MiB are kept. Where a reader has missed older output, a line of stream
        ``"levrt"`` says how much, in its place. Raises OSError when the file
        cannot be read.
        """

    def _read_logs(self, pos: int, /) -> Op[tuple[bytes, int, bool]]: ...
    def _more_logs(self, pos: int, /) -> Op[None]: ...

@final
class Document:
    """What one run has stored: a document of the store, and how the run went.

    The workflow's own is ``lev.doc``, or what ``with lev / "name" as doc`` gives.
    """

    @property
    def coll(self) -> Collection:
        """The collection that it is in."""

    @property
    def filter(self) -> dict[str, Any]:
        """The query that finds it: ``{"_id": …}``, a new dict each time."""

    @property
    def run(self) -> RunRecord | None:
        """How the run went; None while it has not ended."""

    def get(
        self,
        query: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | Sequence[str] | str | None = None,
    ) -> Op[dict[str, Any] | None]:
        """MongoDB's findOne of ``{**query, **filter}``; None when it does not match.

        *query*: MongoDB's, without the ``_id``. *projection*: a dict, a list of
        names, or one name. ``_id`` is left out unless the projection asks for it.

        Raises TypeError for arguments of another type, QueryError for what MongoDB
        refuses, UnsupportedOperation for what the embedded store does not have,
        StoreError.
        """

    def set(
        self, data: Mapping[str, Any] | str | None = None, *args: Any, **kwargs: Any
    ) -> Op[None]:
        """MongoDB's $set of these keys: ``set({…})``, ``set(a=1)``, ``set("a", 1)``.

        A key with dots sets inside of what is there. Without a key nothing
        changes. Raises TypeError, ValueError
        or OverflowError, naming the way to it, for what BSON cannot hold and for
        reserved keys (``_id``, ``_lev``); QueryError where a dotted key leads
        through something that is no object; DocumentTooLarge above 16 MiB.
        """

    def all(
        self,
        query: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | Sequence[str] | str | None = None,
    ) -> Find:
        """The documents of its collection that match: ``async for``.

        Arguments and errors as Collection.find() has them.
        """

    def logs(self) -> KeptLogs:
        """The container's output that was kept: the newest 32 MiB.

        ``async for line in doc.logs()`` gives the lines as they are read, ``await
        doc.logs()`` a list of all. Where older output was dropped, the first line
        is one of stream ``"levrt"`` that says how much; the next one may be the
        rest of a line. Nothing where there was no output, or where its file had to
        make room for newer ones. Raises OSError when the file cannot be read.
        """

    def _read_logs(self, pos: int, /) -> Op[tuple[bytes, int, bool]]: ...
