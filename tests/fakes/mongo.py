"""A MongoDB server for what a real one cannot be made to do.

``FakeMongo()`` is a standalone server, ``FakeMongo(members=2)`` a replica set
whose members share what is stored; a ``with`` block serves it. It has as much of
the protocol (OP_MSG, and OP_QUERY for the handshake) and of the language as its
tests send. ``faults[command]`` is a list: the next command of that name takes the
first one away and meets it:

- ``Refuse(code, labels)``: an error's document; nothing is done
- ``"step down"``: not done, and the other member is the primary from now on
- ``"lost"``: done, but the connection closes before the answer
- ``"close"``: not done, and the connection closes
- ``"half"``: half of the answer, then silence
- ``"mute"``: silence
- ``"dribble"``: the answer, one byte to a packet
- ``"garbage"``: an answer whose document is none (libmongoc does not survive a
  wrong length in it: it trusts its server)
"""

import asyncio
import contextlib
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import bson

_Doc: TypeAlias = dict[str, Any]

_HEADER = struct.Struct("<iiii")
_REPLY = struct.Struct("<iqii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_WIRE_VERSION = 9  # MongoDB 4.4
_BATCH = 3  # documents of a cursor's batch, whatever is asked for


@dataclass(frozen=True)
class Refuse:
    code: int
    message: str = "as the test wants"
    labels: tuple[str, ...] = ()

    def document(self) -> _Doc:
        labels = {"errorLabels": list(self.labels)} if self.labels else {}
        return {"ok": 0.0, "code": self.code, "errmsg": self.message, **labels}


class FakeMongo:
    def __init__(self, members: int = 1) -> None:
        self.faults: dict[str, list[Refuse | str]] = defaultdict(list)
        self.seen: list[str] = []  # commands, in order, but for the drivers' own
        self.clients: list[_Doc] = []  # what clients say of themselves
        self.docs: dict[str, dict[Any, _Doc]] = defaultdict(dict)
        self.reached = threading.Event()  # by a command that met silence
        self._replica_set = members > 1
        self._members = members
        self._primary = 0
        self._ports: list[int] = []
        self._answered: dict[tuple[bytes, int], _Doc] = {}  # retryable writes
        self._cursors: dict[int, list[_Doc]] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def url(self, options: str = "", login: str = "") -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        name = "replicaSet=fake&" if self._replica_set else ""
        return f"mongodb://{login}{hosts}/db?{name}{options}".rstrip("?&")

    # ---- connections ----

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        servers = []
        for n in range(self._members):
            server = await asyncio.start_server(self._accept(n), "127.0.0.1", 0)
            self._ports.append(server.sockets[0].getsockname()[1])
            servers.append(server)
        self._ready.set()
        await self._ended.wait()
        for server in servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, member: int) -> Any:
        async def connected(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                with contextlib.suppress(
                    asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
                ):
                    while await self._one(member, reader, writer):
                        pass
            finally:
                self._tasks.discard(task)
                writer.close()

        return connected

    async def _one(
        self, member: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One message and its answer; False: the connection closes."""
        length, request, _, opcode = _HEADER.unpack(await reader.readexactly(16))
        body = await reader.readexactly(length - 16)
        command = _query(body) if opcode == _OP_QUERY else _message(body)
        name = next(iter(command))
        faults = self.faults[name]
        fault = faults.pop(0) if faults else None
        reply = self._do(member, name, command, fault)
        if fault in ("lost", "close"):
            return False
        await self._send(writer, _pack(request, opcode, reply), fault)
        return True

    async def _send(
        self, writer: asyncio.StreamWriter, data: bytes, fault: Refuse | str | None
    ) -> None:
        if fault in ("mute", "half"):
            if fault == "half":
                writer.write(data[: len(data) // 2])
                await writer.drain()
            self.reached.set()
            await self._ended.wait()
        elif fault == "dribble":
            for n in range(len(data)):
                writer.write(data[n : n + 1])
                await writer.drain()
                await asyncio.sleep(0)
        elif fault == "garbage":
            writer.write(data[:25] + b"\xff" * (len(data) - 26) + b"\0")
        else:
            writer.write(data)
        await writer.drain()

    # ---- commands ----

    def _do(
        self, member: int, name: str, command: _Doc, fault: Refuse | str | None
    ) -> _Doc:
        if name.lower() in ("ismaster", "hello"):
            if "client" in command:
                self.clients.append(command["client"])
            return self._hello(member)
        self.seen.append(name)
        if isinstance(fault, Refuse):
            return fault.document()
        if fault == "step down":
            self._primary = (self._primary + 1) % self._members
        if member != self._primary:
            return Refuse(10107, "not primary", ("RetryableWriteError",)).document()
        if fault in ("close", "mute", "half"):
            return {"ok": 1.0, "filler": "x" * 100}
        return self._once(name, command)

    def _once(self, name: str, command: _Doc) -> _Doc:
        """A retryable write that comes again is answered as the first time."""
        if "txnNumber" not in command:
            return self._execute(name, command)
        key = (command["lsid"]["id"], command["txnNumber"])
        if key not in self._answered:
            self._answered[key] = self._execute(name, command)
        return self._answered[key]

    def _execute(self, name: str, command: _Doc) -> _Doc:
        method = getattr(self, f"_{name}", None)
        if method is None:
            return Refuse(59, f"no such command: '{name}'").document()
        return {**method(command), "ok": 1.0}

    def _hello(self, member: int) -> _Doc:
        hello: _Doc = {
            "ok": 1.0,
            "helloOk": True,
            "ismaster": member == self._primary,
            "isWritablePrimary": member == self._primary,
            "minWireVersion": 0,
            "maxWireVersion": _WIRE_VERSION,
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
        }
        if self._replica_set:
            hosts = [f"127.0.0.1:{port}" for port in self._ports]
            hello |= {
                "setName": "fake",
                "setVersion": 1,
                "hosts": hosts,
                "me": hosts[member],
                "primary": hosts[self._primary],
                "secondary": member != self._primary,
                "logicalSessionTimeoutMinutes": 30,
            }
        return hello

    def _ping(self, command: _Doc) -> _Doc:
        return {}

    def _endSessions(self, command: _Doc) -> _Doc:  # noqa: N802  (the command's name)
        return {}

    def _killCursors(self, command: _Doc) -> _Doc:  # noqa: N802
        for cursor in command["cursors"]:
            self._cursors.pop(cursor, None)
        return {"cursorsKilled": command["cursors"]}

    def _insert(self, command: _Doc) -> _Doc:
        docs, n = self.docs[command["insert"]], 0
        for index, doc in enumerate(command["documents"]):
            if doc["_id"] in docs:
                return {"n": n, "writeErrors": [_duplicate(index)]}
            docs[doc["_id"]] = doc
            n += 1
        return {"n": n}

    def _update(self, command: _Doc) -> _Doc:
        """{_id, "_lev.seq": {$lt: n}}, {$set: {…}}, upsert: a guest's write."""
        docs, update = self.docs[command["update"]], command["updates"][0]
        key, change = update["q"]["_id"], update["u"]["$set"]
        old = docs.get(key)
        if old is None:
            docs[key] = {"_id": key, **change}
            return {"n": 1, "nModified": 0, "upserted": [{"index": 0, "_id": key}]}
        if not old["_lev.seq"] < update["q"]["_lev.seq"]["$lt"]:
            return {"n": 0, "nModified": 0, "writeErrors": [_duplicate(0)]}
        old.update(change)
        return {"n": 1, "nModified": 1}

    def _find(self, command: _Doc) -> _Doc:
        query = command.get("filter", {})
        found = [
            doc
            for doc in self.docs[command["find"]].values()
            if all(doc.get(key) == value for key, value in query.items())
        ]
        return self._batch(1, found[: command.get("limit") or None], "firstBatch")

    def _getMore(self, command: _Doc) -> _Doc:  # noqa: N802
        number = command["getMore"]
        return self._batch(number, self._cursors.pop(number), "nextBatch")

    def _batch(self, number: int, docs: list[_Doc], name: str) -> _Doc:
        rest = docs[_BATCH:]
        if rest:
            number = max(self._cursors, default=number) + 1
            self._cursors[number] = rest
        cursor = {"id": bson.Int64(number if rest else 0), "ns": "db.c"}
        return {"cursor": {**cursor, name: docs[:_BATCH]}}

    def _aggregate(self, command: _Doc) -> _Doc:
        """A count."""
        n = len(self.docs[command["aggregate"]])
        return self._batch(1, [{"_id": 1, "n": n}] if n else [], "firstBatch")


def _duplicate(index: int) -> _Doc:
    return {"index": index, "code": 11000, "errmsg": "E11000 duplicate key error"}


def _query(body: bytes) -> _Doc:
    """OP_QUERY: flags, collection, skip, number, document."""
    return bson.decode(body[body.index(b"\0", 4) + 9 :])


def _message(body: bytes) -> _Doc:
    """OP_MSG: the command's document, and sequences of further ones."""
    command: _Doc = {}
    sequences: dict[str, list[_Doc]] = {}
    for kind, part in _sections(body):
        if kind == 0:
            command = bson.decode(part)
        else:
            name, _, docs = part[4:].partition(b"\0")
            sequences[name.decode()] = bson.decode_all(docs)
    return command | sequences  # the command's name stays the first key


def _sections(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 4
    while at < len(body):
        kind = body[at]
        length = int.from_bytes(body[at + 1 : at + 5], "little")
        yield kind, body[at + 1 : at + 1 + length]
        at += 1 + length


def _pack(request: int, opcode: int, reply: _Doc) -> bytes:
    document = bson.encode(reply)
    if opcode == _OP_QUERY:
        kind, body = _OP_REPLY, _REPLY.pack(8, 0, 0, 1) + document
    else:
        kind, body = _OP_MSG, bytes(5) + document
    return _HEADER.pack(16 + len(body), 1, request, kind) + body
