"""A container engine without containers, for faults and for numbers.

`FakeEngine` speaks as much of Docker's Engine API as a whole run needs, on a
unix socket, from one thread with an event loop of its own: a thousand pending
connections cost it no more than their buffers. What a container "does" is a
`Script`; what goes wrong is a `Fault` on a route; what was asked is recorded.

    with FakeEngine(path) as engine:
        engine.images.add("busybox:latest")
        engine.script = Script(stdout=b"hello", exit_code=3)
        engine.fault("POST /containers/*/start", status=500, message="no")
        ...
        assert engine.count("POST /containers/*/start") == 1
        assert not engine.containers
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import hashlib
import io
import itertools
import json
import os
import resource
import struct
import tarfile
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

Json = dict[str, Any]

NEVER = "0001-01-01T00:00:00Z"


@dataclass
class Script:
    """What a container does from its start on.

    It prints *stdout* and *stderr* and exits with *exit_code*; with *hold* it
    goes on until it is signalled, removed, or told to `Container.finish`.
    *signals* are exit codes for signals; 128 + n where it has none, and None
    for a signal that is ignored.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0
    hold: bool = False
    signals: dict[int, int | None] = field(default_factory=dict)
    oom_killed: bool = False


@dataclass
class Fault:
    """What happens instead of an answer; see `FakeEngine.fault`."""

    route: str
    status: int | None = None
    message: str = ""
    body: bytes | None = None
    stall: bool = False
    drop: bool = False
    garbage: bool = False
    after: float = 0.0
    times: int | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, request: Request) -> bool:
        return self.times != 0 and fnmatch.fnmatchcase(request.route, self.route)


@dataclass(frozen=True)
class Request:
    """One that was received; the path is without version and query."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def json(self) -> Json:
        value: Json = json.loads(self.body) if self.body else {}
        return value


class Refusal(Exception):
    """An answer with an error's status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def frame(stream: int, data: bytes) -> bytes:
    """Docker's multiplexed output: stream, length, data."""
    return struct.pack(">BxxxL", stream, len(data)) + data if data else b""


class Container:
    """Its members may be read from any thread, and `finish` called."""

    def __init__(self, engine: FakeEngine, name: str, config: Json) -> None:
        self.id = hashlib.sha256(f"{engine.serial()} {name}".encode()).hexdigest()
        self.name = name
        self.config = config
        self.script = engine.script_for(config)
        self.files: dict[str, bytes] = {}
        self.networks: dict[str, str] = {}
        self.started = self.finished = NEVER
        self.exit_code = 0
        self._engine = engine
        self._begun = asyncio.Event()  # started, or removed before
        self._exited = asyncio.Event()

    @property
    def running(self) -> bool:
        return self.started != NEVER and self.finished == NEVER

    @property
    def labels(self) -> dict[str, str]:
        return self.config.get("Labels") or {}

    def finish(self, exit_code: int = 0) -> None:
        """Ends a container that holds; from any thread."""
        self._engine.call(lambda: self.exit(exit_code))

    # The rest runs on the engine's thread.

    def start(self) -> None:
        self.started = now()
        self._begun.set()
        if not self.script.hold:
            self.exit(self.script.exit_code)

    def exit(self, exit_code: int) -> None:
        if self.finished == NEVER:
            self.exit_code = exit_code
            self.finished = now()
            self._exited.set()

    def remove(self) -> None:
        self.exit(137)
        self._begun.set()

    def signal(self, number: int) -> None:
        code = self.script.signals.get(number, 128 + number)
        if code is not None:
            self.exit(code)

    async def output(self) -> AsyncIterator[bytes]:
        """What an attached client gets: nothing before the start."""
        await self._begun.wait()
        if self.started != NEVER:
            yield frame(1, self.script.stdout) + frame(2, self.script.stderr)
        await self._exited.wait()

    async def wait(self) -> int:
        await self._exited.wait()
        return self.exit_code

    def inspect(self) -> Json:
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Image": self._engine.image_id(self.config["Image"]),
            "Config": self.config,
            "HostConfig": self.config.get("HostConfig") or {},
            "State": {
                "Running": self.running,
                "Paused": False,
                "OOMKilled": self.script.oom_killed and not self.running,
                "ExitCode": self.exit_code,
                "Pid": 4242 if self.running else 0,
                "Error": "",
                "StartedAt": self.started,
                "FinishedAt": self.finished,
            },
            "NetworkSettings": {
                "Networks": {
                    name: {
                        "NetworkID": name,
                        "IPAddress": address if self.running else "",
                    }
                    for name, address in self.networks.items()
                }
            },
        }


@dataclass
class Network:
    id: str
    name: str
    config: Json

    @property
    def subnet(self) -> str:
        ipam = (self.config.get("IPAM") or {}).get("Config") or [{}]
        subnet: str = ipam[0].get("Subnet", "172.30.0.0/16")
        return subnet

    def inspect(self) -> Json:
        return {
            "Id": self.id,
            "Name": self.name,
            "Driver": "bridge",
            "Labels": self.config.get("Labels") or {},
            "IPAM": {"Config": [{"Subnet": self.subnet}]},
        }


class Connection:
    """One client's, with the requests it sends one after another."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.open = True

    async def receive(self) -> Request | None:
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        url = urlsplit(target)
        path = url.path
        if path.startswith("/v1."):
            path = path[path.index("/", 1) :]
        return Request(
            method,
            unquote(path),
            dict(parse_qsl(url.query, keep_blank_values=True)),
            headers,
            await self._body(headers),
        )

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                parts.append(await self.reader.readexactly(size))
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return b"".join(parts)
        return await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} {'OK' if status < 300 else 'No'}"]
        lines += ["Api-Version: 1.41", "Server: FakeEngine", *headers]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def answer(
        self, status: int, value: object = None, *headers: str, empty: bool = False
    ) -> None:
        """A whole answer; bytes are sent as they are, the rest as JSON."""
        body = b"" if value is None else value
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if status == 204:
            await self.head(status, *headers)
            return
        length = f"Content-Length: {len(body)}"
        await self.head(status, "Content-Type: application/json", length, *headers)
        if not empty:
            await self.send(body)

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.open = False


class FakeEngine:
    """Serves on *socket_path* while it is entered.

    *images* are the references it has, *image_details* what is not as usual in
    their descriptions, *remote_images* what a pull finds,
    *script* or *script_for* say what containers do, *exec_script* what an exec
    does. *requests* are all that came, *errors* what went wrong in here: the
    exit of the context raises the first of them.
    """

    def __init__(self, socket_path: str | os.PathLike[str]) -> None:
        self.path = Path(socket_path)
        self.version = "20.10.24"
        self.api_version = "1.41"
        machine = os.uname().machine
        self.arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
        self.images: set[str] = set()
        self.image_details: dict[str, Json] = {}
        self.remote_images: set[str] = set()
        self.pull_messages: list[Json] = []
        self.script = Script()
        self.script_for: Callable[[Json], Script] = lambda config: self.script
        self.exec_script: Callable[[list[str]], Script] = lambda argv: Script()
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self.containers: dict[str, Container] = {}
        self.networks: dict[str, Network] = {}
        self.volumes: dict[str, Json] = {}
        self.most_connections = 0
        self._execs: dict[str, Script] = {}
        self._faults: list[Fault] = []
        self._serial = itertools.count(1)
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._change = asyncio.Event()
        self._serving: dict[Connection, Request] = {}
        self._thread = threading.Thread(target=self._main, name="fake-engine")
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def __enter__(self) -> Self:
        raise_file_limit()
        self._thread.start()
        self._ready.wait()
        if not self._thread.is_alive():
            raise self.errors[0]
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.call(self._stop.set)
        self._thread.join()
        if kind is None and self.errors:
            raise self.errors[0]

    def fault(
        self,
        route: str,
        *,
        status: int | None = None,
        message: str = "",
        body: bytes | None = None,
        stall: bool = False,
        drop: bool = False,
        garbage: bool = False,
        after: float = 0.0,
        times: int | None = None,
    ) -> None:
        """The next *times* requests for *route* ("POST /containers/*/start", a
        shell pattern without the version; None: all) get what is given:

        an answer with *status* and *message*, or with *body* as it is (200
        where no status is given); *stall*: none, until `release`; *drop*: half
        of one, then the end; *garbage*: what is no HTTP. After so many seconds,
        with *after*; alone, that makes the engine slow. What the request asks
        for is done only where nothing but *after* is given, or when it is
        released.
        """
        fault = Fault(route, status, message, body, stall, drop, garbage, after, times)
        self._faults.append(fault)

    def release(self, route: str) -> None:
        """Lets requests go on that stall by a fault of exactly this route."""
        for fault in self._faults:
            if fault.stall and fault.route == route:
                self.call(fault.released.set)

    def clear_faults(self) -> None:
        self._faults.clear()

    def count(self, route: str) -> int:
        """How many requests came for the route, a shell pattern."""
        return sum(fnmatch.fnmatchcase(r.route, route) for r in list(self.requests))

    def find(self, route: str) -> list[Request]:
        return [r for r in list(self.requests) if fnmatch.fnmatchcase(r.route, route)]

    def wait_for(self, condition: Callable[[], object], timeout: float = 10) -> None:
        """Until it is true; looked at after each request."""

        async def wait() -> None:
            while not condition():
                await self.changed()

        future = asyncio.run_coroutine_threadsafe(
            asyncio.wait_for(wait(), timeout), self._loop
        )
        future.result()

    def disconnect(self, route: str) -> None:
        """Cuts the connections whose last request was for the route."""

        def cut() -> None:
            for connection, request in list(self._serving.items()):
                if fnmatch.fnmatchcase(request.route, route):
                    connection.writer.transport.abort()

        self.call(cut)

    def call(self, function: Callable[[], object]) -> None:
        """Runs it on the engine's thread, and wakes who waits for a change."""

        def run() -> None:
            function()
            self._notify()

        self._loop.call_soon_threadsafe(run)

    # ---- the engine's thread ----

    def serial(self) -> int:
        return next(self._serial)

    async def changed(self) -> None:
        await self._change.wait()

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        return task

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as e:
            self.errors.append(e)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(
            self._connected, self.path, backlog=4096
        )
        self._ready.set()
        async with server:
            await self._stop.wait()
            for socket in server.sockets:  # no more connections
                self._loop.remove_reader(socket.fileno())
            # Before leaving, which waits for the connections: a client that is
            # still there keeps its own open. The loop's own tasks, too, which
            # make a connection of one that was just accepted.
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in self._connections:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await asyncio.sleep(0)  # its turn to close them
        self.path.unlink(missing_ok=True)

    def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = self._spawn(self._talk(Connection(reader, writer)))
        # Also where it is cancelled before it has begun.
        task.add_done_callback(lambda _: writer.close())
        self.most_connections = max(self.most_connections, len(self._connections))

    async def _talk(self, connection: Connection) -> None:
        try:
            while connection.open:
                request = await connection.receive()
                if request is None:
                    break
                self.requests.append(request)
                self._serving[connection] = request
                self._notify()
                await self._respond(connection, request)
                self._notify()
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception as e:
            self.errors.append(e)
        finally:
            self._serving.pop(connection, None)
            connection.writer.close()

    async def _respond(self, connection: Connection, request: Request) -> None:
        fault = next((f for f in self._faults if f.matches(request)), None)
        if fault is not None:
            if fault.times is not None:
                fault.times -= 1
            await asyncio.sleep(fault.after)
            if await self._fail(connection, fault):
                return
        try:
            await self._dispatch(connection, request)
        except Refusal as e:
            await connection.answer(
                e.status, {"message": str(e)}, empty=request.method == "HEAD"
            )

    async def _fail(self, connection: Connection, fault: Fault) -> bool:
        """False when the fault is no more than a delay."""
        if fault.stall:
            return await self._stall(connection, fault)
        if fault.drop:
            await connection.head(200, "Content-Length: 1000")
            await connection.send(b'{"half": ')
            connection.open = False
        elif fault.garbage:
            await connection.send(b"\x00\xffthis is no HTTP\r\n\r\n")
            connection.open = False
        elif fault.body is not None:
            await connection.answer(fault.status or 200, fault.body)
        elif fault.status is not None:
            await connection.answer(fault.status, {"message": fault.message})
        else:
            return False
        return True

    async def _stall(self, connection: Connection, fault: Fault) -> bool:
        """False when it is released, True when the client has gone before."""
        closed = self._loop.create_task(connection.until_closed())
        released = self._loop.create_task(fault.released.wait())
        try:
            await asyncio.wait({closed, released}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
            released.cancel()
            await asyncio.gather(closed, released, return_exceptions=True)
        return not fault.released.is_set()

    async def _dispatch(self, connection: Connection, request: Request) -> None:
        parts = PurePosixPath(request.path).parts[1:]
        if parts == ("_ping",):
            await connection.answer(200, b"OK", empty=request.method == "HEAD")
        elif parts == ("version",):
            await connection.answer(200, self._version())
        elif parts[:1] == ("images",):
            await self._images(connection, request, "/".join(parts[1:]))
        elif parts[:1] == ("containers",):
            await self._containers(connection, request, parts[1:])
        elif parts[:1] == ("exec",):
            await self._exec(connection, request, parts[1], parts[2])
        elif parts[:1] == ("networks",):
            await self._networks(connection, request, parts[1:])
        elif parts[:1] == ("volumes",):
            await self._volumes(connection, request, parts[1:])
        elif parts == ("commit",):
            await self._commit(connection, request)
        else:
            raise Refusal(404, "page not found")

    def _version(self) -> Json:
        return {
            "Components": [{"Name": "Engine", "Version": self.version}],
            "Version": self.version,
            "ApiVersion": self.api_version,
            "MinAPIVersion": "1.12",
            "Os": "linux",
            "Arch": self.arch,
        }

    # ---- images ----

    def image_id(self, name: str) -> str:
        if name.startswith("sha256:"):
            return name
        usual = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
        id_: str = self.image_details.get(name, {}).get("Id", usual)
        return id_

    def _check_image(self, name: str) -> None:
        if name not in self.images:
            raise Refusal(404, f"No such image: {name}")

    async def _images(
        self, connection: Connection, request: Request, rest: str
    ) -> None:
        if request.method == "POST" and rest == "create":
            await self._pull(connection, request)
        elif request.method == "POST" and rest == "load":
            with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
                manifest = tar.extractfile("manifest.json")
                assert manifest is not None
                for image in json.load(manifest):
                    self.images.update(image["RepoTags"])
            await connection.answer(200, {"stream": "Loaded"})
        elif request.method == "GET" and rest == "json":
            await connection.answer(200, [])  # none of them has a label
        elif request.method == "GET" and rest.endswith("/json"):
            name = rest.removesuffix("/json")
            self._check_image(name)
            await connection.answer(200, self._image(name))
        elif request.method == "DELETE":
            self._check_image(rest)
            self.images.discard(rest)
            await connection.answer(200, [{"Untagged": rest}])
        else:
            raise Refusal(404, "page not found")

    def _image(self, name: str) -> Json:
        details = self.image_details.get(name, {})
        return {
            "Id": self.image_id(name),
            "RepoTags": [name],
            "RepoDigests": details.get("RepoDigests", []),
            "Architecture": details.get("Architecture", self.arch),
            "Os": "linux",
            "Config": {
                "User": "",
                "WorkingDir": "",
                "Entrypoint": None,
                "Cmd": ["sh"],
                "Env": ["PATH=/usr/bin:/bin"],
                "Labels": None,
                **details.get("Config", {}),
            },
        }

    async def _pull(self, connection: Connection, request: Request) -> None:
        name = request.query["fromImage"].removeprefix("docker.io/")
        name = f"{name.removeprefix('library/')}:{request.query['tag']}"
        if name not in self.remote_images:
            raise Refusal(404, f"manifest for {name} not found: manifest unknown")
        await connection.head(200, "Transfer-Encoding: chunked")
        for message in self.pull_messages or [{"status": "Pulling"}]:
            await connection.chunk(json.dumps(message).encode() + b"\r\n")
        await connection.send(b"0\r\n\r\n")
        self.images.add(name)

    async def _commit(self, connection: Connection, request: Request) -> None:
        container = self._container(request.query["container"])
        image = self.image_id(f"{container.id} {self.serial()}")
        self.images.add(image)
        await connection.answer(201, {"Id": image})

    # ---- containers ----

    def _container(self, name: str) -> Container:
        for container in self.containers.values():
            if name in (container.name, container.id):
                return container
        raise Refusal(404, f"No such container: {name}")

    async def _containers(
        self, connection: Connection, request: Request, parts: tuple[str, ...]
    ) -> None:
        if parts == ("create",):
            await self._create(connection, request)
            return
        if parts == ("json",):
            await self._list(connection, request)
            return
        container = self._container(parts[0])
        if request.method == "DELETE":
            del self.containers[container.id]
            container.remove()
            await connection.answer(204)
            return
        action = getattr(self, f"_container_{parts[1]}", None)
        if action is None:
            raise Refusal(404, "page not found")
        await action(connection, request, container)

    async def _create(self, connection: Connection, request: Request) -> None:
        config = request.json
        name = request.query.get("name", "")
        for mount in (config.get("HostConfig") or {}).get("Mounts") or []:
            check_mount(mount)
        self._check_image(config["Image"])
        if any(c.name == name for c in self.containers.values()):
            raise Refusal(
                409, f'Conflict. The container name "/{name}" is already in use'
            )
        container = Container(self, name, config)
        joins = (config.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        for network in joins:
            self._join(container, network)
        self.containers[container.id] = container
        await connection.answer(201, {"Id": container.id, "Warnings": []})

    async def _list(self, connection: Connection, request: Request) -> None:
        listed = [
            {"Id": c.id, "Names": [f"/{c.name}"], "Labels": c.labels}
            for c in self.containers.values()
            if has_labels(c.labels, request)
        ]
        await connection.answer(200, listed)

    async def _container_json(
        self, connection: Connection, request: Request, container: Container
    ) -> None:
        await connection.answer(200, container.inspect())

    async def _container_start(
        self, connection: Connection, request: Request, container: Container
    ) -> None:
        if container.running:
            await connection.answer(304)
            return
        container.start()
        await connection.answer(204)

    async def _container_kill(
        self, connection: Connection, request: Request, container: Container
    ) -> None:
        if not container.running:
            raise Refusal(
                409,
                f"Cannot kill container: {container.id}: "
                f"Container {container.id} is not running",
            )
        container.signal(int(request.query["signal"]))
        await connection.answer(204)

    async def _container_attach(
        self, connection: Connection, request: Request, container: Container
    ) -> None:
        connection.open = False
        await connection.head(200, "Content-Type: application/vnd.docker.raw-stream")
        async for data in container.output():
            await connection.send(data)

    async def _container_wait(
        self, connection: Connection, request: Request, container: Container
    ) -> None:
        await connection.head(
            200, "Content-Type: application/json", "Transfer-Encoding: chunked"
        )
        code = await container.wait()
        await connection.chunk(json.dumps({"Error": None, "StatusCode": code}).encode())
        await connection.send(b"0\r\n\r\n")

    async def _container_archive(
        self, connection: Connection, request: Request, container: Container
    ) -> None:
        path = request.query["path"]
        if request.method == "PUT":
            with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
                for member in tar:
                    source = tar.extractfile(member) if member.isfile() else None
                    content = source.read() if source is not None else b""
                    container.files["/" + member.name.strip("/")] = content
            await connection.answer(200)
            return
        if path not in container.files:
            raise Refusal(404, f"Could not find the file {path}")
        content = container.files[path]
        stat = {
            "name": PurePosixPath(path).name,
            "size": len(content),
            "mode": 0o644,
            "mtime": now(),
            "linkTarget": "",
        }
        await connection.answer(
            200,
            archive(PurePosixPath(path).name, content),
            "X-Docker-Container-Path-Stat: "
            + b64encode(json.dumps(stat).encode()).decode(),
            empty=request.method == "HEAD",
        )

    # ---- exec ----

    async def _container_exec(
        self, connection: Connection, request: Request, container: Container
    ) -> None:
        if not container.running:
            raise Refusal(409, f"Container {container.id} is not running")
        exec_id = hashlib.sha256(f"exec {self.serial()}".encode()).hexdigest()
        self._execs[exec_id] = self.exec_script(request.json["Cmd"])
        await connection.answer(201, {"Id": exec_id})

    async def _exec(
        self, connection: Connection, request: Request, exec_id: str, action: str
    ) -> None:
        script = self._execs.get(exec_id)
        if script is None:
            raise Refusal(404, f"No such exec instance: {exec_id}")
        if action == "json":
            await connection.answer(
                200, {"Running": False, "ExitCode": script.exit_code}
            )
            return
        connection.open = False
        if "upgrade" in request.headers:
            await connection.head(101, "Connection: Upgrade", "Upgrade: tcp")
        else:
            await connection.head(200)
        await connection.send(frame(1, script.stdout) + frame(2, script.stderr))
        if script.hold:
            await connection.until_closed()

    # ---- networks and volumes ----

    def _network(self, name: str) -> Network:
        for network in self.networks.values():
            if name in (network.name, network.id):
                return network
        raise Refusal(404, f"network {name} not found")

    def _join(self, container: Container, name: str) -> None:
        network = self._network(name)
        prefix = network.subnet.split("/")[0].rpartition(".")[0]
        container.networks[network.id] = f"{prefix}.{2 + self.serial() % 250}"

    async def _networks(
        self, connection: Connection, request: Request, parts: tuple[str, ...]
    ) -> None:
        if parts == ("create",):
            config = request.json
            network_id = hashlib.sha256(str(self.serial()).encode()).hexdigest()
            network = Network(network_id, config["Name"], config)
            subnets = [n.subnet for n in self.networks.values()]
            if "IPAM" in config and network.subnet in subnets:
                raise Refusal(403, "Pool overlaps with other one on this address space")
            self.networks[network.id] = network
            await connection.answer(201, {"Id": network.id, "Warning": ""})
        elif not parts:
            found = [n.inspect() for n in self.networks.values()]
            await connection.answer(
                200, [n for n in found if has_labels(n["Labels"], request)]
            )
        elif parts[1:] == ("connect",):
            body = request.json
            self._join(self._container(body["Container"]), parts[0])
            await connection.answer(200)
        elif request.method == "DELETE":
            network = self._network(parts[0])
            if any(network.id in c.networks for c in self.containers.values()):
                raise Refusal(
                    403,
                    f"error while removing network: network {network.name} "
                    f"id {network.id} has active endpoints",
                )
            del self.networks[network.id]
            await connection.answer(204)
        else:
            await connection.answer(200, self._network(parts[0]).inspect())

    async def _volumes(
        self, connection: Connection, request: Request, parts: tuple[str, ...]
    ) -> None:
        if parts == ("create",):
            config = request.json
            self.volumes[config["Name"]] = config
            await connection.answer(201, config)
        elif parts and parts[0] in self.volumes and request.method == "DELETE":
            del self.volumes[parts[0]]
            await connection.answer(204)
        elif parts and parts[0] in self.volumes:
            await connection.answer(200, self.volumes[parts[0]])
        else:
            raise Refusal(404, "no such volume")


def check_mount(mount: Json) -> None:
    """As the daemon does, before it looks for the image."""
    kind, source = mount.get("Type"), mount.get("Source")
    if kind not in ("bind", "volume", "tmpfs"):
        raise Refusal(
            400, f'invalid mount config for type "{kind}": mount type unknown'
        )
    if kind == "bind" and not os.path.exists(source or ""):
        raise Refusal(
            400,
            'invalid mount config for type "bind": '
            f"bind source path does not exist: {source}",
        )


def has_labels(labels: dict[str, str], request: Request) -> bool:
    wanted = json.loads(request.query.get("filters", "{}")).get("label", [])
    have = [f"{key}={value}" for key, value in labels.items()]
    return all(w in have or w in labels for w in wanted)


def archive(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def raise_file_limit() -> None:
    """A thousand connections have two ends in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
