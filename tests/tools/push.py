"""Pushes an archive of a root file system to a registry, as an image of one layer.

usage: push.py ARCHIVE HOST:PORT NAME TAG
"""

import gzip
import hashlib
import http.client
import json
import os
import shutil
import sys
import tempfile
from typing import IO

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Registry:
    """One repository of it, by the distribution API."""

    def __init__(self, host: str, name: str) -> None:
        self.host = host
        self.name = name

    def call(
        self, method: str, path: str, body: bytes | IO[bytes] = b"", kind: str = ""
    ) -> str:
        """The answer's Location."""
        connection = http.client.HTTPConnection(self.host, timeout=300)
        length = len(body) if isinstance(body, bytes) else os.fstat(body.fileno())[6]
        headers = {"Content-Type": kind or "application/octet-stream"}
        headers["Content-Length"] = str(length)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status // 100 != 2:
            raise SystemExit(f"{method} {path}: {response.status} {text.decode()}")
        return response.headers.get("Location", "")

    def blob(self, body: bytes | IO[bytes], kind: str) -> dict[str, str | int]:
        """Uploads it; its descriptor."""
        if isinstance(body, bytes):
            digest, size = hashlib.sha256(body).hexdigest(), len(body)
        else:
            digest = hashlib.file_digest(body, "sha256").hexdigest()
            size = body.tell()
            body.seek(0)
        location = self.call("POST", f"/v2/{self.name}/blobs/uploads/")
        path = "/" + location.split("/", 3)[3] if "://" in location else location
        path += ("&" if "?" in path else "?") + f"digest=sha256:{digest}"
        self.call("PUT", path, body)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def main(archive: str, host: str, name: str, tag: str) -> None:
    registry = Registry(host, name)
    with open(archive, "rb") as root, tempfile.TemporaryFile() as packed:
        diff = hashlib.file_digest(root, "sha256").hexdigest()
        root.seek(0)
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as out:
            shutil.copyfileobj(root, out, 1 << 20)
        packed.seek(0)
        layer = registry.blob(packed, LAYER)
    machine = os.uname().machine
    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": registry.blob(json.dumps(config).encode(), CONFIG),
        "layers": [layer],
    }
    path = f"/v2/{name}/manifests/{tag}"
    registry.call("PUT", path, json.dumps(manifest).encode(), MANIFEST)


main(*sys.argv[1:])
