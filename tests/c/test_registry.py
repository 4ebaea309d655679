"""Pulls from a registry that misbehaves, by `imagetool` (IMAGETOOL names it).

Run by ctest. The registry is a server on loopback; each test says what it does
instead of what it should. Needs root: layers have owners.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_of(name: str, size: int) -> bytes:
    """A root file system with one file that does not compress."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        data = b"".join(
            hashlib.sha256(f"{name}{i}".encode()).digest() for i in range(size // 32)
        )
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: "Registry"

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # the client left early
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Registry:
    """Documents and blobs by path, and what to do instead, by path."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[str, bytes]] = {}
        self.instead: dict[str, Callable[[Handler], None]] = {}
        self.before: Callable[[Handler], bool] | None = None
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.over = threading.Event()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.registry = self
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def count(self, path: str) -> int:
        return sum(1 for _, p, _ in self.asked if p == path)

    def add_blob(self, data: bytes, name: str = "name") -> str:
        self.answers[f"/v2/{name}/blobs/{digest(data)}"] = ("application/x", data)
        return digest(data)

    def add_manifest(self, value: object, kind: str, tag: str, name: str) -> str:
        data = json.dumps(value).encode()
        for which in (tag, digest(data)):
            self.answers[f"/v2/{name}/manifests/{which}"] = (kind, data)
        return digest(data)

    def add_image(
        self,
        layers: list[bytes],
        tag: str = "1",
        *,
        name: str = "name",
        arch: str = "amd64",
        diff_ids: list[str] | None = None,
    ) -> str:
        config = json.dumps(
            {
                "architecture": arch,
                "os": "linux",
                "rootfs": {
                    "type": "layers",
                    "diff_ids": diff_ids or [digest(layer) for layer in layers],
                },
            }
        ).encode()
        packed = [gzip.compress(layer, 1, mtime=0) for layer in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": CONFIG,
                "size": len(config),
                "digest": self.add_blob(config, name),
            },
            "layers": [
                {"mediaType": LAYER, "size": len(p), "digest": self.add_blob(p, name)}
                for p in packed
            ],
        }
        return self.add_manifest(manifest, MANIFEST, tag, name)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> Registry:
        assert isinstance(self.server, Server)
        return self.server.registry

    def do_GET(self) -> None:
        registry = self.registry
        path = self.path.partition("?")[0]
        registry.asked.append((self.command, path, dict(self.headers)))
        if registry.before is not None and registry.before(self):
            return
        if path in registry.instead:
            registry.instead[path](self)
        elif path in registry.answers:
            self.send(*registry.answers[path])
        else:
            code = "MANIFEST_UNKNOWN" if "manifests" in path else "UNKNOWN"
            self.refuse(404, code, "there is no such thing")

    do_POST = do_GET

    def send(self, kind: str, data: bytes, status: int = 200, **headers: str) -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        if status == 200 and wanted.startswith("bytes="):
            start = int(wanted[6:].rstrip("-"))
            status = 206
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) - start))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data[start:])

    def refuse(self, status: int, code: str, text: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": text}]}).encode()
        self.send("application/json", body, status, **headers)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Pulls(unittest.TestCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.addCleanup(self.registry.close)
        self.dir = tempfile.TemporaryDirectory(prefix="lev-registry-")
        self.addCleanup(self.dir.cleanup)
        self.store = self.dir.name + "/store"
        self.layers = [layer_of("a", 300_000), layer_of("b", 3_000)]

    def tool(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [os.environ["IMAGETOOL"], self.store, *args],
            env={**os.environ, "DOCKER_CONFIG": self.dir.name, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def image(self) -> str:
        return self.registry.host + "/name:1"

    def blob(self, i: int = 0) -> str:
        packed = gzip.compress(self.layers[i], 1, mtime=0)
        return f"/v2/name/blobs/{digest(packed)}"

    def pulls(self, *args: str, **env: str) -> str:
        done = self.tool("pull", *(args or (self.image,)), **env)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def fails(self, code: str, *words: str, args: tuple[str, ...] = ()) -> str:
        done = self.tool("pull", *(args or (self.image,)))
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr, rf"^{code} ")
        for word in words:
            self.assertIn(word, done.stderr)
        store = Path(self.store)
        self.assertEqual(list(store.joinpath("tmp").iterdir()), [])
        self.assertEqual(list(store.joinpath("locks").iterdir()), [])
        self.assertEqual(self.tool("get", self.image).returncode, 1)
        return done.stderr

    def log_in(self, **entry: str) -> None:
        if "user" in entry:
            pair = f"{entry.pop('user')}:{entry.pop('password')}"
            entry["auth"] = base64.b64encode(pair.encode()).decode()
        config = {"auths": {self.registry.host: entry}}
        Path(self.dir.name, "config.json").write_text(json.dumps(config))

    # --- what works -------------------------------------------------------

    def test_image(self) -> None:
        wanted = self.registry.add_image(self.layers)
        self.pulls()
        lines = self.tool("get", self.image).stdout.split("\n")
        self.assertEqual(lines[0].split()[1:], [wanted, "x86_64"])
        self.assertTrue(Path(lines[1], "a").is_file())
        self.assertTrue(Path(lines[2], "b").is_file())
        name = f"{self.registry.host}/name@{wanted}"
        self.assertEqual(self.tool("get", name).returncode, 0)

    def test_digest(self) -> None:
        wanted = self.registry.add_image(self.layers, "other")
        name = f"{self.registry.host}/name@{wanted}"
        self.pulls(name)
        self.assertEqual(self.tool("get", name).returncode, 0)
        self.assertEqual(self.tool("rm", name).returncode, 0)
        self.assertEqual(list(Path(self.store, "layers").iterdir()), [])

    def test_index(self) -> None:
        here = self.registry.add_image(self.layers, "here")
        other = self.registry.add_image(self.layers[:1], "arm", arch="arm64")
        entries = [
            {"digest": d, "size": 1, "platform": {"os": "linux", "architecture": a}}
            for d, a in ((other, "arm64"), (here, "amd64"))
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        self.registry.add_manifest(index, INDEX, "1", "name")
        self.pulls(LEV_ARCH="x86_64")
        self.assertIn("x86_64", self.tool("get", self.image).stdout)
        done = self.tool("pull", self.image, LEV_ARCH="riscv64")
        self.assertIn(
            "no version for linux/riscv64; it has: linux/arm64, linux/amd64",
            done.stderr,
        )
        self.assertTrue(done.stderr.startswith("IMAGE "))

    def test_layers_once(self) -> None:
        shared = self.layers[0]
        for i in range(10):
            own = layer_of(f"own{i}", 1000)
            self.registry.add_image([shared, own, shared], str(i))
            self.pulls(f"{self.registry.host}/name:{i}")
        self.assertEqual(self.registry.count(self.blob()), 1)

    def test_processes(self) -> None:
        self.registry.add_image(self.layers)
        command = [os.environ["IMAGETOOL"], self.store, "pull", self.image]
        running = [subprocess.Popen(command, stdout=-3) for _ in range(8)]
        self.assertEqual([p.wait(60) for p in running], [0] * 8)
        self.assertEqual(self.registry.count(self.blob(0)), 1)
        self.assertEqual(self.registry.count(self.blob(1)), 1)

    def test_mirror(self) -> None:
        self.registry.add_image(self.layers, "1", name="library/busybox")
        self.pulls("busybox:1", LEV_MIRROR=f"http://{self.registry.host}/")
        self.assertEqual(self.tool("get", "busybox:1").returncode, 0)

    # --- who asks ---------------------------------------------------------

    def protect(self, challenge: str, valid: str) -> None:
        def before(h: Handler) -> bool:
            if h.path.startswith("/token") or h.path == "/v2/":
                return False
            if h.headers.get("Authorization") == valid:
                return False
            h.refuse(401, "UNAUTHORIZED", "log in", WWW_Authenticate=challenge)
            return True

        self.registry.add_image(self.layers)
        self.registry.before = before

    def bearer(self) -> str:
        realm = f"http://{self.registry.host}/token"
        return f'Bearer realm="{realm}",service="it",scope="repository:name:pull"'

    def test_anonymous_token(self) -> None:
        self.protect(self.bearer(), "Bearer t0k")
        self.registry.answers["/token"] = ("application/json", b'{"token": "t0k"}')
        self.pulls()
        self.assertEqual(self.registry.count("/token"), 1)

    def test_token_with_credentials(self) -> None:
        def token(h: Handler) -> None:
            self.assertIn("service=it&scope=repository%3Aname%3Apull", h.path)
            wanted = "Basic " + base64.b64encode(b"me:pw").decode()
            if h.headers.get("Authorization") == wanted:
                h.send("application/json", b'{"access_token": "t0k"}')
            else:
                h.refuse(401, "UNAUTHORIZED", "wrong password")

        self.protect(self.bearer(), "Bearer t0k")
        self.registry.instead["/token"] = token
        self.fails("PULL 401", "wrong password", "docker login")
        self.log_in(user="me", password="pw")
        self.pulls()

    def test_identity_token(self) -> None:
        def token(h: Handler) -> None:
            body = h.rfile.read(int(h.headers["Content-Length"])).decode()
            self.assertIn("grant_type=refresh_token", body)
            self.assertIn("refresh_token=secret%2F1", body)
            h.send("application/json", b'{"access_token": "t0k"}')

        self.protect(self.bearer(), "Bearer t0k")
        self.registry.instead["/token"] = token
        self.log_in(identitytoken="secret/1", auth="")
        self.pulls()

    def test_basic(self) -> None:
        valid = "Basic " + base64.b64encode(b"me:pw").decode()
        self.protect('Basic realm="it"', valid)
        self.fails("PULL 401", "no credentials are kept")
        self.log_in(user="me", password="no")
        self.fails("PULL 401", "answered 401: log in (UNAUTHORIZED)")
        self.log_in(user="me", password="pw")
        self.pulls()

    def test_unknown_scheme(self) -> None:
        self.protect("Negotiate", "x")
        self.fails("PULL 401", "neither Basic nor Bearer")

    def test_token_rubbish(self) -> None:
        self.protect(self.bearer(), "Bearer t0k")
        for answer in (b"", b"<html>", b'{"token": 5}', b'{"token": "a\\r\\nb"}'):
            self.registry.answers["/token"] = ("text/html", answer)
            self.fails("PULL 0")

    # --- what a registry says ------------------------------------------------

    def test_refusals(self) -> None:
        self.fails("IMAGE_NOT_FOUND 404", "there is no such thing (MANIFEST_UNKNOWN)")
        self.registry.add_image(self.layers)
        path = "/v2/name/manifests/1"
        self.registry.instead[path] = lambda h: h.refuse(403, "DENIED", "not you")
        self.fails("PULL 403", "not you (DENIED)", "docker login")

    def test_too_many(self) -> None:
        path = "/v2/name/manifests/1"

        def busy(h: Handler) -> None:
            if self.registry.count(path) < 3:
                h.refuse(429, "TOOMANYREQUESTS", "slow down", Retry_After="0")
            else:
                h.send(*self.registry.answers[path])

        self.registry.add_image(self.layers)
        self.registry.instead[path] = busy
        self.pulls()

    def test_too_many_for_long(self) -> None:
        path = "/v2/name/manifests/1"
        self.registry.instead[path] = lambda h: h.refuse(
            429, "TOOMANYREQUESTS", "slow down", Retry_After="3600"
        )
        self.fails("PULL 429", "slow down (TOOMANYREQUESTS)", "mirror")
        self.assertEqual(self.registry.count(path), 1)

    def test_server_error(self) -> None:
        def broken(h: Handler) -> None:
            if self.registry.count(self.blob()) < 2:
                h.send("text/plain", b"oops", 502, Retry_After="0")
            else:
                h.send(*self.registry.answers[self.blob()])

        self.registry.add_image(self.layers)
        self.registry.instead[self.blob()] = broken
        self.pulls()

    # --- redirects ------------------------------------------------------------

    def redirect(self, to: str) -> None:
        self.registry.add_image(self.layers)
        self.registry.instead[self.blob()] = lambda h: h.send(
            "text/plain", b"there", 307, Location=to
        )

    def test_redirect_elsewhere(self) -> None:
        other = Registry()
        self.addCleanup(other.close)
        valid = "Basic " + base64.b64encode(b"me:pw").decode()
        self.protect('Basic realm="it"', valid)
        self.log_in(user="me", password="pw")
        self.redirect(f"http://{other.host}/cdn/1?sig=x%2Fy")
        other.answers["/cdn/1"] = self.registry.answers[self.blob()]
        self.pulls()
        self.assertEqual(len(other.asked), 1)
        self.assertNotIn("Authorization", other.asked[0][2])

    def test_redirect_here(self) -> None:
        valid = "Basic " + base64.b64encode(b"me:pw").decode()
        self.protect('Basic realm="it"', valid)
        self.log_in(user="me", password="pw")
        self.redirect("/v2/there")
        self.registry.answers["/v2/there"] = self.registry.answers[self.blob()]
        self.pulls()

    def test_bad_redirects(self) -> None:
        for to in ("file:///etc/passwd", "//host/x", "ftp://h/x", "http://u:p@h/", ""):
            self.redirect(to)
            self.fails("PULL", "redirect")
        self.redirect(self.blob())
        self.fails("PULL 307", "in circles")

    # --- broken connections -----------------------------------------------------

    def cut(self, h: Handler, at: int, *, ranges: bool = True) -> None:
        kind, data = self.registry.answers[self.blob()]
        start = 0
        if ranges and "Range" in h.headers:
            start = int(h.headers["Range"][6:-1])
            h.send_response(206)
            h.send_header("Content-Range", f"bytes {start}-{len(data)}/{len(data)}")
        else:
            h.send_response(200)
        h.send_header("Content-Length", str(len(data) - start))
        h.end_headers()
        h.wfile.write(data[start : start + at])
        h.close_connection = True

    def test_resumed(self) -> None:
        self.registry.add_image(self.layers)
        self.registry.instead[self.blob()] = lambda h: self.cut(h, 50_000)
        self.pulls()
        ranges = [h.get("Range") for _, p, h in self.registry.asked if p == self.blob()]
        self.assertEqual(ranges[:2], [None, "bytes=50000-"])
        self.assertEqual(len(ranges), 7)

    def test_no_ranges(self) -> None:
        turns = iter((50_000, 100_000, 10**9))
        self.registry.add_image(self.layers)
        self.registry.instead[self.blob()] = lambda h: self.cut(
            h, next(turns), ranges=False
        )
        self.pulls()

    def test_never_whole(self) -> None:
        self.registry.add_image(self.layers)
        self.registry.instead[self.blob()] = lambda h: self.cut(h, 50_000, ranges=False)
        self.fails("PULL", "the connection broke", "times")
        self.assertEqual(self.registry.count(self.blob()), 6)

    def test_another_range(self) -> None:
        def answer(h: Handler) -> None:
            if "Range" not in h.headers:
                return self.cut(h, 50_000)
            data = self.registry.answers[self.blob()][1]
            h.send("x", data, 206, Content_Range=f"bytes 0-9/{len(data)}")
            return None

        self.registry.add_image(self.layers)
        self.registry.instead[self.blob()] = answer
        self.fails("PULL", "another part than it was asked for")

    def test_stalled(self) -> None:
        def stall(h: Handler) -> None:
            kind, data = self.registry.answers[self.blob()]
            h.send_response(200)
            h.send_header("Content-Length", str(len(data)))
            h.end_headers()
            h.wfile.write(data[:1000])
            h.wfile.flush()
            self.registry.over.wait()

        self.registry.add_image(self.layers)
        self.registry.instead[self.blob()] = stall
        args = (self.image, "3", "300")
        self.fails("PULL", "no progress for", args=args)

    def test_not_there(self) -> None:
        self.fails("PULL", "127.0.0.1:1", args=("127.0.0.1:1/name:1",))

    # --- lies ---------------------------------------------------------------------

    def test_wrong_content(self) -> None:
        self.registry.add_image(self.layers)
        kind, data = self.registry.answers[self.blob()]
        other = gzip.compress(layer_of("c", 300_000), 1, mtime=0)
        for wrong, word in (
            (data[:-5] + b"?????", "digest is"),
            (data[: len(data) // 2] + bytes(len(data) - len(data) // 2), ""),
            (bytes(len(data)), ""),
            (other[: len(data)].ljust(len(data), b"\0"), ""),
        ):
            self.registry.answers[self.blob()] = (kind, wrong)
            self.fails("IMAGE", "layer", word)

    def test_wrong_length(self) -> None:
        self.registry.add_image(self.layers)
        kind, data = self.registry.answers[self.blob()]
        self.registry.answers[self.blob()] = (kind, data + b"more")
        self.fails("PULL", "longer than the manifest says")
        self.registry.answers[self.blob()] = (kind, data[:-1])
        self.fails("PULL")

    def test_wrong_diff_id(self) -> None:
        ids = [digest(b"1"), digest(self.layers[1])]
        self.registry.add_image(self.layers, diff_ids=ids)
        self.fails("IMAGE", "its diff id is", ids[0])
        self.registry.add_image(self.layers, diff_ids=ids[:1])
        self.fails("IMAGE", "its config names 1 layers, its manifest 2")

    def test_wrong_manifest(self) -> None:
        good = self.registry.add_image(self.layers)
        path = "/v2/name/manifests/1"
        kind, data = self.registry.answers[path]
        self.registry.instead[path] = lambda h: h.send(
            kind, data, Docker_Content_Digest=digest(b"x")
        )
        self.fails("IMAGE", "manifest: its digest is", good)
        for wrong, word in (
            (b"", "manifest"),
            (b"<html>", "manifest"),
            (b"[]", "schemaVersion"),
            (b'{"schemaVersion": 2}', "the config has no SHA-256 digest"),
            (b'{"schemaVersion": 2, "manifests": 5}', "lists no manifests"),
            (b'{"schemaVersion": 2, "manifests": [], "layers": []}', "both"),
            (data.replace(b"sha256:", b"sha512:"), "no SHA-256 digest"),
            (data.replace(b"rootfs.diff.tar", b"r.diff.tar+encrypted"), "encrypted"),
            (data.replace(CONFIG.encode(), b"application/helm"), "no container image"),
            (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
            (b" " * 5_000_000, "more than"),
        ):
            self.registry.instead[path] = lambda h, w=wrong: h.send(kind, w)  # type: ignore[misc]
            self.fails("IMAGE", word)

    def test_wrong_config(self) -> None:
        self.registry.add_image(self.layers, arch="s390x")
        self.fails("IMAGE", "is for linux/s390x, this machine is")

    def test_wrong_digest_asked(self) -> None:
        wanted = digest(b"x")
        self.registry.add_image(self.layers)
        path = f"/v2/name/manifests/{wanted}"
        self.registry.answers[path] = self.registry.answers["/v2/name/manifests/1"]
        self.fails("IMAGE", wanted, args=(f"{self.registry.host}/name@{wanted}",))

    # --- for an ordinary user ---------------------------------------------------

    def test_ordinary_user(self) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, kind, mode in (
                ("shut", tarfile.DIRTYPE, 0o500),
                ("shut/in", tarfile.DIRTYPE, 0o000),
                ("shut/.wh.gone", tarfile.REGTYPE, 0o644),
                ("shut/.wh..wh..opq", tarfile.REGTYPE, 0o644),
                ("null", tarfile.CHRTYPE, 0o666),
                ("file", tarfile.REGTYPE, 0o4711),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.mode, info.uid, info.gid = kind, mode, 1000, 5
                info.devmajor, info.devminor = 1, 3
                tar.addfile(info)
        self.registry.add_image([out.getvalue()])
        os.chmod(self.dir.name, 0o755)
        os.mkdir(self.store)
        os.chown(self.store, 65534, 65534)

        # Where it was built may be closed to others.
        tool = shutil.copy(os.environ["IMAGETOOL"], self.dir.name)

        def as_nobody(*args: str) -> str:
            done = subprocess.run(
                [tool, self.store, *args],
                env={**os.environ, "DOCKER_CONFIG": "/none", "LEV_SQUASH": "1"},
                user=65534,
                group=65534,
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        as_nobody("pull", self.image)
        root = Path(as_nobody("get", self.image).split("\n")[1])
        self.assertEqual(root.joinpath("shut").stat().st_mode, 0o40500)
        self.assertEqual(root.joinpath("file").stat().st_mode, 0o104711)
        self.assertEqual(root.joinpath("file").stat().st_uid, 65534)
        self.assertFalse(root.joinpath("null").exists())
        gone = root.joinpath("shut/gone").stat()
        self.assertEqual((gone.st_mode & 0o170000, gone.st_rdev), (0o020000, 0))
        opaque = os.getxattr(root / "shut", "user.overlay.opaque")
        self.assertEqual(opaque, b"y")
        as_nobody("rm", self.image)
        self.assertEqual(os.listdir(self.store + "/layers"), [])
        self.assertEqual(os.listdir(self.store + "/tmp"), [])


REAL = [shutil.which(name) for name in ("docker-registry", "skopeo", "zstd")]


@unittest.skipUnless(all(REAL), "needs docker-registry, skopeo, zstd")
class RealRegistry(unittest.TestCase):
    """The field's own registry, with images pushed by the field's own client."""

    def setUp(self) -> None:
        dir = tempfile.TemporaryDirectory(prefix="lev-registry-")
        self.addCleanup(dir.cleanup)
        self.dir = dir.name
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{s.getsockname()[1]}"
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": self.dir + "/data"}},
            "http": {"addr": self.host},
        }
        Path(self.dir, "config.yml").write_text(json.dumps(config))
        process = subprocess.Popen(
            ["docker-registry", "serve", self.dir + "/config.yml"], stdout=-3, stderr=-3
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        while process.poll() is None:
            with socket.socket() as s:
                if s.connect_ex(self.address) == 0:
                    break

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.host.partition(":")
        return host, int(port)

    def layout(self, arch: str, pack: str) -> tuple[str, bytes]:
        """An OCI layout of one layer; its directory and the layer."""
        layer = layer_of(arch, 200_000)
        packed = subprocess.run([pack, "-c"], input=layer, capture_output=True).stdout
        dir = Path(self.dir, arch)
        dir.joinpath("blobs/sha256").mkdir(parents=True)

        def put(data: bytes, kind: str) -> dict[str, object]:
            dir.joinpath("blobs/sha256", digest(data)[7:]).write_bytes(data)
            return {"mediaType": kind, "digest": digest(data), "size": len(data)}

        oci = "application/vnd.oci.image."
        config = {
            "architecture": arch,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci + "manifest.v1+json",
            "config": put(json.dumps(config).encode(), oci + "config.v1+json"),
            "layers": [put(packed, oci + "layer.v1.tar+" + pack)],
        }
        entry = put(json.dumps(manifest).encode(), oci + "manifest.v1+json")
        index = {"schemaVersion": 2, "manifests": [entry]}
        dir.joinpath("index.json").write_text(json.dumps(index))
        dir.joinpath("oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return str(dir), layer

    def tool(self, *args: str) -> list[str]:
        done = subprocess.run(
            [os.environ["IMAGETOOL"], self.dir + "/store", *args],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.split("\n")

    def test_pushed(self) -> None:
        arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        for form in ("oci", "v2s2"):
            for pack in ("gzip", "zstd") if form == "oci" else ("gzip",):
                dir, layer = self.layout(arch, pack)
                image = f"{self.host}/some/where:{form}-{pack}"
                subprocess.run(
                    ["skopeo", "copy", "-q", "--dest-tls-verify=false"]
                    + ["--format", form, f"oci:{dir}", f"docker://{image}"],
                    check=True,
                )
                shutil.rmtree(dir)
                self.tool("pull", image)
                root = self.tool("get", image)[1]
                with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                    file = tar.extractfile(arch)
                    assert file is not None
                    self.assertEqual(Path(root, arch).read_bytes(), file.read())
                self.tool("rm", image)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root", file=sys.stderr)
        sys.exit(77)
    unittest.main()
