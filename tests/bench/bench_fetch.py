"""Images from a registry on this machine, beside skopeo."""

import gzip
import hashlib
import io
import itertools
import json
import os
import platform
import shutil
import subprocess
import sysconfig
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measure import Result, Setting, Target, median, ratio, turns

FILE_BYTES = 200 << 20
TREE_BYTES = 120 << 20
TREE_LAYERS = 3
SHARERS = 10
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
LEVRT = "levrt"
OCI, STORAGE = "skopeo, oci:", "skopeo, containers-storage:"


def one_file() -> list[bytes]:
    """A layer that costs nothing to unpack."""
    data = os.urandom(FILE_BYTES)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("data")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return [out.getvalue()]


def many_files() -> list[bytes]:
    """Python's library, as layers."""
    root = Path(sysconfig.get_path("stdlib"))
    streams = [io.BytesIO() for _ in range(TREE_LAYERS)]
    tars = [tarfile.open(fileobj=stream, mode="w") for stream in streams]
    left = TREE_BYTES
    for i, path in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        left -= path.stat().st_size
        if left < 0:
            break
        name = Path("lib") / path.relative_to(root)
        tars[i % TREE_LAYERS].add(path, arcname=str(name))
    for tar in tars:
        tar.close()
    return [stream.getvalue() for stream in streams]


class Layout:
    """An OCI layout of one image."""

    def __init__(self, where: Path) -> None:
        self.where = where
        (where / "blobs" / "sha256").mkdir(parents=True)

    def blob(self, data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.where / "blobs" / "sha256" / digest).write_bytes(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {
            "mediaType": media_type,
            "digest": f"sha256:{digest}",
            "size": len(data),
        }

    def write(self, layers: Iterable[bytes]) -> int:
        """The bytes of all layers as they are sent."""
        plain = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
        packed = [
            self.blob(gzip.compress(layer, 1, mtime=0), "layer.v1.tar+gzip")
            for layer in layers
        ]
        config = {
            "architecture": ARCH.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": plain},
        }
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(json.dumps(config).encode(), "config.v1+json"),
            "layers": packed,
        }
        entry = self.blob(json.dumps(manifest).encode(), "manifest.v1+json")
        index = {"schemaVersion": 2, "manifests": [entry]}
        (self.where / "index.json").write_text(json.dumps(index))
        (self.where / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return sum(layer["size"] for layer in packed)


def skopeo(source: str, target: str, *options: str) -> None:
    argv = ["skopeo", "copy", "--quiet", *options, source, target]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def publish(setting: Setting, name: str, layers: list[bytes]) -> int:
    where = setting.scratch / "layouts" / name
    size = Layout(where).write(layers)
    target = f"docker://{setting.registry}/bench/{name}:1"
    skopeo(f"oci:{where}", target, "--dest-tls-verify=false")
    shutil.rmtree(where)
    return size


class Fetcher:
    """Fetches images of the registry into a place of its own, new each time.

    They stay until the end: a file system without a journal looks at all inodes
    that it has freed of late for each that it makes, and so who comes after
    somebody who has removed much would wait for that.
    """

    serial = itertools.count()

    def __init__(self, setting: Setting, client: str) -> None:
        self.registry = str(setting.registry)
        self.client = client
        self.tool = setting.build.parent / "c" / "imagetool"
        self.where = setting.scratch / "fetched" / str(next(self.serial))
        self.where.parent.mkdir(exist_ok=True)

    def fetch(self, name: str) -> None:
        ref = f"{self.registry}/bench/{name}:1"
        if self.client == LEVRT:
            argv: list[str | Path] = [self.tool, self.where, "pull", ref]
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
            return
        target = f"oci:{self.where}:{name}"
        if self.client == STORAGE:
            target = f"containers-storage:[overlay@{self.where}/s+{self.where}/r]{name}"
        skopeo(f"docker://{ref}", target, "--src-tls-verify=false")

    def timed(self, name: str) -> float:
        start = time.perf_counter()
        self.fetch(name)
        taken = time.perf_counter() - start
        # What it has written is not to be written back in another's time.
        os.sync()
        return taken


def remove_all(setting: Setting) -> None:
    where = setting.scratch / "fetched"
    for storage in where.glob("*/s/overlay"):  # mounted over itself
        subprocess.run(["umount", storage], capture_output=True, check=False)
    shutil.rmtree(where)


def received() -> int:
    """Bytes that have come over the loopback interface."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            return int(figures.split()[0])
    raise RuntimeError("there is no lo")


def shared(setting: Setting, common: list[bytes]) -> float:
    """Bytes that come for images with common layers, for each byte there is."""
    small = [f"{i}".encode() * 5000 for i in range(SHARERS)]
    tars = []
    for data in small:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo("own")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        tars.append(out.getvalue())
    sizes = [
        publish(setting, f"shared{i}", [*common, tar]) for i, tar in enumerate(tars)
    ]
    fetcher = Fetcher(setting, LEVRT)
    before = received()
    for i in range(SHARERS):
        fetcher.fetch(f"shared{i}")
    return (received() - before) / max(sizes)


def bench(setting: Setting) -> Result:
    tree = many_files()
    sizes = {
        "one file": publish(setting, "file", one_file()),
        "a tree": publish(setting, "tree", tree),
    }
    jobs = {
        ("one file", LEVRT): "file",
        ("one file", OCI): "file",
        ("a tree", LEVRT): "tree",
        ("a tree", OCI): "tree",
        ("a tree", STORAGE): "tree",
    }
    fetched = shared(setting, tree)
    figures: dict[tuple[str, str], list[float]] = {job: [] for job in jobs}
    names = [f"{image}|{client}" for image, client in jobs]
    for round_ in range(setting.rounds + 1):  # the first one fills caches
        for name in turns(names, round_):
            image, _, client = name.partition("|")
            taken = Fetcher(setting, client).timed(jobs[image, client])
            if round_ > 0:
                figures[image, client].append(taken)

    remove_all(setting)

    def faster(image: str, peer: str) -> float:
        return ratio(figures[image, peer], figures[image, LEVRT])

    return Result(
        "Images from a registry",
        "Fetched from docker-registry on this machine into a new store. levrt "
        "unpacks what comes, and so does containers-storage:; oci: does not. One file "
        f"is {sizes['one file'] >> 20} MiB that cannot be compressed; the tree is "
        f"Python's library in {TREE_LAYERS} layers, {sizes['a tree'] >> 20} MiB "
        "compressed.",
        setting.rounds,
        ["image, client", "s", "time, levrt = 1"],
        [
            [
                f"{image}, {client}",
                f"{median(taken):.2f}",
                f"{faster(image, client):.2f}",
            ]
            for (image, client), taken in figures.items()
        ],
        [
            Target(
                "one file beside skopeo copy to oci:, ≥ 0.9",
                faster("one file", OCI),
                least=0.9,
            ),
            Target(
                "a tree beside skopeo copy to containers-storage:, ≥ 2",
                faster("a tree", STORAGE),
                least=2.0,
            ),
            Target(
                f"bytes for {SHARERS} images that share layers, of one = 1, ≤ 1.1",
                fetched,
                most=1.1,
            ),
        ],
    )
