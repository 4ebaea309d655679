"""The runtime bundle: what a closure needs to run in any image.

An image may have no Python, another one, no libc or musl. So the host's
interpreter goes along: its executable, shared objects and dynamic loader, the
standard library, time zones, CA certificates and the guest package, as one
directory that is mounted read-only at ``/lev``::

    bin/python3       the launcher; starts libexec/python3 by loader/python3
    boot.py           what the container runs; see guest/boot.py
    lib/              shared objects, pythonX.Y/ with compiled modules
    site/             levrt (the guest's), cloudpickle, tzdata
    etc/ssl/cert.pem  CA certificates
    sock              an empty file: the host's socket is mounted over it

Bundles lie in a cache directory under the hash of what they are made from, so
that a new interpreter, levrt or system library gives a new one. Run as a
program (``python -I bundle.py [CACHE_DIR]``; it needs nothing of the package
but its files) it prints the bundle's path as its last line and builds it when
it is not there. Any number of processes may do so at once: one builds, under
a lock, the others wait; a bundle appears by one rename, when it is complete.

Beside each lies ``<hash>.used``: its time says when the bundle was last asked
for, and whoever uses it holds a shared lock on it. Whoever builds a new bundle
removes old ones that nobody has used for long.
"""

import os
import sys

TYPE_CHECKING = False  # typing is not imported: the common case takes 20 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PACKAGE = os.path.dirname(os.path.abspath(__file__))
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
FORMAT = 1  # of the bundle: another number, other bundles

DAY = 24 * 3600
UNUSED = 30 * DAY  # then a bundle goes
SURPLUS = 8  # so many of the last ones may stay longer than a day

# Of the standard library: what no tool needs, or would pull in X11.
LEFT_OUT = {
    "__pycache__",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "idle_test",
    "site-packages",
    "sitecustomize.py",
    "test",
    "tests",
    "tkinter",
    "turtle.py",
    "turtledemo",
    "usercustomize.py",
}
LEFT_OUT_MODULES = ("_tkinter", "_test", "_ctypes_test", "_xxtestfuzz", "xxlimited")
# Loaded by name when first needed, so that no list of dependencies has them.
OPENED_LATER = (
    "libgcc_s.so.1",
    "libnss_compat.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libresolv.so.2",
)
CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class BundleError(Exception):
    """The bundle cannot be built; the text says what is missing."""


class Host:
    """The interpreter that runs this, and where its parts are."""

    def __init__(self) -> None:
        # In a virtual environment: the one that it was made from.
        base = getattr(sys, "_base_executable", None) or sys.executable
        if not base:
            raise BundleError(
                "this Python does not know its own executable (sys.executable is"
                " empty); closures need a python program on the host"
            )
        self.executable = os.path.realpath(base)
        self.stdlib = os.path.dirname(os.path.abspath(os.__file__))
        self.dynload = os.path.join(self.stdlib, "lib-dynload")
        self.platlib = os.path.join(sys.platlibdir, f"python{VERSION}")

    def package(self, name: str) -> str | None:
        """The directory of an installed package, without importing it."""
        # Beside levrt first: -I leaves the user's site-packages out.
        for entry in (os.path.dirname(PACKAGE), *sys.path):
            path = os.path.join(entry, name)
            if entry and os.path.isfile(os.path.join(path, "__init__.py")):
                return path
        return None


def default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "levrt", "runtime")


# What a bundle is made from, as far as a look at each file tells it.


def _stamp(path: str) -> str:
    try:
        st = os.stat(path)
    except OSError:
        return f"- - {path}"
    return f"{st.st_size} {st.st_mtime_ns} {path}"


_ELSEWHERE = {
    "boot.py": "boot.py",
    "facade.py": "site/levrt/__init__.py",
    "sitecustomize.py": "site/sitecustomize.py",
}


def _own_files() -> "Iterator[tuple[str, str]]":
    """(path in the bundle, path here) of levrt's own part."""
    guest = os.path.join(PACKAGE, "guest")
    for name in sorted(os.listdir(guest)):
        target = _ELSEWHERE.get(name)
        if name.endswith(".py"):
            yield target or f"site/levrt/guest/{name}", os.path.join(guest, name)
    for name in ("args.py", "bson.py"):  # the same on both sides
        yield f"site/levrt/{name}", os.path.join(PACKAGE, name)
    yield from _annot_files()
    yield _codec()
    launcher = os.path.join(PACKAGE, "bin", "lev-launcher")
    if not os.path.isfile(launcher):
        raise BundleError(f"levrt is not built: {launcher} is not there")
    yield "bin/python3", launcher


def _codec() -> tuple[str, str]:
    import _imp

    for suffix in _imp.extension_suffixes():
        path = os.path.join(PACKAGE, f"_guest{suffix}")
        if os.path.isfile(path):
            return f"site/levrt/_guest{suffix}", path
    raise BundleError(
        f"levrt is not built for this Python: no _guest{_imp.extension_suffixes()[0]}"
        f" in {PACKAGE}"
    )


def _annot_files() -> "Iterator[tuple[str, str]]":
    top = os.path.join(PACKAGE, "annot")
    if not os.path.isdir(top):  # a checkout that no build has linked yet
        top = os.path.join(os.path.dirname(PACKAGE), "annot")
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                yield f"site/levrt/annot/{os.path.relpath(path, top)}", path


def _identity(host: Host) -> str:
    """A hash of all that can be told without running the loader."""
    import _blake2

    state = _blake2.blake2b(digest_size=12)
    facts = [str(FORMAT), sys.version, sys.implementation.cache_tag or ""]
    facts += [_stamp(host.executable), _stamp(host.dynload), _stamp(os.__file__)]
    facts += [_stamp(path) for path in CERTIFICATES]
    facts += [_stamp(host.package("cloudpickle") or "cloudpickle")]
    state.update("\n".join(facts).encode())
    for target, path in _own_files():
        with open(path, "rb") as f:
            content = f.read()
        state.update(f"\n{target} {len(content)}\n".encode())
        state.update(content)
    return state.hexdigest()


class Index:
    """Remembers, by identity, which bundle it was and from which libraries.

    The quick way: one small file, one stat for each shared object, so that a
    security update of the system's libssl makes a new bundle.
    """

    def __init__(self, cache: str, identity: str) -> None:
        self.cache = cache
        self.path = os.path.join(cache, f"{identity}.index")

    def find(self) -> str | None:
        try:
            with open(self.path, encoding="utf-8", errors="surrogateescape") as f:
                name, *stamps = f.read().splitlines()
        except (OSError, ValueError):
            return None
        path = os.path.join(self.cache, name)
        for line in stamps:
            if _stamp(line.split(" ", 2)[-1]) != line:
                return None
        return path if os.path.isfile(os.path.join(path, "boot.py")) else None

    def write(self, name: str, stamps: list[str]) -> None:
        part = f"{self.path}.{os.getpid()}"
        with open(part, "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write("\n".join([name, *stamps]) + "\n")
        os.replace(part, self.path)


# Shared objects.


def _interpreter_of(path: str) -> str:
    """PT_INTERP of an ELF program: the loader that the kernel runs it with."""
    import struct

    with open(path, "rb") as f:
        head = f.read(64)
        if head[:4] != b"\x7fELF" or len(head) < 64 or head[4] != 2:
            raise BundleError(
                f"{path} is not a 64-bit ELF program: closures can be sent into"
                " containers only from a Linux Python"
            )
        order = "<" if head[5] == 1 else ">"
        offset, count = _program_headers(head, order)
        f.seek(offset)
        table = f.read(56 * count)
        for i in range(count):
            kind, _, start, _, _, size = struct.unpack_from(
                f"{order}IIQQQQ", table, 56 * i
            )
            if kind == 3:
                f.seek(start)
                return f.read(size).rstrip(b"\0").decode()
    raise BundleError(
        f"{path} is a statically linked Python: it cannot load extension modules"
        " from a bundle; run the workflow with a dynamically linked Python"
        " (a distribution's, pyenv's, uv's or conda's)"
    )


def _program_headers(head: bytes, order: str) -> tuple[int, int]:
    import struct

    (offset,) = struct.unpack_from(f"{order}Q", head, 32)
    (count,) = struct.unpack_from(f"{order}H", head, 56)
    return offset, count


def _check_loader(loader: str, executable: str) -> None:
    import subprocess

    if "musl" in os.path.basename(loader):
        raise BundleError(
            f"{executable} is built for musl ({loader}), whose loader cannot run it"
            " from a bundle; run the workflow with a Python for glibc"
        )
    usage = subprocess.run(
        [loader, "--help"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if "--argv0" not in usage.stdout + usage.stderr:
        raise BundleError(
            f"the loader {loader} does not know --argv0: closures need glibc 2.33"
            " or newer on the host"
        )


def _needed_by(loader: str, path: str) -> dict[str, str | None]:
    """soname → file of everything `path` needs; None: it is not there."""
    import subprocess

    home = os.path.join(sys.base_prefix, "lib")
    run = subprocess.run(
        [loader, "--library-path", home, "--list", path],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    found: dict[str, str | None] = {}
    for line in run.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow:
            target = rest.rpartition(" (")[0] or rest
            found[name] = None if target == "not found" else target
    return found


class Objects:
    """The shared objects of the interpreter and its extension modules."""

    def __init__(self, host: Host) -> None:
        self.loader = os.path.realpath(_interpreter_of(host.executable))
        _check_loader(self.loader, host.executable)
        self.libraries: dict[str, str] = {}
        self.modules: list[str] = []
        for name in self._add(host.executable):
            raise BundleError(f"{host.executable} needs {name}, which is not there")
        self._add_modules(host.dynload)
        self._add_opened_later()

    def _add(self, path: str) -> list[str]:
        """Takes what `path` needs; the names of what is missing."""
        needed = _needed_by(self.loader, path)
        missing = [name for name, target in needed.items() if target is None]
        if not missing:
            for name, target in needed.items():
                if target is not None and os.path.basename(name) == name:
                    self.libraries.setdefault(name, target)
        return missing

    def _add_modules(self, dynload: str) -> None:
        names = sorted(os.listdir(dynload)) if os.path.isdir(dynload) else []
        for name in names:
            if not name.endswith(".so") or name.startswith(LEFT_OUT_MODULES):
                continue
            path = os.path.join(dynload, name)
            missing = self._add(path)
            if missing:
                _say(f"left out {name}: the host has no {', '.join(missing)}")
            else:
                self.modules.append(path)

    def _add_opened_later(self) -> None:
        libc = next((p for n, p in self.libraries.items() if "libc.so" in n), None)
        if libc is None:
            raise BundleError(f"{self.loader} did not list the C library")
        for name in OPENED_LATER:
            path = os.path.join(os.path.dirname(libc), name)
            if os.path.exists(path):
                self.libraries.setdefault(name, path)
                self._add(path)

    def stamps(self) -> list[str]:
        return [_stamp(path) for path in [self.loader, *self.libraries.values()]]


# Building.


def _say(text: str) -> None:
    print(f"levrt: {text}", file=sys.stderr, flush=True)


class Builder:
    """Writes one bundle below `top`, a directory that nobody else knows."""

    def __init__(self, host: Host, objects: Objects, top: str) -> None:
        self.host = host
        self.objects = objects
        self.top = top
        self.stdlib = os.path.join(top, host.platlib)

    def build(self) -> None:
        self._program()
        self._libraries()
        self._standard_library()
        self._own_package()
        self._package("cloudpickle")
        self._zones()
        self._certificates()
        self._file("sock", b"")
        self._links()
        compile_all([self.stdlib, os.path.join(self.top, "site")], self.top)

    def check(self) -> None:
        """That it starts; better to hear of it now than from a container."""
        import subprocess

        code = "import sys; sys.path.append(sys.argv[1]); import levrt.guest.main"
        program = os.path.join(self.top, "bin", "python3")
        site = os.path.join(self.top, "site")
        run = subprocess.run(
            [program, "-I", "-S", "-c", f"{code}, levrt._guest", site],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if run.returncode != 0:
            last = run.stderr.strip().splitlines()[-1:] or [f"status {run.returncode}"]
            raise BundleError(f"the copied interpreter does not run: {last[0]}")

    def _copy(self, source: str, target: str, mode: int = 0o644) -> None:
        import shutil

        path = os.path.join(self.top, target)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(source, path)
        os.chmod(path, mode)

    def _file(self, target: str, content: bytes) -> None:
        path = os.path.join(self.top, target)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content)
        os.chmod(path, 0o644)

    def _tree(self, source: str, target: str, keep: "Callable[[str], bool]") -> None:
        for folder, folders, names in os.walk(source):
            folders[:] = [name for name in folders if keep(name)]
            inside = os.path.relpath(folder, source)
            for name in filter(keep, names):
                path = os.path.join(folder, name)
                if os.path.isfile(path):  # no dangling links
                    self._copy(path, os.path.normpath(f"{target}/{inside}/{name}"))

    def _program(self) -> None:
        self._copy(self.objects.loader, "loader/python3", 0o755)
        self._copy(self.host.executable, "libexec/python3", 0o755)

    def _libraries(self) -> None:
        for name, path in self.objects.libraries.items():
            self._copy(path, f"lib/{name}")

    def _standard_library(self) -> None:
        def keep(name: str) -> bool:
            return (
                name not in LEFT_OUT
                and name != "lib-dynload"
                and not name.startswith("config-")
                and not name.endswith((".pyc", ".a", ".o"))
            )

        self._tree(self.host.stdlib, self.host.platlib, keep)
        # The interpreter looks for this directory, even when it is empty.
        dynload = os.path.join(self.stdlib, "lib-dynload")
        os.makedirs(dynload, exist_ok=True)
        for path in self.objects.modules:
            self._copy(path, f"{self.host.platlib}/lib-dynload/{_base(path)}")

    def _own_package(self) -> None:
        for target, path in _own_files():
            executable = target.startswith("bin/")
            self._copy(path, target, 0o755 if executable else 0o644)
        facts = f"PYTHON = {tuple(sys.version_info[:3])!r}\n"
        self._file("site/levrt/_bundle.py", facts.encode())

    def _package(self, name: str) -> None:
        path = self.host.package(name)
        if path is None:
            raise BundleError(f"the package {name} is not installed for this Python")
        self._tree(path, f"site/{name}", lambda n: n != "__pycache__")

    def _zones(self) -> None:
        """As the package tzdata, where zoneinfo looks when the image has none."""
        package = self.host.package("tzdata")
        if package is not None:
            self._package("tzdata")
            return
        source = "/usr/share/zoneinfo"
        if not os.path.isdir(source):
            raise BundleError(
                "no time zones: neither the package tzdata nor /usr/share/zoneinfo"
                " is there; install one of them"
            )
        leap_second_variants = {"posix", "right"}
        self._tree(
            source, "site/tzdata/zoneinfo", lambda n: n not in leap_second_variants
        )
        self._zone_index()

    def _zone_index(self) -> None:
        top = os.path.join(self.top, "site", "tzdata")
        zones = []
        for folder, _, names in os.walk(top):
            self._file(os.path.join(folder, "__init__.py"), b"")
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as f:
                    if f.read(4) == b"TZif":
                        zones.append(os.path.relpath(path, f"{top}/zoneinfo"))
        self._file("site/tzdata/zones", "\n".join(sorted(zones)).encode() + b"\n")

    def _certificates(self) -> None:
        certifi = self.host.package("certifi")
        places = [*CERTIFICATES]
        if certifi is not None:
            places.append(os.path.join(certifi, "cacert.pem"))
        for path in places:
            if os.path.isfile(path):
                self._copy(path, "etc/ssl/cert.pem")
                return
        raise BundleError(
            f"no CA certificates: none of {', '.join(places)} is there; install the"
            " system's ca-certificates or the package certifi"
        )

    def _links(self) -> None:
        launcher = os.path.join(self.top, "bin", "python3")
        os.link(launcher, os.path.join(self.top, "bin", "lev-launcher"))
        for name in ("python", f"python{VERSION}"):
            os.symlink("python3", os.path.join(self.top, "bin", name))
        # So that programs which are started by sys.executable find site/ too.
        os.symlink("../../site", os.path.join(self.stdlib, "site-packages"))
        debian = os.path.join(self.top, "lib", "python3")
        os.makedirs(debian, exist_ok=True)
        os.symlink("../../site", os.path.join(debian, "dist-packages"))


def _base(path: str) -> str:
    return os.path.basename(path)


def compile_all(tops: "Iterable[str]", root: str) -> None:
    """Compiles every module below `tops`, on every core.

    The files of a bundle never change, and its times mean nothing: the
    compiled ones are never checked against the sources.
    """
    paths = []
    for top in tops:
        for folder, _, names in os.walk(top):
            paths += [os.path.join(folder, n) for n in names if n.endswith(".py")]
    workers = max(1, len(os.sched_getaffinity(0)))
    pids = []
    for i in range(workers):
        pid = os.fork()
        if pid == 0:
            _compile_in_child(paths[i::workers], root)
        pids.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    if any(codes):
        raise BundleError("a standard library module could not be compiled")


def _compile_in_child(paths: list[str], root: str) -> None:
    code = 1
    try:
        _compile(paths, root)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _compile(paths: list[str], root: str) -> None:
    import py_compile
    import warnings

    warnings.simplefilter("ignore")
    for path in paths:
        try:
            py_compile.compile(
                path,
                dfile="/lev" + path[len(root) :],
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError:
            pass  # test data of lib2to3 and the like: an import says the same


def _sync(top: str) -> None:
    """Writes the file system out: a bundle that is there is whole, also after a
    power cut. sync() would wait for every other file system as well."""
    import ctypes

    fd = os.open(top, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), top)
    finally:
        os.close(fd)


def _open_lock(cache: str) -> int:
    import fcntl

    os.makedirs(cache, mode=0o755, exist_ok=True)
    lock = os.open(os.path.join(cache, ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends
    return lock


def _remove_leftovers(cache: str) -> None:
    """Of builders that were killed: whoever holds the lock is the only one."""
    import shutil

    for name in os.listdir(cache):
        if name.startswith(".build-"):
            shutil.rmtree(os.path.join(cache, name), ignore_errors=True)


def _take(path: str) -> bool:
    """Notes that the bundle is used now; False when it has just been removed."""
    import fcntl

    try:
        fd = os.open(f"{path}.used", os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError:  # a cache of somebody else's, who takes care of it
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        os.utime(fd)
    finally:
        os.close(fd)
    return os.path.isfile(os.path.join(path, "boot.py"))


def _age(path: str) -> float:
    """Seconds since its last use."""
    import time

    try:
        return time.time() - os.stat(f"{path}.used").st_mtime
    except OSError:
        return 0.0


def _is_bundle(name: str) -> bool:
    return len(name) == 24 and not name.strip("0123456789abcdef")


def _remove_unused(cache: str, current: str) -> None:
    """With the lock of all builders."""
    paths = [os.path.join(cache, n) for n in os.listdir(cache) if _is_bundle(n)]
    others = [path for path in paths if path != current]
    for i, path in enumerate(sorted(others, key=_age)):
        limit = UNUSED if i < SURPLUS - 1 else DAY
        if _age(path) > limit:
            _remove_bundle(cache, path, limit)


def _remove_bundle(cache: str, path: str, limit: float) -> None:
    """Unless somebody holds it, or has just taken it."""
    import fcntl
    import shutil

    gone = os.path.join(cache, f".build-{_base(path)}")
    lock = os.open(f"{path}.used", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _age(path) > limit:
            # At once: a builder that is killed here leaves no half of it.
            os.rename(path, gone)
            os.unlink(f"{path}.used")
    except BlockingIOError:
        return
    finally:
        os.close(lock)
    shutil.rmtree(gone, ignore_errors=True)
    for name in os.listdir(cache):
        index = os.path.join(cache, name)
        if name.endswith(".index") and _names(index, _base(path)):
            os.unlink(index)


def _names(index: str, name: str) -> bool:
    with open(index, "rb") as f:
        return f.readline().strip() == name.encode()


def _build_locked(cache: str, host: Host, index: Index, identity: str) -> str:
    import _blake2
    import tempfile

    _remove_leftovers(cache)
    objects = Objects(host)
    stamps = objects.stamps()
    state = _blake2.blake2b("\n".join([identity, *stamps]).encode(), digest_size=12)
    path = os.path.join(cache, state.hexdigest())
    if not os.path.isfile(os.path.join(path, "boot.py")):
        _say(f"building the runtime for closures (Python {VERSION}, once) in {path}")
        top = tempfile.mkdtemp(prefix=".build-", dir=cache)
        os.chmod(top, 0o755)
        builder = Builder(host, objects, top)
        builder.build()
        builder.check()
        _sync(top)
        os.rename(top, path)
        _remove_unused(cache, path)
    index.write(os.path.basename(path), stamps)
    return path


def ensure(cache: str) -> str:
    """The path of the bundle for this interpreter; builds it when needed."""
    cache = os.path.abspath(cache)
    host = Host()
    identity = _identity(host)
    index = Index(cache, identity)
    found = index.find()
    if found is not None and _take(found):
        return found
    os.umask(0o022)  # containers run as any user
    lock = _open_lock(cache)
    try:
        path = index.find() or _build_locked(cache, host, index, identity)
        _take(path)
        return path
    finally:
        os.close(lock)


def main(argv: list[str]) -> int:
    if len(argv) > 2:
        _say("usage: bundle.py [CACHE_DIR]")
        return 2
    cache = argv[1] if len(argv) == 2 else default_cache()
    try:
        path = ensure(cache)
    except BundleError as e:
        _say(f"cannot build the runtime bundle: {e}")
        return 1
    except OSError as e:
        _say(
            f"cannot build the runtime bundle in {cache}: {e}; it needs about 100 MB"
            " (XDG_CACHE_HOME chooses another place)"
        )
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
