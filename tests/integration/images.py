"""Images of the tests, made from programs that this machine has.

`Images.get(kind)` makes one when it is first asked for. There is no registry of
images to take them from, and an image that does not change needs none.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engines import Engine

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = """\
root:x:0:0::/root:/bin/sh
user:x:1000:1000::/home/user:/bin/sh
"""
_GROUP = "root:x:0:\nuser:x:1000:\nstaff:x:50:\n"


class Root:
    """A root file system as a tar archive, the same bytes each time."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w")
        self._known: set[str] = set()

    def directory(self, path: str, mode: int = 0o755, uid: int = 0) -> None:
        if path in ("", ".") or path in self._known:
            return
        self.directory(os.path.dirname(path))
        self._add(path, tarfile.DIRTYPE, mode, uid=uid)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.directory(os.path.dirname(path))
        self._add(path, tarfile.REGTYPE, mode, data)

    def copy(self, path: str, source: str) -> None:
        mode = os.stat(source).st_mode & 0o777
        self.file(path, Path(source).read_bytes(), mode)

    def link(self, path: str, target: str) -> None:
        self.directory(os.path.dirname(path))
        self._add(path, tarfile.SYMTYPE, 0o777, link=target)

    def data(self) -> bytes:
        self._tar.close()
        return self._out.getvalue()

    def _add(
        self,
        path: str,
        kind: bytes,
        mode: int,
        data: bytes = b"",
        link: str = "",
        uid: int = 0,
    ) -> None:
        if path in self._known:
            return
        self._known.add(path)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
        info.uid = info.gid = uid
        self._tar.addfile(info, io.BytesIO(data))


def _busybox(root: Root, *, tmp: bool = True) -> None:
    """A shell and its tools, statically linked; two users."""
    busybox = _program("busybox")
    root.copy("bin/busybox", busybox)
    listed = subprocess.run([busybox, "--list"], capture_output=True, check=True)
    for name in listed.stdout.decode().split():
        if name != "busybox":
            root.link(f"bin/{name}", "busybox")
    root.file("etc/passwd", _PASSWD.encode())
    root.file("etc/group", _GROUP.encode())
    root.directory("root", 0o700)
    root.directory("home/user", uid=1000)
    root.directory("srv/dir")
    root.link("etc/alias", "/srv/dir")
    root.file("bin/not-executable", b"#!/bin/sh\nexit 0\n", 0o644)
    if tmp:
        root.directory("tmp", 0o1777)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: tests/run installs it")
    return found


_HELLO = b"""
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("hello of musl, uid %d\\n", (int)getuid()); return 0; }
"""


def _musl(root: Root) -> None:
    """musl's loader and a program that needs it; no shell, no other libc."""
    with tempfile.TemporaryDirectory() as directory:
        hello = Path(directory, "hello")
        command = [_program("musl-gcc"), "-O1", "-x", "c", "-", "-o", str(hello)]
        subprocess.run(command, input=_HELLO, check=True)
        root.copy("bin/hello", str(hello))
    loader = next(Path("/lib").glob("ld-musl-*.so.1"))
    root.file(str(loader).lstrip("/"), loader.resolve().read_bytes(), 0o755)
    root.file("etc/passwd", _PASSWD.encode())


def _python(root: Root) -> None:
    """A Python of the workflow's minor version, as an image has its own."""
    version = "python{}.{}".format(*sys.version_info[:2])
    files = dict(_python_files(version))
    for path, source in files.items():
        root.copy(path, source)
    objects = [s for p, s in files.items() if p.endswith(".so") or "/bin/" in p]
    for path in _libraries(objects):
        root.copy(path.lstrip("/"), path)
    root.link("usr/bin/python3", version)
    root.file("usr/lib/python3/dist-packages/of_the_image.py", b"NAME = 'dist'\n")
    root.directory("tmp", 0o1777)


def _python_files(version: str) -> Iterator[tuple[str, str]]:
    """Paths below the root, and where their content is: Debian's where it has
    this version, else that of the running interpreter."""
    if os.path.exists(f"/usr/bin/{version}"):
        packages = (
            f"{version}-minimal",
            f"lib{version}-minimal",
            f"lib{version}-stdlib",
        )
        command = ["dpkg-query", "-L", *packages]
        listed = subprocess.run(command, capture_output=True, check=True, text=True)
        for path in listed.stdout.splitlines():
            if os.path.isfile(path) and not path.startswith(("/usr/share", "/etc")):
                yield path.lstrip("/"), path
        return
    yield f"usr/bin/{version}", os.path.realpath(sys.executable)
    library = f"{sys.base_prefix}/lib/{version}"
    for folder, folders, names in os.walk(library):
        folders[:] = set(folders) - {"__pycache__", "site-packages", "test", "idlelib"}
        below = os.path.relpath(folder, library)
        for name in names:
            path = os.path.normpath(f"usr/lib/{version}/{below}/{name}")
            yield path, f"{folder}/{name}"


def _libraries(objects: list[str]) -> Iterator[str]:
    listed = subprocess.run(["ldd", *objects], capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        for word in line.split():
            if word.startswith("/") and not word.endswith(":"):
                yield word


def _old_python(root: Root) -> None:
    """The same, by its own account of another version."""
    root.file(
        "usr/lib/python{}.{}/sitecustomize.py".format(*sys.version_info[:2]),
        b"import sys\nsys.version_info = (3, 9, 2, 'final', 0)\n",
    )
    _python(root)


def _nothing(root: Root) -> None:
    root.file("etc/motd", b"nothing to run here\n")


@dataclass(frozen=True)
class _Recipe:
    fill: Callable[[Root], None]
    config: dict[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"


def _config(**keys: Any) -> dict[str, Any]:
    return {"Env": [PATH], "Cmd": ["sh"], **keys}


_RECIPES = {
    "tools": _Recipe(_busybox, _config()),
    "user": _Recipe(_busybox, _config(User="user", WorkingDir="/home/user")),
    "notmp": _Recipe(lambda root: _busybox(root, tmp=False), _config(User="1000")),
    "entry": _Recipe(
        _busybox,
        {"Env": [PATH, "OWN=image"], "Entrypoint": ["/bin/echo", "own"], "Cmd": ["x"]},
    ),
    "stops": _Recipe(_busybox, _config(StopSignal="SIGINT")),
    "musl": _Recipe(_musl, {"Cmd": ["/bin/hello"], "User": "1000"}),
    "nothing": _Recipe(_nothing),
    "python": _Recipe(_python, {"Env": [PATH], "Cmd": ["python3"]}),
    "old-python": _Recipe(_old_python, {"Env": [PATH], "Cmd": ["python3"]}),
    "foreign": _Recipe(_nothing, _config(), "s390x"),
}


class Images:
    """The tests' images on one engine, each made when it is first asked for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._made: set[str] = set()

    def get(self, kind: str) -> str:
        name = f"levrt-test/{kind}:1"
        if kind not in self._made:
            recipe = _RECIPES[kind]
            root = Root()
            recipe.fill(root)
            self.engine.load(
                name,
                root.data(),
                {"architecture": recipe.architecture, "config": recipe.config},
            )
            self._made.add(kind)
        return name

    def fresh(self, content: bytes) -> bytes:
        """A root that no engine has a layer of."""
        root = Root()
        root.file("content", content)
        root.file("digest", hashlib.sha256(content).hexdigest().encode())
        return root.data()

    @cached_property
    def tools(self) -> str:
        return self.get("tools")
