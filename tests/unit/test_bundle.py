"""The runtime bundle: what is in it, and how it comes to be there."""

import fcntl
import glob
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guest_roots import (
    PACKAGE,
    build_bundle,
    busybox_root,
    channel,
    empty_root,
    run_in_root,
)

import levrt
import levrt.bundle
from engine import Script
from levrt.entry import remote


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bundle(cache):
    return Path(build_bundle(cache))


def run_builder(*args, python=sys.executable, **env):
    return subprocess.run(
        [python, str(PACKAGE / "bundle.py"), *map(str, args)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


# Other interpreters of this machine that levrt is built for.


def interpreters():
    seen = {os.path.realpath(sys.executable)}
    pattern = os.path.expanduser("~/.pyenv/versions/*/bin/python3")
    for path in [sys.executable, "/usr/bin/python3", *sorted(glob.glob(pattern))]:
        real = os.path.realpath(path)
        if os.path.exists(path) and (real not in seen or path == sys.executable):
            seen.add(real)
            suffix = subprocess.check_output(
                [path, "-c", "import _imp; print(_imp.extension_suffixes()[0])"],
                text=True,
            ).strip()
            if (PACKAGE / f"_guest{suffix}").exists():
                yield path


def everything():
    """In an entry: uses of what has to be complete."""
    import asyncio
    import bz2
    import ctypes
    import hashlib
    import lzma
    import os
    import pwd
    import socket
    import sqlite3
    import ssl
    import subprocess
    import sys
    import zlib
    import zoneinfo
    from datetime import datetime

    from levrt import lev

    async def answer():
        await asyncio.sleep(0)
        return 42

    db = sqlite3.connect(":memory:")
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = None
    try:
        address = socket.getaddrinfo("localhost", 80)[0][4][0]
    except socket.gaierror as e:
        address = str(e)
    lev.set(
        certificates=ssl.create_default_context().cert_store_stats()["x509_ca"],
        sum=db.execute("select 1 + 2").fetchone()[0],
        strlen=ctypes.CDLL(None).strlen(b"four"),
        lzma=lzma.decompress(lzma.compress(b"x")),
        bz2=bz2.decompress(bz2.compress(b"x")),
        zlib=zlib.decompress(zlib.compress(b"x")),
        sha=hashlib.sha256(b"").hexdigest()[:8],
        zone=str(datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))),
        zones=len(zoneinfo.available_timezones()) > 400,
        answer=asyncio.run(answer()),
        uid=os.getuid(),
        user=user,
        address=address,
        version=list(sys.version_info[:2]),
        encoding=sys.getfilesystemencoding(),
        inner=subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]),
    )


EXPECTED = {
    "sum": 3,
    "strlen": 4,
    "lzma": b"x",
    "bz2": b"x",
    "zlib": b"x",
    "sha": "e3b0c442",
    "zone": "2024-07-01 00:00:00+02:00",
    "zones": True,
    "answer": 42,
    "encoding": "utf-8",
    "inner": b"42\n",
}


def check_everything(host, process):
    assert host.fail is None, host.fail["traceback"]
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert {key: host.data[key] for key in EXPECTED} == EXPECTED
    assert host.data["certificates"] > 50


def test_in_an_empty_root(bundle, tmp_path):
    host = channel.Host(remote(everything)().payload())
    root = empty_root(tmp_path / "root")
    check_everything(host, run_in_root(root, bundle, host, tmp_path / "sock"))
    assert host.data["uid"] == 1000
    assert host.data["user"] is None


def test_in_a_root_with_files_of_its_own(bundle, tmp_path):
    """Names of users and hosts are the image's."""
    host = channel.Host(remote(everything)().payload())
    root = busybox_root(tmp_path / "root")
    (root / "etc" / "passwd").write_text("tool:x:1000:1000::/home/tool:/bin/sh\n")
    (root / "etc" / "hosts").write_text("127.9.9.9 localhost\n")
    check_everything(host, run_in_root(root, bundle, host, tmp_path / "sock"))
    assert host.data["user"] == "tool"
    assert host.data["address"] == "127.9.9.9"


def test_the_images_programs_run(bundle, tmp_path):
    def entry():
        import os
        import subprocess

        from levrt import lev

        shell = subprocess.run(
            "id -u; echo $LD_PRELOAD", shell=True, capture_output=True, text=True
        )
        try:
            with open("/file", "w"):
                writable = True
        except OSError:
            writable = False
        lev.set(out=shell.stdout, writable=writable, root=sorted(os.listdir("/")))

    root = busybox_root(tmp_path / "root")
    for user, mode in (("0:0", "rw"), ("1000:1000", "ro"), ("65534:65534", "rw")):
        host = channel.Host(remote(entry)().payload())
        process = run_in_root(
            root,
            bundle,
            host,
            tmp_path / "sock",
            user=user,
            mode=mode,
            env={"LD_PRELOAD": "/nowhere.so"},
        )
        assert host.fail is None, host.fail["traceback"]
        uid = user.partition(":")[0]
        assert host.data["out"].split() == [uid, "/nowhere.so"], process.stderr
        assert host.data["writable"] == (mode == "rw" and uid == "0")


def helper(x):
    return x * 2


def test_pools_in_a_read_only_root(bundle, tmp_path):
    def entry(method):
        import multiprocessing

        from levrt import lev

        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        children = [
            context.Process(target=put, args=(queue, helper, i)) for i in range(3)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        lev.set(result=sorted(queue.get() for _ in children))

    root = empty_root(tmp_path / "root")
    (root / "dev" / "shm").mkdir(parents=True)
    (root / "dev" / "shm").chmod(0o1777)
    for method in ("fork", "spawn"):
        host = channel.Host(remote(entry)(method).payload())
        process = run_in_root(root, bundle, host, tmp_path / "sock", mode="rw")
        assert host.fail is None, host.fail["traceback"]
        assert host.data == {"result": [0, 2, 4]}, process.stderr


def put(queue, func, x):
    queue.put(func(x))


@pytest.mark.parametrize("python", list(interpreters()))
def test_every_interpreter_is_a_host(python, tmp_path):
    site = importlib.util.find_spec("cloudpickle").submodule_search_locations[0]
    package = str(PACKAGE.parent)
    env = {"PYTHONPATH": f"{package}:{os.path.dirname(site)}"}
    bundle = build_bundle(tmp_path / "cache", python=python, **env)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    payload = subprocess.check_output(
        [python, program, Path(__file__)], env={**os.environ, **env}
    )
    host = channel.Host(payload)
    root = empty_root(tmp_path / "root")
    check_everything(host, run_in_root(root, bundle, host, tmp_path / "sock"))


PROGRAM = """
import ast, sys
tree = ast.parse(open(sys.argv[1]).read())
names = [n for n in tree.body if getattr(n, "name", "") == "everything"]
exec(compile(ast.Module(names, []), sys.argv[1], "exec"))
from levrt.entry import remote
sys.stdout.buffer.write(remote(everything)().payload())
"""


def test_what_is_not_in_it(bundle):
    names = {path.name for path in bundle.rglob("*")}
    assert not names & {"tkinter", "idlelib", "test", "tests", "ensurepip"}
    assert not [
        name for name in names if name.startswith(("_tkinter", "libX", "libtk"))
    ]


def test_every_user_may_read_it(bundle):
    for path in [bundle, *bundle.rglob("*")]:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o755, path
        elif stat.S_ISREG(mode):
            assert stat.S_IMODE(mode) in (0o644, 0o755), path
        else:
            assert stat.S_ISLNK(mode), path
            assert path.resolve().is_relative_to(bundle)
    assert (bundle / "sock").read_bytes() == b""


def test_its_modules_are_compiled(bundle):
    sources = {path for path in bundle.rglob("*.py") if path.name != "boot.py"}
    tag = sys.implementation.cache_tag
    for path in sources:
        compiled = path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"
        assert compiled.exists(), path
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 1, "hash based and not checked"


# How it comes to be there


def test_the_second_time_it_is_found(bundle, cache):
    run = run_builder(cache)
    assert run.stdout == f"{bundle}\n"
    assert run.stderr == ""


def test_the_default_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert levrt.bundle.default_cache() == str(tmp_path / "levrt" / "runtime")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert levrt.bundle.default_cache() == "/home/me/.cache/levrt/runtime"


def test_many_at_once_build_one(tmp_path):
    argv = [sys.executable, str(PACKAGE / "bundle.py"), str(tmp_path)]
    processes = [
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    outputs = [process.communicate() for process in processes]
    assert {process.returncode for process in processes} == {0}
    assert len({out for out, _ in outputs}) == 1
    assert sum("building" in err for _, err in outputs) == 1
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".build")] == []


def test_a_killed_builder_leaves_nothing_in_the_way(tmp_path):
    argv = [sys.executable, str(PACKAGE / "bundle.py"), str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list(tmp_path.glob(".build-*/lib/libc.so*")):
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(tmp_path.glob(".build-*"))
    assert Path(build_bundle(tmp_path)).is_dir()
    assert list(tmp_path.glob(".build-*")) == []


def test_a_new_library_gives_a_new_bundle(tmp_path):
    first = build_bundle(tmp_path)
    (index,) = tmp_path.glob("*.index")
    text = index.read_text()
    line = next(line for line in text.splitlines() if "libc.so" in line)
    size, _, path = line.split(" ", 2)
    index.write_text(text.replace(line, f"{size} 1 {path}"))
    assert run_builder(tmp_path).stdout == f"{first}\n"
    assert index.read_text() == text  # looked at again, and the same
    shutil.rmtree(first)
    assert build_bundle(tmp_path) == first
    assert os.path.exists(f"{first}/boot.py")


def test_a_broken_index_is_made_again(tmp_path):
    first = build_bundle(tmp_path)
    (index,) = tmp_path.glob("*.index")
    for content in ("", "\n\n", "nothing\n1 2 /x\n"):
        index.write_text(content)
        assert build_bundle(tmp_path) == first


# How it goes


def pretend(cache, number, days):
    """A bundle that was last used so many days ago."""
    name = f"{number:024x}"
    (cache / name).mkdir()
    (cache / name / "boot.py").touch()
    (cache / f"{name}.index").write_text(f"{name}\n")
    (cache / f"{name}.used").touch()
    then = time.time() - days * 24 * 3600
    os.utime(cache / f"{name}.used", (then, then))
    return name


def there(cache):
    names = {path.name for path in cache.iterdir() if path.is_dir()}
    indices = {path.read_text().splitlines()[0] for path in cache.glob("*.index")}
    assert names == indices == {path.stem for path in cache.glob("*.used")}
    return names


def test_old_bundles_go(tmp_path):
    old, held, recent = (
        pretend(tmp_path, i, days) for i, days in enumerate((31, 300, 29))
    )
    with open(tmp_path / f"{held}.used") as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        built = Path(build_bundle(tmp_path)).name
        assert there(tmp_path) == {held, recent, built}
    assert run_builder(tmp_path).returncode == 0  # builds none, and so cleans up none
    assert there(tmp_path) == {held, recent, built}
    shutil.rmtree(tmp_path / built)
    build_bundle(tmp_path)
    assert there(tmp_path) == {recent, built}


def test_surplus_bundles_go_sooner(tmp_path):
    names = [pretend(tmp_path, 10 + i, 2 + i) for i in range(12)]
    fresh = [pretend(tmp_path, 100 + i, 0.5) for i in range(9)]
    built = Path(build_bundle(tmp_path)).name
    assert there(tmp_path) == {*fresh, built}
    for name in fresh:
        os.utime(tmp_path / f"{name}.used", (0, 0))
    shutil.rmtree(tmp_path / built)
    few = [pretend(tmp_path, 200 + i, 2) for i in range(7)]
    build_bundle(tmp_path)
    assert there(tmp_path) == {*few, built}
    assert not any((tmp_path / name).exists() for name in names)


def test_a_bundle_in_use_gets_no_older(bundle, cache):
    used = Path(f"{bundle}.used")
    os.utime(used, (0, 0))
    assert run_builder(cache).returncode == 0
    assert time.time() - used.stat().st_mtime < 3600


def test_a_session_holds_its_bundle(engine, home):
    engine.script = Script(hold=True)

    def is_held():
        (used,) = home.glob("cache/levrt/runtime/*.used")
        with used.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    async def main():
        task = await levrt.Cr("img", ports=[80]).start()
        assert is_held()
        await task.stop()

    levrt.run(main())
    assert not is_held()


def test_it_is_built_for_this_content(tmp_path):
    """Another guest package, another bundle."""
    package = tmp_path / "levrt"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "cache"
    argv = [sys.executable, str(package / "bundle.py"), str(cache)]
    first = subprocess.check_output(argv, text=True, stderr=subprocess.DEVNULL)
    with open(package / "guest" / "ctx.py", "a") as f:
        f.write("# changed\n")
    second = subprocess.check_output(argv, text=True, stderr=subprocess.DEVNULL)
    assert first != second


# What can go wrong


def refusal(*args, **env):
    run = run_builder(*args, **env)
    assert run.returncode == 1
    assert run.stdout == ""
    return run.stderr.splitlines()[-1]


def test_usage():
    run = run_builder("a", "b")
    assert run.returncode == 2
    assert run.stderr == "levrt: usage: bundle.py [CACHE_DIR]\n"


def test_a_cache_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    text = refusal(tmp_path / "file" / "cache")
    assert text.startswith(f"levrt: cannot build the runtime bundle in {tmp_path}/file")
    assert "XDG_CACHE_HOME chooses another place" in text


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("_guest*.so", "levrt is not built for this Python: no _guest.cpython-"),
        ("bin/lev-launcher", "levrt is not built: "),
    ],
)
def test_a_package_that_is_not_built(tmp_path, missing, text):
    package = tmp_path / "levrt"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in package.glob(missing):
        path.unlink()
    run = subprocess.run(
        [sys.executable, str(package / "bundle.py"), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith(f"levrt: cannot build the runtime bundle: {text}")


def test_static_interpreters_are_refused():
    busybox = shutil.which("busybox")
    with pytest.raises(levrt.bundle.BundleError, match="statically linked Python"):
        levrt.bundle._interpreter_of(busybox)


def test_what_is_no_program_is_refused():
    with pytest.raises(levrt.bundle.BundleError, match="not a 64-bit ELF program"):
        levrt.bundle._interpreter_of(__file__)


def test_musl_is_refused():
    with pytest.raises(levrt.bundle.BundleError, match="built for musl"):
        levrt.bundle._check_loader("/lib/ld-musl-x86_64.so.1", "/usr/bin/python3")


def test_old_loaders_are_refused():
    with pytest.raises(levrt.bundle.BundleError, match=r"glibc 2\.33"):
        levrt.bundle._check_loader(shutil.which("true"), "/usr/bin/python3")
