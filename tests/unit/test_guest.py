"""What runs inside: boot, lev, logging, the end of an entry.

The guest runs on the bundle's interpreter, started as in a container, against
a host that speaks the channel's frames.
"""

import ast
import marshal
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from guest_roots import build_bundle, channel

import levrt.bundle
from levrt.entry import remote


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return build_bundle(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def run(bundle, tmp_path):
    """run(entry, *argv) → the host; `host.process` is how it ended."""

    def run(func, *argv, args=(), env=None, setup=None, level=None):
        call = remote(func)(*args)
        host = channel.Host(call.payload(), argv, entry="job", level=level)
        if setup is not None:
            setup(host)
        host.process = channel.run_guest(bundle, host, tmp_path / "sock", env=env)
        return host

    return run


def good(host):
    assert host.fail is None, host.fail["traceback"]
    assert host.process.returncode == host.exit == 0, host.process.stderr
    return host.data


# lev.set


def test_set_merges_top_level_keys(run):
    def entry():
        from levrt import ctx, lev

        lev.set({"a": 1, "b": {"x.y": [1, {"$z": b"\0\xff"}]}})
        lev.set(a=2, c=None)
        lev.set("d", "text")
        lev.update({"e": 1.5}, f=True)
        lev.set({"g": 1}, h=2)
        ctx.set(same=lev is ctx)
        lev.set(value=3, data={"i": 4})

    host = run(entry)
    assert good(host) == {
        "a": 2,
        "b": {"x.y": [1, {"$z": b"\0\xff"}]},
        "c": None,
        "d": "text",
        "e": 1.5,
        "f": True,
        "g": 1,
        "h": 2,
        "same": True,
        "value": 3,
        "i": 4,
    }
    assert host.seqs == [1, 2, 3, 4, 5, 6, 7]


def test_set_of_nothing_sends_nothing(run):
    def entry():
        from levrt import lev

        lev.set()
        lev.set({})

    host = run(entry)
    assert good(host) == {}
    assert host.seqs == []


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((5,), {}, "TypeError: lev.set: data must be a mapping, not int; a key"),
        (("a",), {}, "TypeError: lev.set('a', …) takes one value after the key"),
        (("a",), {"value": 1}, "TypeError: lev.set('a', …) takes one value after"),
        (("a", 1, 2), {}, "TypeError: lev.set('a', …) takes one value after"),
        (({"a": 1}, 2), {}, "TypeError: lev.set takes a mapping, keywords, or a key"),
        (({"_id": 1},), {}, "ValueError: lev.set: the key _id is reserved"),
        (({"_lev": 1},), {}, "ValueError: lev.set: the key _lev is reserved"),
        (({"_lev.seq": 1},), {}, "ValueError: lev.set: the key _lev.seq is reserved"),
        (({"": 1},), {}, "ValueError: lev.set: a key must not be empty"),
        (({"a": {"b": [0, {1, 2}]}},), {}, "TypeError: a.b[1]"),
        (({1: 2},), {}, "TypeError: lev.set: a key must be str, not int"),
        ((), {"a": {"b": 2**63}}, "OverflowError: a.b"),
        ((), {"a": "\ud800"}, "ValueError: a"),
    ],
)
def test_set_refuses_before_it_sends(run, args, kwargs, error):
    def entry():
        from levrt import lev

        lev.set(before=1)
        try:
            lev.set(*args, **kwargs)
        except Exception as e:
            lev.set(error=f"{type(e).__name__}: {e}")

    host = run(entry)
    data = good(host)
    assert data.pop("error").startswith(error)
    assert data == {"before": 1}
    assert host.seqs == [1, 2]


def test_set_returns_after_the_acknowledgement(run):
    order = []

    def entry():
        import sys

        from levrt import lev

        lev.set(a=1)
        sys.stdout.write("done\n")
        lev.progress(0.5)

    def setup(host):
        host.before_ack = lambda: order.append(list(host.progress))

    host = run(entry, setup=setup)
    good(host)
    assert order == [[]]  # nothing came before the answer
    assert host.progress == [(0.5, None)]


@pytest.mark.parametrize(
    ("name", "caught"),
    [
        ("TypeError", "TypeError"),
        ("StoreError", "StoreError"),
        ("DocumentTooLarge", "DocumentTooLarge"),
        ("StoreUnavailable", "StoreUnavailable"),
        ("UnicodeDecodeError", "StoreError"),  # it wants five arguments
        ("print", "StoreError"),  # no exception at all
    ],
)
def test_a_refusal_raises_what_it_names(run, name, caught):
    def entry():
        import levrt

        try:
            levrt.lev.set(bad=1)
        except Exception as e:
            levrt.lev.set(
                type=type(e).__name__,
                text=str(e),
                store=isinstance(e, levrt.StoreError),
            )

    def setup(host):
        host.refuse = lambda data: (name, "the reason") if "bad" in data else None

    data = good(run(entry, setup=setup))
    assert data["type"] == caught
    assert "the reason" in data["text"]
    assert data["store"] == (caught not in ("TypeError",))


def test_more_than_a_frame_holds(run):
    def entry():
        from levrt import DocumentTooLarge, lev

        try:
            lev.set(big=b"x" * (48 * 1024 * 1024))
        except DocumentTooLarge as e:
            lev.set(error=str(e))

    assert "at most 50331648 can be sent at once" in good(run(entry))["error"]


def test_a_big_value_arrives(run):
    def entry(size):
        from levrt import lev

        lev.set(big=bytes(range(256)) * (size // 256))

    size = 16 * 1024 * 1024
    assert good(run(entry, args=(size,)))["big"] == bytes(range(256)) * (size // 256)


def test_threads_store_at_once(run):
    def entry():
        import threading

        from levrt import lev

        def work(n):
            for i in range(50):
                lev.set({f"{n}.{i}": i})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    host = run(entry)
    assert len(good(host)) == 400
    assert host.seqs == list(range(1, 401))


def test_a_thread_is_joined_before_the_end(run):
    def entry():
        import threading

        from levrt import lev

        go = threading.Event()

        def work():
            go.wait()
            lev.set(late=True)

        threading.Thread(target=work).start()
        threading.main_thread()
        threading.Timer(0.05, go.set).start()

    assert good(run(entry)) == {"late": True}


def test_forks_share_the_channel(run):
    def entry():
        import os

        from levrt import lev

        lev.set(before=1)
        children = []
        for n in range(4):
            pid = os.fork()
            if pid == 0:
                for i in range(25):
                    lev.set({f"{n}.{i}": os.getpid()})
                os._exit(0)
            children.append(pid)
        for i in range(25):
            lev.set({f"parent.{i}": i})
        codes = [os.waitpid(pid, 0)[1] for pid in children]
        lev.set(codes=codes)

    host = run(entry)
    data = good(host)
    assert data["codes"] == [0, 0, 0, 0]
    assert len(data) == 127
    assert host.seqs == list(range(1, 128))


def test_a_fork_killed_while_it_waits_breaks_nothing(run):
    def entry():
        import os
        import signal

        from levrt import lev

        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(told, b"x")
            lev.set(child=1)  # its acknowledgement comes when it is dead
            os._exit(0)
        os.read(ready, 1)
        lev.set(parent=1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        lev.set(after=1)

    host = run(entry)
    data = good(host)
    assert data["parent"] == data["after"] == 1
    assert host.seqs == sorted(set(host.seqs))


def is_running(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_an_unread_answer_of_a_dead_fork_is_passed_over(run):
    """The child dies between its frame and its answer, by the host's doing."""
    killed = []

    def entry():
        import os

        from levrt import lev

        pid = os.fork()
        if pid == 0:
            lev.set(child=os.getpid())
            os._exit(0)
        lev.set(status=os.waitpid(pid, 0)[1])

    def setup(host):
        def kill():
            pid = host.data.get("child")
            if pid is not None and not killed:
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)
                while is_running(pid):
                    os.sched_yield()

        host.before_ack = kill

    host = run(entry, setup=setup)
    assert good(host)["status"] == signal.SIGKILL
    assert killed
    assert host.seqs == [1, 2]


def test_a_fork_that_returns_from_the_entry_is_not_the_end(run):
    def entry():
        import os
        import sys

        from levrt import lev

        pid = os.fork()
        if pid == 0:
            sys.exit(7)
        lev.set(code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    host = run(entry)
    assert good(host) == {"code": 7}


def test_a_fork_that_raises_is_not_the_failure(run):
    def entry():
        import os

        from levrt import lev

        pid = os.fork()
        if pid == 0:
            raise ValueError("in the child")
        lev.set(code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    host = run(entry)
    assert good(host) == {"code": 1}
    assert "ValueError: in the child" in host.process.stderr


def test_a_daemon_that_closed_everything(run):
    def entry():
        import os

        from levrt import lev

        told, tell = os.pipe()
        if os.fork() == 0:
            os.dup2(tell, 0)
            os.closerange(1, 1000)
            try:
                lev.set(daemon=1)
            except ConnectionError as e:
                os.write(0, str(e).encode())
            os._exit(0)
        os.close(tell)
        lev.set(said=os.read(told, 1000).decode())

    assert "it was closed in this process" in good(run(entry))["said"]


def test_a_fork_that_lives_longer_than_the_entry(run):
    def entry():
        import os

        from levrt import lev

        told, tell = os.pipe()
        pid = os.fork()
        if pid:
            os.close(told)
            return  # `tell` is closed when this process has ended
        os.close(tell)
        os.read(told, 1)
        try:
            lev.set(late=1)
        except ConnectionError as e:
            print(e, flush=True)
        os._exit(0)

    host = run(entry)
    assert good(host) == {}
    assert host.process.stdout == "nothing can be stored: the entry has ended\n"


def test_ctrl_c_leaves_the_channel_whole(run):
    """A handler that raises in the middle of lev.set: the cleanup stores too."""

    def entry():
        import os
        import signal

        from levrt import lev

        lev.set(pid=os.getpid())
        caught = 0
        for i in range(200):
            try:
                lev.set({f"k{i}": b"x" * 300_000})
            except KeyboardInterrupt:
                caught += 1
        lev.set(
            caught=caught, handler=signal.getsignal(2) is signal.default_int_handler
        )

    def setup(host):
        def interrupt():
            if 2 <= len(host.seqs) <= 150:
                os.kill(host.data["pid"], signal.SIGINT)

        host.before_ack = interrupt

    host = run(entry, setup=setup)
    data = good(host)
    assert data["caught"] >= 100  # signals of one kind may merge
    assert data["handler"] is True
    assert len([key for key in data if key.startswith("k")]) == 200


def test_a_destructor_in_the_middle_of_a_set(run):
    def entry():
        from levrt import lev

        class Evil(dict):
            def keys(self):
                return super().keys()

        lev.set(Evil(a=1))
        channel = lev._channel
        channel._acquire()
        try:
            lev.set(b=1)
        except RuntimeError as e:
            error = str(e)
        finally:
            channel._release()
        lev.set(error=error)

    data = good(run(entry))
    assert "while this thread was storing something" in data["error"]
    assert data["a"] == 1


def test_the_workflow_goes_away(bundle, tmp_path):
    def entry():
        from levrt import lev

        lev.set(a=1)
        try:
            lev.set(b=1)
        except ConnectionError as e:
            print("gone:", e)
        raise SystemExit(5)

    host = channel.Host(remote(entry)().payload())

    class Gone(Exception):
        pass

    def leave():
        if len(host.seqs) == 2:
            raise Gone

    host.before_ack = leave
    with pytest.raises(Gone):
        channel.run_guest(bundle, host, tmp_path / "sock")
    host = channel.Host(remote(entry)().payload())
    host.before_ack = leave
    with channel.Listener(tmp_path / "sock", host) as listener:
        process = subprocess.run(
            channel.command(bundle),
            env=channel.environment(f"unix:{tmp_path}/sock"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        listener.host.error = None
    assert process.returncode == 5
    assert "gone: " in process.stdout


def test_only_in_the_workflow(run):
    def entry():
        import levrt
        from levrt import Concurrent, Cr, TaskFailed, lev

        said = []
        for misuse in (
            lambda: lev / "a",
            lambda: lev.doc,
            lambda: lev.coll,
            lambda: lev.job_id,
            lambda: Cr("image"),
            lambda: Concurrent.start,
            lambda: levrt.run(None),
        ):
            try:
                misuse()
            except RuntimeError as e:
                said.append(str(e))
        lev.set(
            said=said, sub=issubclass(TaskFailed, levrt.LevError), x=Cr | None and 1
        )

    data = good(run(entry))
    assert len(data["said"]) == 7
    assert all("in the workflow only" in text for text in data["said"])
    assert data["sub"] is True


def test_what_levrt_has_inside(run):
    def entry():
        import datetime

        import levrt
        from levrt import File, ObjectId, annot, bson, cli, lev, remote

        @remote
        def plain(x):
            return x + 1

        @remote(python="image")
        def other(x):
            return x + 2

        lev.set(
            id=ObjectId("0123456789abcdef01234567"),
            cli=cli("a", b=1),
            calls=[plain(1), other(1)],
            when=datetime.datetime(2020, 1, 2),
            file=File is not None,
            annot=annot.__name__,
            bson=bson.decode(bson.encode({"a": 1})),
            dir="lev" in dir(levrt),
        )

    data = good(run(entry))
    assert str(data["id"]) == "0123456789abcdef01234567"
    assert data["cli"] == ["a", "-b", "1"]
    assert data["calls"] == [2, 3]
    assert data["annot"] == "levrt.annot"
    assert data["bson"] == {"a": 1}
    assert data["dir"] is True


# progress and logging


def test_progress(run):
    def entry():
        from levrt import lev

        lev.progress(0)
        lev.progress(0.25, "a quarter")
        lev.progress(1.0, text=None)
        said = []
        for bad in ((1.5,), (-0.1,), ("x",), (True,), (0.5, 3), (float("nan"),)):
            try:
                lev.progress(*bad)
            except (TypeError, ValueError) as e:
                said.append(f"{type(e).__name__}: {e}")
        lev.set(said=said)

    host = run(entry)
    assert host.progress == [(0.0, None), (0.25, "a quarter"), (1.0, None)]
    assert [text.partition(":")[0] for text in good(host)["said"]] == [
        "ValueError",
        "ValueError",
        "TypeError",
        "TypeError",
        "TypeError",
        "ValueError",
    ]


def test_logging_records_come_over(run):
    def entry():
        import logging

        log = logging.getLogger("my.tool")
        log.debug("unseen")
        log.info("hello %s", "you")
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            log.exception("bad \ud800 \0")
        logging.warning("root")

    host = run(entry)
    good(host)
    assert host.logs[0] == (20, "my.tool", "hello you")
    assert host.logs[1][:2] == (40, "my.tool")
    assert host.logs[1][2].startswith("bad \\ud800 \\x00\nTraceback")
    assert "ZeroDivisionError" in host.logs[1][2]
    assert host.logs[2] == (30, "root", "root")
    assert len(host.logs) == 3


def test_the_workflow_chooses_the_level(run):
    def entry():
        import logging

        logging.getLogger("x").debug("seen")

    host = run(entry, level=10)
    assert host.logs == [(10, "x", "seen")]


def test_basic_config_still_works(run):
    def entry():
        import logging
        import sys

        logging.basicConfig(
            level=logging.ERROR, stream=sys.stdout, format="%(message)s"
        )
        logging.error("both")
        logging.warning("neither")
        logging.basicConfig(force=True, stream=sys.stdout, format="again %(message)s")
        logging.error("both")

    host = run(entry)
    good(host)
    assert host.process.stdout == "both\nagain both\n"
    assert host.logs == [(40, "root", "both")] * 2


def test_nothing_is_imported_for_nothing(run):
    def entry():
        import sys

        from levrt import lev

        lev.set(modules=sorted(sys.modules))

    modules = good(run(entry))["modules"]
    for name in ("os", "logging", "functools", "traceback", "cloudpickle", "socket"):
        assert name not in modules


# The end of an entry


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [(None, 0), (0, 0), (3, 3), (255, 255), (True, 1), ("why", 1), (256, 0), (-1, 255)],
)
def test_sys_exit(run, code, exit_code):
    def entry():
        import sys

        sys.exit(code)

    host = run(entry)
    assert host.exit == host.process.returncode == exit_code
    assert host.fail is None
    assert ("why" in host.process.stderr) == (code == "why")


def test_os_exit_just_ends(run):
    def entry():
        import os

        from levrt import lev

        lev.set(a=1)
        os._exit(3)

    host = run(entry)
    assert host.process.returncode == 3
    assert host.exit is None
    assert host.data == {"a": 1}


def test_a_kill_just_ends(run):
    def entry():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    host = run(entry)
    assert host.process.returncode == -9
    assert host.exit is None
    assert host.fail is None


class ToolError(ValueError):
    pass


def fails(depth):
    if depth:
        fails(depth - 1)
    raise ToolError("no such port: \udcff")


def test_an_exception_has_the_users_file_and_line(run):
    def entry():
        from levrt import lev

        lev.set(before=1)
        fails(1)

    host = run(entry)
    assert host.process.returncode == host.exit == 1
    assert host.data == {"before": 1}
    fail = host.fail
    assert fail["type"] == "ToolError"
    assert fail["module"] == __name__
    assert fail["text"] == "no such port: \\udcff"
    assert fail["builtin"] == "ValueError"
    line = fails.__code__.co_firstlineno + 3
    assert f'File "{__file__}", line {line}, in fails' in fail["traceback"]
    assert 'raise ToolError("no such port: \\udcff")' in fail["traceback"]
    assert "in entry\n    fails(1)\n" in fail["traceback"]
    assert "levrt/guest" not in fail["traceback"]
    assert "ToolError" in host.process.stderr


def test_exceptions_that_cannot_be_shown(run):
    def entry():
        class Bad(Exception):
            def __str__(self):
                raise RuntimeError("no")

        raise Bad

    host = run(entry)
    assert host.exit == 1
    assert host.fail["text"] == "<its str() raised RuntimeError>"
    assert host.fail["builtin"] == "Exception"


def test_a_long_text_is_bounded(run):
    def entry():
        raise ValueError("x" * 1_000_000)

    host = run(entry)
    assert len(host.fail["text"]) < 70_000
    assert "bytes left out" in host.fail["text"]
    assert len(host.fail["traceback"]) < 270_000


def test_exception_groups_and_notes(run):
    def entry():
        error = ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        error.add_note("a note")
        raise error

    host = run(entry)
    assert host.fail["type"] == host.fail["builtin"] == "ExceptionGroup"
    assert "a note" in host.fail["traceback"]
    assert "KeyError: 'two'" in host.fail["traceback"]


def test_keyboard_interrupt(run):
    def entry():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    host = run(entry)
    assert host.exit == host.process.returncode == 130
    assert host.fail["type"] == "KeyboardInterrupt"


def test_an_exit_function_may_store(run):
    def entry():
        import atexit

        from levrt import lev

        atexit.register(lambda: lev.set(late=1))

    assert good(run(entry)) == {"late": 1}


def test_an_exception_and_an_exit_function(run):
    def entry():
        import atexit

        from levrt import lev

        atexit.register(lambda: lev.set(late=1))
        raise ValueError("x")

    host = run(entry)
    assert host.data == {"late": 1}
    assert host.exit == 1


def test_async_entries(run):
    async def entry():
        import asyncio

        from levrt import lev

        await asyncio.gather(
            *(asyncio.to_thread(lev.set, {str(i): i}) for i in range(5))
        )
        lev.set(done=True)

    assert good(run(entry)) == {**{str(i): i for i in range(5)}, "done": True}


def test_stdout_closed_or_replaced(run):
    def closed():
        import sys

        print("seen")
        sys.stdout.close()

    def replaced():
        import io
        import sys

        print("seen", end="")
        sys.stdout = io.StringIO()
        print("unseen")

    def nothing():
        import sys

        print("seen")
        sys.stdout = sys.stderr = None

    for entry in (closed, replaced, nothing):
        host = run(entry)
        good(host)
        assert host.process.stdout.strip() == "seen"


def test_lines_are_out_when_the_process_is_killed(run):
    def entry():
        import os

        print("line")
        os.kill(os.getpid(), 9)

    assert run(entry).process.stdout == "line\n"


# The surroundings


def test_argv(run):
    def entry():
        import sys

        from levrt import lev

        lev.set(argv=sys.argv, orig=sys.executable)

    data = good(run(entry, "--fast", "é", ""))
    assert data["argv"] == ["entry", "--fast", "é", ""]
    assert data["orig"].endswith("/bin/python3")


def test_the_images_variables_come_back(run):
    def entry():
        import os
        import subprocess
        import sys

        from levrt import lev

        seen = subprocess.check_output(["env"], text=True).splitlines()
        code = "import os, sys; print(os.environ['PYTHONPATH'], '/nowhere' in sys.path)"
        inner = subprocess.check_output([sys.executable, "-c", code], text=True)
        lev.set(
            environ=dict(os.environ),
            child=[line for line in seen if line.startswith(("PYTHON", "LD_", "LEV_"))],
            path=sys.path,
            inner=inner,
        )

    host = run(
        entry,
        env={"PYTHONPATH": "/nowhere", "PYTHONHOME": "/x", "LD_LIBRARY_PATH": "/y"},
    )
    data = good(host)
    assert data["inner"] == "/nowhere False\n"
    assert data["environ"]["PYTHONPATH"] == "/nowhere"
    assert data["environ"]["PYTHONHOME"] == "/x"
    assert {line.partition("=")[0] for line in data["child"]} == {
        "PYTHONPATH",
        "PYTHONHOME",
        "LD_LIBRARY_PATH",
        "LEV_SPAWN",
    }
    assert "LEV_TOKEN" not in data["environ"]
    assert "LEV_CHANNEL" not in data["environ"]
    assert "/nowhere" not in data["path"]


def test_certificates(run):
    def entry():
        import os
        import ssl

        from levrt import lev

        context = ssl.create_default_context()
        lev.set(
            n=context.cert_store_stats()["x509_ca"], file=os.environ["SSL_CERT_FILE"]
        )

    assert good(run(entry))["n"] > 50
    assert good(run(entry, env={"SSL_CERT_FILE": "/dev/null"}))["file"] == "/dev/null"


def test_the_process_has_a_name_and_builtins(run):
    def entry():
        from levrt import lev

        with open("/proc/self/comm") as f:
            lev.set(comm=f.read())
        lev.set(help=repr(help), home=__import__("os").path.expanduser("~x"))
        exit(4)

    host = run(entry)
    assert host.exit == 4
    assert host.data["comm"] == "python3\n"
    assert host.data["help"].startswith("Type help()")


def test_exec_of_sys_executable(run):
    def entry():
        import os
        import sys

        code = "import sys, sqlite3, levrt; print(sys.executable, levrt.cli('a'))"
        os.execv(sys.executable, [sys.executable, "-c", code])

    host = run(entry)
    assert host.process.returncode == 0, host.process.stderr
    assert host.process.stdout.endswith("/bin/python3 ['a']\n")


def test_packages_of_the_image(run, tmp_path):
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / "venv" / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    (site / "of_the_image.py").write_text("x = 5\n")
    (site / "json.py").write_text("raise ImportError\n")

    def entry():
        import json

        import of_the_image

        from levrt import lev

        lev.set(x=json.loads(str(of_the_image.x)))

    assert good(run(entry, env={"PATH": f"{tmp_path}/venv/bin:/bin"})) == {"x": 5}


# The abstract socket and the relay


def test_by_the_relay(bundle, tmp_path):
    def entry():
        from levrt import lev

        for i in range(20):
            lev.set({str(i): b"x" * 200_000})

    host = channel.Host(remote(entry)().payload())
    name = f"levrt-test-{os.getpid()}"
    env = channel.environment(f"abstract:{name}")
    guest = subprocess.Popen(channel.command(bundle), env=env)
    near, far = socket.socketpair()
    relay = subprocess.Popen(
        [f"{bundle}/bin/lev-launcher", "relay", name], stdin=far, stdout=far, env=env
    )
    far.close()
    host.serve(near)
    assert host.error is None
    assert guest.wait(60) == relay.wait(60) == 0
    assert host.exit == 0
    assert len(host.data) == 20


def test_the_abstract_socket_wants_the_token(bundle):
    host = channel.Host(remote(lambda: None)().payload())
    name = f"levrt-test-token-{os.getpid()}"
    env = channel.environment(f"abstract:{name}")
    guest = subprocess.Popen(channel.command(bundle), env=env)
    try:
        for said in (b"f" * len(channel.TOKEN), b""):
            with connect_abstract(name) as wrong:
                wrong.sendall(said)
                wrong.shutdown(socket.SHUT_WR)
                assert wrong.recv(1) == b""  # it hangs up without a word
        with connect_abstract(name) as right:
            right.sendall(channel.TOKEN.encode())
            host.serve(right)
        assert host.error is None
        assert host.exit == guest.wait(60) == 0
    finally:
        guest.kill()
        guest.wait()


def connect_abstract(name):
    end = time.monotonic() + 30
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect("\0" + name)
        except ConnectionRefusedError:
            sock.close()
            assert time.monotonic() < end
            time.sleep(0.005)
        else:
            return sock


def test_no_channel(bundle, tmp_path):
    for address in (f"unix:{tmp_path}/none", "tcp:x", ""):
        process = subprocess.run(
            channel.command(bundle),
            env=channel.environment(address),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == 70
        assert re.match("levrt: no way to the workflow by .*", process.stderr)


def test_the_answer_is_cut_short(bundle, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen(1)

        def serve():
            connection, _ = listener.accept()
            with connection:
                channel.read_frame(connection)
                connection.sendall(b"\xff\0\0\0half")

        thread = threading.Thread(target=serve)
        thread.start()
        process = subprocess.run(
            channel.command(bundle),
            env=channel.environment(f"unix:{tmp_path}/sock"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        thread.join()
    assert process.returncode == 70
    assert "closed the channel" in process.stderr


def test_a_payload_that_does_not_load(bundle, tmp_path):
    host = channel.Host(b"garbage")
    process = channel.run_guest(bundle, host, tmp_path / "sock")
    assert process.returncode == host.exit == 1
    assert host.fail is not None


# The image's own interpreter


def image_command(bundle, python=sys.executable):
    """What the core runs for @remote(python="image")."""
    return [python, "-X", "utf8", f"{bundle}/boot.py"]


def fails_in_helper():
    raise ToolError("bad")


def image_entry():
    import logging
    import os
    import sys

    from levrt import lev

    logging.getLogger("x").warning("logged")
    codec = sys.modules["levrt.guest.channel"].encode.__module__
    lev.set(prefix=sys.prefix, path=sys.path, codec=codec, argv=sys.argv)
    lev.set(pool=bool(os.environ.get("LEV_SPAWN")), big=b"x" * 100_000, n=2**40)
    if sys.argv[1:] == ["fail"]:
        fails_in_helper()


def test_on_the_images_interpreter(bundle, tmp_path):
    host = channel.Host(remote(image_entry)().payload(), ["a"])
    process = channel.run_guest(
        bundle, host, tmp_path / "sock", argv=image_command(bundle)
    )
    host.process = process
    data = good(host)
    assert data["prefix"] == sys.prefix
    assert f"{bundle}/site" in data["path"]
    assert bundle not in data["path"]
    assert data["codec"] == "levrt._guest"
    assert data["argv"] == ["image_entry", "a"]
    assert data["n"] == 2**40
    assert host.logs == [(30, "x", "logged")]


def test_where_the_codec_in_c_cannot_be_loaded(bundle, tmp_path):
    copy = tmp_path / "bundle"
    copy.mkdir()
    shutil.copy(f"{bundle}/boot.py", copy)
    shutil.copytree(
        f"{bundle}/site", copy / "site", ignore=shutil.ignore_patterns("_guest*")
    )
    host = channel.Host(remote(image_entry)().payload(), ["fail"])
    process = channel.run_guest(copy, host, tmp_path / "sock", argv=image_command(copy))
    assert process.returncode == host.exit == 1
    assert host.data["codec"] == "levrt.guest.purebson"
    assert host.fail["type"] == "ToolError"
    assert "in fails_in_helper" in host.fail["traceback"]


def test_an_interpreter_of_another_version(bundle, tmp_path):
    """Whatever the machine has: the bundle says that it is for another one."""
    copy = tmp_path / "bundle"
    copy.mkdir()
    shutil.copy(f"{bundle}/boot.py", copy)
    shutil.copytree(f"{bundle}/site", copy / "site")
    shutil.rmtree(copy / "site" / "levrt" / "__pycache__")
    (copy / "site" / "levrt" / "_bundle.py").write_text("PYTHON = (3, 99, 1)\n")
    host = channel.Host(remote(image_entry)().payload())
    process = channel.run_guest(copy, host, tmp_path / "sock", argv=image_command(copy))
    assert process.returncode == host.exit == 1
    version = "{}.{}.{}".format(*sys.version_info[:3])
    text = (
        f"the image's Python ({sys.executable}) is {version}, the workflow's is 3.99.1"
    )
    assert host.fail["text"].startswith(text)
    assert host.fail["builtin"] == host.fail["type"] == "RuntimeError"
    assert text in process.stderr
    assert host.hello["python"] == version


def test_a_payload_of_another_version(bundle, tmp_path):
    payload = list(marshal.loads(remote(image_entry)().payload()))
    payload[1] = (3, 99)
    host = channel.Host(marshal.dumps(tuple(payload)))
    process = channel.run_guest(bundle, host, tmp_path / "sock")
    assert process.returncode == 1
    assert "the payload is of format 1 for Python (3, 99)" in host.fail["text"]


def test_old_syntax_in_what_old_interpreters_read():
    """boot.py and mismatch.py have to compile on any Python 3."""
    for name in ("boot", "mismatch", "facade"):
        path = Path(levrt.bundle.__file__).parent / "guest" / f"{name}.py"
        ast.parse(path.read_text(), feature_version=(3, 4))
