"""The engines that the integration tests run on, behind one interface.

A test asks an `Engine` what is there; it never learns which one it is. To add
one: a class, and a line in `ENGINES`.
"""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gate

SESSION = "zone.lev.session"


class Engine(Protocol):
    """What a test may ask for besides levrt itself."""

    name: str
    url: str

    def containers(self, session: str | None = None) -> list[str]:
        """Names of levrt's containers, running or not; of one session or all."""

    def labels(self, container: str) -> dict[str, str]: ...
    def networks(self, session: str | None = None) -> list[str]: ...
    def miscounted(self, network: str) -> bool:
        """Whether it refuses to remove the network, though nobody is on it."""

    def volumes(self) -> list[str]: ...
    def remove_volume(self, name: str) -> None: ...
    def images(self) -> list[str]:
        """Ids of images that runs have made (and not: the tests' images)."""

    def state(self, tags: list[str]) -> list[str]:
        """What else it has on disk of the sessions whose helpers had the tags."""

    def load(self, name: str, root: bytes, config: Mapping[str, Any]) -> None:
        """Makes the image `name` of a tar archive of its root."""

    def has_image(self, name: str) -> bool: ...
    def image_id(self, name: str) -> str: ...
    def push(self, name: str, target: str, user: str = "", password: str = "") -> str:
        """Pushes the image to a registry as `target`; name@digest there."""

    def untag(self, name: str) -> None: ...
    def occupy(self, name: str, image: str) -> Callable[[], None]:
        """A container of somebody else's with that name; what removes it."""

    def gate(self, directory: str) -> "Gate":
        """The same engine, by a way that can be held up."""

    def spare(self, directory: Path) -> "contextlib.AbstractContextManager[Spare]":
        """Another one of its kind, which can be stopped."""


class Spare(Protocol):
    engine: Engine

    def freeze(self) -> None:
        """It answers nothing any more, and does nothing."""

    def thaw(self) -> None: ...


class Gate(Protocol):
    url: str

    def hold(self, phase: str, *, answer: bool = False) -> "Hold":
        """Stops the next run when it begins the phase (create, put, attach, start,
        exec, inspect, remove, commit, network), or when the engine's part is done."""

    def forget(self) -> None:
        """Holds nothing any more."""

    def cut(self) -> None:
        """Breaks every connection there is now; new ones are fine."""

    def close(self) -> None: ...


class Hold(Protocol):
    reached: threading.Event

    def release(self) -> None: ...
    def refuse(self, status: int, message: str) -> None:
        """The engine refuses the phase, once."""

    def hang_up(self) -> None:
        """The engine is lost when the phase begins, once."""


class ApiError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DockerEngine:
    """By the Engine API, without levrt."""

    name = "docker"

    def __init__(self, url: str) -> None:
        self.url = url

    def containers(self, session: str | None = None) -> list[str]:
        filters = _filter(session)
        rows = self._json("GET", "/containers/json", all="1", filters=filters)
        return sorted(row["Names"][0].removeprefix("/") for row in rows)

    def labels(self, container: str) -> dict[str, str]:
        inspected = self._json("GET", f"/containers/{container}/json")
        return dict(inspected["Config"]["Labels"])

    def networks(self, session: str | None = None) -> list[str]:
        rows = self._json("GET", "/networks", filters=_filter(session))
        return sorted(row["Name"] for row in rows)

    def miscounted(self, network: str) -> bool:
        if self._json("GET", f"/networks/{network}")["Containers"]:
            return False
        try:
            self._call("DELETE", f"/networks/{network}")
        except ApiError as e:
            return e.status == 403 and "has active endpoints" in str(e)
        return False

    def volumes(self) -> list[str]:
        rows = self._json("GET", "/volumes")["Volumes"] or []
        return sorted(row["Name"] for row in rows)

    def remove_volume(self, name: str) -> None:
        self._call("DELETE", f"/volumes/{name}")

    def images(self) -> list[str]:
        rows = self._json("GET", "/images/json", filters=_filter(None))
        return sorted(row["Id"] for row in rows)

    def state(self, tags: list[str]) -> list[str]:
        return []  # the daemon's

    def load(self, name: str, root: bytes, config: Mapping[str, Any]) -> None:
        # Not /images/create: only an archive of `docker save` may name another
        # architecture.
        self._call("POST", "/images/load", _saved(name, root, config), quiet="1")
        if not self.has_image(name):
            raise RuntimeError(f"{name} was not loaded")

    def has_image(self, name: str) -> bool:
        try:
            self.image_id(name)
        except ApiError as e:
            if e.status != 404:
                raise
            return False
        return True

    def image_id(self, name: str) -> str:
        found: str = self._json("GET", f"/images/{name}/json")["Id"]
        return found

    def push(self, name: str, target: str, user: str = "", password: str = "") -> str:
        repo, _, tag = target.rpartition(":")
        self._call("POST", f"/images/{name}/tag", repo=repo, tag=tag)
        login = json.dumps({"username": user, "password": password}).encode()
        auth = {"X-Registry-Auth": base64.urlsafe_b64encode(login).decode()}
        lines = self._call("POST", f"/images/{repo}/push", headers=auth, tag=tag)
        last = [json.loads(line) for line in lines.splitlines()]
        errors = [line["error"] for line in last if "error" in line]
        if errors:
            raise RuntimeError(f"push {target}: {errors}")
        digests = [line["aux"]["Digest"] for line in last if "aux" in line]
        return f"{repo}@{digests[0]}"

    def untag(self, name: str) -> None:
        try:
            self._call("DELETE", f"/images/{name}")
        except ApiError as e:
            if e.status != 404:
                raise

    def occupy(self, name: str, image: str) -> Callable[[], None]:
        body = json.dumps({"Image": image, "Cmd": ["true"]}).encode()
        made = self._json("POST", "/containers/create", body, name=name)
        return lambda: self._remove(made["Id"])

    def gate(self, directory: str) -> Gate:
        return _DockerGate(directory, urllib.parse.urlsplit(self.url).path)

    @contextlib.contextmanager
    def spare(self, directory: Path) -> Iterator[Spare]:
        # Two in one network namespace are in each other's way.
        with tempfile.TemporaryDirectory(prefix="spare-", dir="/tmp") as short:
            socket_path = f"{short}/docker.sock"
            command = f"ip link set lo up; exec dockerd -H unix://{socket_path}"
            command += f" --data-root {directory}/data --exec-root {short}/exec"
            command += f" --pidfile {short}/pid --log-level warn"
            with open(directory / "log", "w") as log:
                daemon = subprocess.Popen(
                    ["unshare", "--net", "sh", "-c", command], stdout=log, stderr=log
                )
            try:
                spare = _SpareDocker(DockerEngine(f"unix://{socket_path}"), daemon)
                spare.wait_until_up()
                yield spare
            finally:
                daemon.send_signal(signal.SIGCONT)
                daemon.terminate()
                daemon.wait(60)
                mounts = Path("/proc/self/mounts").read_text().splitlines()
                for target in sorted((m.split()[1] for m in mounts), reverse=True):
                    if target.startswith((f"{directory}/", f"{short}/")):
                        subprocess.run(["umount", "-l", target], check=False)

    def running(self, name: str) -> bool:
        state = self._json("GET", f"/containers/{name}/json")["State"]
        return bool(state["Running"])

    def remove_container(self, name: str) -> None:
        self._remove(name)

    def remove_network(self, name: str) -> None:
        self._call("DELETE", f"/networks/{name}")

    def _remove(self, container: str) -> None:
        self._call("DELETE", f"/containers/{container}", force="1")

    def _json(self, method: str, path: str, body: bytes | None = None, **q: str) -> Any:
        return json.loads(self._call(method, path, body, **q))

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> bytes:
        kind = "application/json" if body and body[:1] == b"{" else "application/x-tar"
        connection = self._connection()
        try:
            connection.request(
                method,
                f"{path}?{urllib.parse.urlencode(query)}",
                body,
                {"Content-Type": kind, **(headers or {})},
            )
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, text.decode())
        return text

    def _connection(self) -> http.client.HTTPConnection:
        url = urllib.parse.urlsplit(self.url)
        if url.scheme == "unix":
            return _UnixConnection(url.path)
        assert url.hostname is not None
        return http.client.HTTPConnection(url.hostname, url.port, timeout=120)


class _SpareDocker:
    def __init__(self, engine: DockerEngine, daemon: "subprocess.Popen[bytes]") -> None:
        self.engine: Engine = engine
        self._docker = engine
        self._daemon = daemon

    def wait_until_up(self) -> None:
        for _ in range(600):
            with contextlib.suppress(OSError, http.client.HTTPException, ApiError):
                self._docker.volumes()
                return
            assert self._daemon.poll() is None, "dockerd does not start"
            threading.Event().wait(0.1)
        raise TimeoutError("dockerd does not answer")

    def freeze(self) -> None:
        self._daemon.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._daemon.send_signal(signal.SIGCONT)


class _DockerGate:
    _REQUESTS: ClassVar = {
        "create": "POST .*/containers/create",
        "put": "PUT .*/containers/[^/]*/archive",
        "attach": "POST .*/containers/[^/]*/attach",
        "start": "POST .*/containers/[^/]*/start",
        "exec": "POST .*/exec/[^/]*/start",
        "inspect": "GET .*/containers/[^/]*/json",
        "remove": "DELETE .*/containers/",
        "commit": "POST .*/commit",
        "network": "POST .*/networks/create",
    }

    def __init__(self, directory: str, target: str) -> None:
        path = f"{directory}/gate.sock"
        self._gate = gate.Gate(path, target)
        self.url = f"unix://{path}"

    def hold(self, phase: str, *, answer: bool = False) -> Hold:
        return self._gate.hold(self._REQUESTS[phase], answer=answer)

    def forget(self) -> None:
        self._gate.forget()

    def cut(self) -> None:
        self._gate.cut()

    def close(self) -> None:
        self._gate.close()


class OciEngine:
    """By what lies in the store's directory, and the tool of the C tests."""

    name = "oci"

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = Path(url.removeprefix("oci:"))
        self._loaded: dict[str, tuple[bytes, Mapping[str, Any]]] = {}

    def containers(self, session: str | None = None) -> list[str]:
        return self._notes("names/*/meta.json", session)

    def labels(self, container: str) -> dict[str, str]:
        note = self._store / "names" / container / "meta.json"
        return dict(json.loads(note.read_bytes())["labels"])

    def networks(self, session: str | None = None) -> list[str]:
        return self._notes("sessions/*/networks/*", session)

    def miscounted(self, network: str) -> bool:
        return False

    def volumes(self) -> list[str]:
        return []

    def images(self) -> list[str]:
        found = []
        for row in json.loads(self._tool("list")):
            blob = self._store / "blobs/sha256" / row["Id"].removeprefix("sha256:")
            config = json.loads(blob.read_bytes()).get("config") or {}
            if SESSION in (config.get("Labels") or {}):
                found.append(row["Id"])
        return sorted(found)

    def state(self, tags: list[str]) -> list[str]:
        sessions = self._store / "sessions"
        found = [str(p) for tag in tags for p in sessions.glob(f"*{tag}")]
        links = [(p, os.readlink(p)) for p in self._store.glob("names/*")]
        found += [str(p) for p, to in links if any(f"/{t}/" in to for t in tags)]
        return found

    def load(self, name: str, root: bytes, config: Mapping[str, Any]) -> None:
        self._loaded[name] = root, config
        with tempfile.NamedTemporaryFile() as file:
            file.write(_saved(name, root, config))
            file.flush()
            self._tool("load", file.name)

    def has_image(self, name: str) -> bool:
        return self._run("get", name).returncode == 0

    def image_id(self, name: str) -> str:
        return self._tool("get", name).split()[0]

    def push(self, name: str, target: str, user: str = "", password: str = "") -> str:
        login = [f"--dest-creds={user}:{password}"] if user else []
        with tempfile.TemporaryDirectory() as directory:
            archive, digest = Path(directory, "image.tar"), Path(directory, "digest")
            archive.write_bytes(_saved(name, *self._loaded[name]))
            subprocess.run(
                [
                    *("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"),
                    *login,
                    f"--digestfile={digest}",
                    f"docker-archive:{archive}",
                    f"docker://{target}",
                ],
                check=True,
                capture_output=True,
            )
            self.load(target, *self._loaded[name])
            return f"{target.rpartition(':')[0]}@{digest.read_text().strip()}"

    def untag(self, name: str) -> None:
        if self.has_image(name):
            self._tool("rm", name)

    def occupy(self, name: str, image: str) -> Callable[[], None]:
        link = self._store / "names" / name
        link.symlink_to("../sessions/somebody/containers/else")
        return link.unlink

    def gate(self, directory: str) -> Gate:
        raise NotImplementedError("nothing between levrt and it can be held up")

    def spare(self, directory: Path) -> contextlib.AbstractContextManager[Spare]:
        raise NotImplementedError("there is no daemon to stop")

    def _notes(self, pattern: str, session: str | None) -> list[str]:
        found = []
        for path in self._store.glob(pattern):
            try:
                note = json.loads(path.read_bytes())
            except (FileNotFoundError, json.JSONDecodeError):
                continue  # removed meanwhile, or being written when it was killed
            label = note["labels"].get(SESSION)
            if label is not None and session in (None, label):
                found.append(note["name"])
        return sorted(found)

    def _run(self, *args: str) -> "subprocess.CompletedProcess[str]":
        tool = os.environ["LEVRT_TEST_IMAGETOOL"]
        command = [tool, str(self._store), *args]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _tool(self, *args: str) -> str:
        done = self._run(*args)
        if done.returncode != 0:
            raise RuntimeError(f"{args}: {done.stderr}")
        return done.stdout


def _filter(session: str | None) -> str:
    label = SESSION if session is None else f"{SESSION}={session}"
    return json.dumps({"label": [label]})


def _saved(name: str, root: bytes, config: Mapping[str, Any]) -> bytes:
    """An archive as `docker save` makes it, with one layer."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(root).hexdigest()],
        },
        **config,
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", root),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


#: Each by its name, which is its mark too, and the variable with its URL.
ENGINES: Mapping[str, tuple[type[Any], str]] = {
    "docker": (DockerEngine, "LEVRT_TEST_DOCKER"),
    "oci": (OciEngine, "LEVRT_TEST_OCI"),
}
#: The same by way of the network: nothing of this machine can be mounted.
REMOTE_ENGINES: Mapping[str, tuple[type[Any], str]] = {
    "docker": (DockerEngine, "LEVRT_TEST_DOCKER_TCP"),
}


def selected() -> str:
    """The engine that this run of the tests is for."""
    name = os.environ.get("LEVRT_TEST_ENGINE", "docker")
    if name not in ENGINES:
        raise RuntimeError(f"LEVRT_TEST_ENGINE: {name} is none of {', '.join(ENGINES)}")
    return name


def available(name: str) -> set[str]:
    """Which of the fixtures that not every engine can serve it does."""
    daemon = ENGINES[name][0] is DockerEngine
    gated = {"gate", "frozen", "daemon"} if daemon else {"no_daemon"}
    return gated | ({"remote_engine"} if name in REMOTE_ENGINES else set())


def open_engine(known: Mapping[str, tuple[type[Any], str]], name: str) -> Engine:
    kind, variable = known[name]
    url = os.environ.get(variable)
    if not url:
        raise RuntimeError(f"{variable} is not set: tests/run starts an engine")
    engine: Engine = kind(url)
    return engine


def left_behind(engine: Engine, before: Iterable[str] = ()) -> list[str]:
    """What levrt has there that should not be; `before`: volumes of before.

    A network that the engine itself cannot remove any more, until it is
    restarted, is not held against levrt.
    """
    volumes = {v for v in engine.volumes() if not v.startswith("levrt-runtime-")}
    return [
        *engine.containers(),
        *(name for name in engine.networks() if not engine.miscounted(name)),
        *engine.images(),
        *sorted(volumes - set(before)),
    ]
