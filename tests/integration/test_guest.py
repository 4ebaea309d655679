"""Entries in images of every kind, on an engine here and one elsewhere."""

import logging
import os
import re
import sys
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import guest_helper
import pytest
from guest_helper import Finding
from workflows import failure, lines

import levrt
from levrt import Cr, lev

READ_ONLY = {"read_only": True}
ROOTS = {
    "tools": ("tools", {}),
    "user": ("user", {}),
    "read-only": ("user", READ_ONLY),
    "no-tmp": ("notmp", {}),
    "no-tmp-read-only": ("notmp", READ_ONLY),
    "no-shell": ("nothing", {"user": "1000"}),
    "musl": ("musl", {}),
    "empty": (None, {}),
    "empty-read-only": (None, {"user": "65534:65534", **READ_ONLY}),
    "no-capabilities": ("user", {"cap_drop": ["ALL"], **READ_ONLY}),
    "python": ("python", {}),
}


@pytest.fixture(params=ROOTS)
def root(request, images):
    kind, options = ROOTS[request.param]
    return {"image": images.get(kind) if kind else "", "host_config": options}


@pytest.fixture
def everywhere(root, place):
    return {**root, **place}


async def stored(entry, **how):
    document = await Cr(entry=entry, **{"image": "", **how})
    return await document.get()


@levrt.remote
def library():
    """The standard library with all that it stands on."""
    import bz2
    import ctypes
    import hashlib
    import lzma
    import sqlite3
    import ssl
    import sys
    import time
    import zlib
    import zoneinfo

    text = b"compress me " * 1000
    database = sqlite3.connect(":memory:")
    database.execute("create table t (a)")
    database.executemany("insert into t values (?)", [(n,) for n in range(10)])
    libc = ctypes.CDLL(None)
    summer = zoneinfo.ZoneInfo("Europe/Berlin")
    from datetime import datetime as moment

    lev.set(
        lzma=lzma.decompress(lzma.compress(text)) == text,
        bz2=bz2.decompress(bz2.compress(text)) == text,
        zlib=zlib.decompress(zlib.compress(text)) == text,
        sqlite=database.execute("select sum(a) from t").fetchone()[0],
        authorities=len(ssl.create_default_context().get_ca_certs()),
        ctypes=libc.abs(-7),
        zone=moment(2024, 7, 1, tzinfo=summer).utcoffset().total_seconds(),
        hash=hashlib.sha3_256(b"").hexdigest()[:8],
        version=list(sys.version_info[:3]),
        clock=time.time() > 1_700_000_000,
    )


async def test_the_standard_library(everywhere):
    found = await stored(library(), **everywhere)
    authorities = found.pop("authorities")
    assert authorities > 50
    assert found == {
        "lzma": True,
        "bz2": True,
        "zlib": True,
        "sqlite": 45,
        "ctypes": 7,
        "zone": 7200.0,
        "hash": "a7ffc6f8",
        "version": list(sys.version_info[:3]),
        "clock": True,
    }


@levrt.remote
def processes():
    """Children of every kind, with a helper of the workflow's."""
    import asyncio
    import multiprocessing
    import subprocess
    import sys

    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            lev.set({method: pool.map(guest_helper.times, range(4))})
    code = "import ssl, sys; print(sys.version_info[:2], sys.argv[1:])"
    child = subprocess.run(
        [sys.executable, "-c", code, "a b"], capture_output=True, text=True, check=True
    )

    async def by_asyncio():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('async')", stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        return output.decode().strip()

    lev.set(child=child.stdout.strip(), asyncio=asyncio.run(by_asyncio()))


async def test_children(everywhere):
    version = repr(tuple(sys.version_info[:2]))
    assert await stored(processes(), **everywhere) == {
        "fork": [0, 3, 6, 9],
        "spawn": [0, 3, 6, 9],
        "child": f"{version} ['a b']",
        "asyncio": "async",
    }


@levrt.remote
def replaced():
    import os
    import sys

    lev.set(before=True)
    print("first", flush=True)
    os.execv(sys.executable, [sys.executable, "-c", "print('second'); exit(4)"])


@pytest.mark.parametrize("kind", ["tools", "empty-read-only", "musl"])
async def test_an_entry_that_replaces_its_process(kind, images, place):
    image, options = ROOTS[kind]
    image = images.get(image) if image else ""
    cr = Cr(image, entry=replaced(), host_config=options, check=[4], **place)
    document = await cr
    assert [line.text for line in await document.logs()] == ["first", "second"]
    assert document.run.exit_code == 4
    assert await document.get() == {"before": True}


async def test_programs_of_the_image(images, place):
    @levrt.remote
    def entry(*command):
        import os
        import subprocess

        lev.set(
            said=subprocess.check_output(command, text=True),
            loader=[n for n in os.environ if n.startswith(("LD_", "PYTHON"))],
        )

    busybox = entry("sh", "-c", "id -u; echo $0")
    assert await stored(busybox, image=images.get("user"), **place) == {
        "said": "1000\nsh\n",
        "loader": [],
    }
    assert await stored(entry("/bin/hello"), image=images.get("musl"), **place) == {
        "said": "hello of musl, uid 1000\n",
        "loader": [],
    }


async def test_variables_for_the_images_programs(images):
    @levrt.remote
    def entry():
        import os

        lev.set({name: os.environ.get(name) for name in ("LD_PRELOAD", "PYTHONPATH")})

    env = {"LD_PRELOAD": "/nowhere.so", "PYTHONPATH": "/opt/x"}
    assert await stored(entry(), image=images.get("user"), env=env) == env


# What comes along


async def test_helpers_of_sibling_modules(place):
    findings = [Finding(22), Finding(443, "filtered")]

    @levrt.remote
    def entry(more):
        import importlib

        again = importlib.import_module("guest_helper")
        assert again is guest_helper
        lev.set(
            findings=[f.told() for f in [*findings, *more]],
            times=guest_helper.times(14),
            same=isinstance(more[0], again.Finding),
        )

    assert await stored(entry([Finding(1)]), **place) == {
        "findings": [
            {"port": 22, "state": "open"},
            {"port": 443, "state": "filtered"},
            {"port": 1, "state": "open"},
        ],
        "times": 42,
        "same": True,
    }


async def test_the_guests_levrt():
    @levrt.remote
    def entry():
        import levrt
        from levrt import File, annot, cli, ctx, lev, remote

        lev.set(
            same=ctx is lev is levrt.lev,
            words=cli("x", long_name=1),
            categories=len(annot.cats.Attck),
            names=[
                File.__name__ if isinstance(File, type) else "File",
                remote.__name__,
            ],
        )
        levrt.Cr("image")

    e = await failure(Cr("", entry=entry()), levrt.RemoteError)
    assert "Cr" in str(e)
    assert "container" in str(e)
    assert await e.document.get() == {
        "same": True,
        "words": ["x", "--long-name", "1"],
        "categories": len(levrt.annot.cats.Attck),
        "names": ["File", "remote"],
    }


async def test_what_belongs_to_the_workflow():
    @levrt.remote
    def entry():
        with lev / "name":
            pass

    e = await failure(Cr("", entry=entry()), levrt.RemoteError)
    assert "workflow only" in str(e)


# What comes back

VALUES = {
    "text": "grüße \U0001f980 \x00 end",
    "ints": [0, -1, 2**31 - 1, 2**31, -(2**63), 2**63 - 1],
    "floats": [0.0, -0.5, 1e300, float("inf")],
    "flags": [True, False, None],
    "bytes": bytes(range(256)),
    "when": datetime(2024, 2, 29, 12, 30, 15, 123000, tzinfo=UTC),
    "early": datetime(1901, 1, 1, tzinfo=UTC),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "decimal": Decimal("-1.50E+3"),
    "pattern": re.compile("^a.*z$", re.I | re.M),
    "id": levrt.ObjectId("0123456789abcdef01234567"),
    "nested": {"a.b": {"$set": [{"": 1}, []]}, "empty": {}},
}


async def test_values_as_they_were(place):
    @levrt.remote
    def entry():
        lev.set(VALUES)

    found = await stored(entry(), **place)
    assert found == VALUES
    assert {k: type(v) for k, v in found.items()} == {
        k: type(v) for k, v in VALUES.items()
    }


async def test_what_a_round_trip_changes():
    @levrt.remote
    def entry():
        east = timezone(timedelta(hours=2))
        lev.set(
            pair=(1, (2,)),
            naive=datetime(2024, 1, 1, 10),
            aware=datetime(2024, 1, 1, 12, tzinfo=east),
            fine=datetime(2024, 1, 1, microsecond=123456),
        )

    ten = datetime(2024, 1, 1, 10, tzinfo=UTC)
    assert await stored(entry()) == {
        "pair": [1, [2]],
        "naive": ten,
        "aware": ten,
        "fine": datetime(2024, 1, 1, microsecond=123000, tzinfo=UTC),
    }


async def test_big_values(place):
    @levrt.remote
    def entry():
        lev.set(text="ü" * 3_000_000, blob=b"\xff" * 5_000_000)
        for n in range(5):
            lev.set({f"many.k{n}": list(range(2000))})

    found = await stored(entry(), **place)
    assert found["text"] == "ü" * 3_000_000
    assert found["blob"] == b"\xff" * 5_000_000
    assert found["many"] == {f"k{n}": list(range(2000)) for n in range(5)}


async def test_a_big_closure(place):
    blob = os.urandom(10_000_000)

    @levrt.remote
    def entry():
        import zlib

        lev.set(crc=zlib.crc32(blob), size=len(blob))

    import zlib

    assert await stored(entry(), **place) == {"crc": zlib.crc32(blob), "size": 10**7}


async def test_a_closure_that_is_too_big():
    blob = bytes(60_000_000)

    @levrt.remote
    def entry():
        lev.set(size=len(blob))

    e = await failure(Cr("", entry=entry()), Exception)
    assert "bytes" in str(e)
    assert "files=" in str(e)


async def test_every_acknowledged_write_is_there(place):
    @levrt.remote
    def entry():
        import os
        import signal

        for n in range(50):
            lev.set({f"k{n}": n})
        os.kill(os.getpid(), signal.SIGKILL)

    e = await failure(Cr("", entry=entry(), **place), levrt.TaskFailed)
    assert e.exit_code == 137
    assert await e.document.get() == {f"k{n}": n for n in range(50)}


async def test_output_of_the_shortest_container(tools, place):
    document = await Cr(tools, cmd=["printf", "no newline"], **place)
    assert [line.text for line in await document.logs()] == ["no newline"]
    document = await Cr(tools, cmd=["sh", "-c", "echo a; echo b >&2"], **place)
    found = {(line.stream, line.text) for line in await document.logs()}
    assert found == {("stdout", "a"), ("stderr", "b")}


# Logging


async def test_logging_records_of_the_guest(caplog, place):
    @levrt.remote
    def entry():
        import logging

        logging.getLogger("tool.part").warning("disk at %d%%", 90)
        logging.info("hello")
        logging.debug("not at this level")
        try:
            raise ValueError("logged")
        except ValueError:
            logging.exception("failed")

    caplog.set_level(logging.INFO, "lev")
    task = await Cr("", entry=entry(), **place).start()
    await task
    records = {
        (r.levelname, r.getMessage().splitlines()[0])
        for r in caplog.records
        if r.name == f"lev.ctr.{task.name}"
    }
    assert records == {
        ("WARNING", "tool.part: disk at 90%"),
        ("INFO", "root: hello"),
        ("ERROR", "root: failed"),
    }
    assert "ValueError: logged" in caplog.text


async def test_progress_of_the_guest(caplog):
    @levrt.remote
    def entry():
        lev.progress(0.25)
        lev.progress(1, "done")

    caplog.set_level(logging.INFO, "lev")
    task = await Cr("", entry=entry()).start()
    await task
    said = [r.getMessage() for r in caplog.records if r.name == "lev"]
    assert f"progress: 0.25 ({task.name})" in said
    assert f"progress: 1 ({task.name}: done)" in said


async def test_output_is_logged_at_debug(caplog, tools):
    caplog.set_level(logging.DEBUG, "lev.ctr")
    task = await Cr(tools, cmd=["sh", "-c", "echo one; printf two"]).start()
    await task
    assert [
        (r.levelname, r.getMessage())
        for r in caplog.records
        if r.name == f"lev.ctr.{task.name}"
    ] == [("DEBUG", "one"), ("DEBUG", "two")]


# The image's own Python


async def test_packages_of_the_image(images, place):
    @levrt.remote
    def entry():
        import of_the_image

        lev.set(name=of_the_image.NAME, behind="/lev" in of_the_image.__file__)

    image = images.get("python")
    assert await stored(entry(), image=image, **place) == {
        "name": "dist",
        "behind": False,
    }


async def test_the_images_own_interpreter(images, place):
    @levrt.remote(python="image")
    def entry():
        import sys

        import of_the_image

        lev.set(
            executable=sys.executable,
            prefix=sys.prefix,
            name=of_the_image.NAME,
            helper=guest_helper.times(2),
            when=datetime(2024, 1, 1, tzinfo=UTC),
        )

    assert await stored(entry(), image=images.get("python"), **place) == {
        "executable": "/usr/bin/python3",
        "prefix": "/usr",
        "name": "dist",
        "helper": 6,
        "when": datetime(2024, 1, 1, tzinfo=UTC),
    }


async def test_an_interpreter_of_another_version(images, place):
    @levrt.remote(python="image")
    def entry():
        pass

    cr = Cr(images.get("old-python"), entry=entry(), **place)
    e = await failure(cr, levrt.TaskFailed)
    assert "3.9" in str(e)
    assert "{}.{}".format(*sys.version_info[:2]) in str(e)


async def test_an_image_without_an_interpreter(tools):
    @levrt.remote(python="image")
    def entry():
        pass

    e = await failure(Cr(tools, entry=entry()), levrt.StartFailed)
    assert "python3 is not in the image" in str(e)


async def test_output_of_entries_comes_as_it_is_printed(place):
    @levrt.remote
    def entry():
        import sys

        print("line")
        print("more", file=sys.stderr)
        sys.stdin.read()

    assert sorted(await lines(Cr("", entry=entry(), **place))) == ["line", "more"]
