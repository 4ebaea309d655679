"""An image registry with one image whose layer comes as a test wants.

``Registry()`` serves ``name`` until `close()`. Its layer is sent up to `stop_at`
bytes; then `stalled` is set and nothing comes until `go_on()`.
"""

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    def __init__(
        self,
        root: bytes,
        *,
        stop_at: int | None = None,
        corrupt: bool = False,
    ) -> None:
        layer = gzip.compress(root, 1, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/content"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(root)]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": _digest(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(layer),
                    "digest": _digest(layer),
                }
            ],
        }
        self.layer_path = f"/v2/name/blobs/{_digest(layer)}"
        self.layer = layer[:-1] + b"?" if corrupt else layer
        self.stop_at = stop_at
        self.blobs = {f"/v2/name/blobs/{_digest(config)}": config}
        self.manifest = json.dumps(manifest).encode()
        self.stalled = threading.Event()
        self.asked: list[str] = []
        self._on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def image(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}/name:1"

    def go_on(self) -> None:
        self._on.set()

    def wait(self) -> None:
        self.stalled.set()
        self._on.wait()

    def close(self) -> None:
        self.go_on()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()  # waits for the handlers


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            registry.asked.append(self.path)
            self.close_connection = True  # none is left open at the end
            if self.path == "/v2/":
                self._answer(b"{}", "application/json")
            elif self.path.startswith("/v2/name/manifests/"):
                self._answer(registry.manifest, _MANIFEST)
            elif self.path in registry.blobs:
                self._answer(registry.blobs[self.path], "application/octet-stream")
            elif self.path == registry.layer_path:
                self._layer()
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def _answer(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", _digest(data))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _layer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(registry.layer)))
            self.send_header("Connection", "close")
            self.end_headers()
            stop = registry.stop_at
            try:
                self.wfile.write(registry.layer[:stop])
                if stop is not None:
                    registry.wait()
                    self.wfile.write(registry.layer[stop:])
            except OSError:
                pass  # the engine has lost its interest

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
