"""Bad input and bad ends: the type, and a text that says what to do."""

import os
import pickle
import re
import threading

import pytest
from workflows import failure, lines, sh

import levrt
from levrt import Cr, lev

HERE = __file__


def line_of(text):
    """The number of the line of this file that ends with the comment."""
    with open(HERE) as f:
        for number, line in enumerate(f, 1):
            if line.rstrip().endswith(f"# {text}"):
                return number
    raise AssertionError(text)


# images


async def test_an_image_that_does_not_exist(registry):
    image = f"{registry}/no/such-image:1"
    e = await failure(Cr(image), levrt.ImageNotFound)
    assert image in str(e)
    assert "pull" in str(e)


async def test_a_tag_that_does_not_exist(engine, tools, registry):
    engine.push(tools, f"{registry}/tagged/tools:1")
    e = await failure(Cr(f"{registry}/tagged/tools:2"), levrt.ImageNotFound)
    assert f"{registry}/tagged/tools:2" in str(e)
    engine.untag(f"{registry}/tagged/tools:1")


async def test_an_image_that_must_not_be_fetched(registry):
    image = f"{registry}/no/such-image:1"
    e = await failure(Cr(image, pull="never"), levrt.ImageNotFound)
    assert 'pull="never" forbids' in str(e)


@pytest.mark.parametrize("image", ["UPPER", "a b", "x@sha256:12", "a//b", ":1"])
async def test_a_reference_that_does_not_parse(image):
    with pytest.raises(ValueError, match="^image: ") as info:
        Cr(image)
    assert image in str(info.value)


async def test_an_image_without_a_program(images):
    e = await failure(Cr(images.get("nothing")), levrt.StartFailed)
    assert "has no program to run" in str(e)
    assert "cmd= or entry=" in str(e)


async def test_an_image_of_another_architecture(images):
    @levrt.remote
    def entry():
        pass

    e = await failure(Cr(images.get("foreign"), entry=entry()), levrt.StartFailed)
    assert "s390x" in str(e)
    assert os.uname().machine in str(e)
    assert 'python="image"' in str(e)


# programs


async def test_a_program_that_is_missing(tools):
    e = await failure(Cr(tools, cmd=["/opt/nowhere", "-x"]), levrt.StartFailed)
    assert (e.exit_code, e.phase) == (127, "start")
    assert "/opt/nowhere is not in the image" in str(e)
    assert "No such file" in str(e)
    e = await failure(Cr(tools, cmd=["nmap"]), levrt.StartFailed)
    assert e.exit_code == 127
    assert "nmap is not in the image" in str(e)


async def test_a_program_that_is_not_executable(tools):
    e = await failure(Cr(tools, cmd=["/bin/not-executable"]), levrt.StartFailed)
    assert (e.exit_code, e.phase) == (126, "start")
    assert "/bin/not-executable" in str(e)
    assert "cannot be executed" in str(e)
    assert "mode" in str(e)


async def test_a_shell_that_ends_with_127_is_no_start_failure(tools):
    e = await failure(sh(tools, "no-such-command"), levrt.TaskFailed)
    assert type(e) is levrt.TaskFailed
    assert e.exit_code == 127
    assert "no-such-command: not found" in str(e)


async def test_an_image_without_python(tools):
    @levrt.remote(python="image")
    def entry():
        pass

    e = await failure(Cr(tools, entry=entry()), levrt.StartFailed)
    assert "python3 is not in the image" in str(e)
    assert 'python="image"' in e.hint
    assert "cmd=" not in str(e)


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
async def test_a_program_that_is_killed(tools, name):
    e = await failure(sh(tools, f"echo last words; kill -{name} $$"), levrt.TaskFailed)
    assert f"SIG{name}" in str(e)
    assert e.signal == getattr(__import__("signal"), f"SIG{name}")
    assert e.exit_code == 128 + e.signal
    assert not e.oom_killed
    assert e.log_tail == "last words"


async def test_a_program_that_ends_with_a_code(tools):
    script = "echo out; echo err >&2; exit 42"
    e = await failure(sh(tools, script), levrt.TaskFailed)
    assert type(e) is levrt.TaskFailed
    assert (e.exit_code, e.signal, e.phase) == (42, None, "run")
    assert "exit code 42" in str(e)
    assert tools in str(e)
    assert set(e.log_tail.splitlines()) == {"out", "err"}
    assert e.task.name in str(e)
    assert e.document.run.exit_code == 42
    assert e.document.run.argv == ("sh", "-c", script, "sh")


# entries


async def test_an_entry_that_raises(tools):
    def inner(mapping):
        return mapping["missing"]  # raises here

    @levrt.remote
    def entry():
        lev.set(before=1)
        return inner({})  # calls it

    e = await failure(Cr(tools, entry=entry()), levrt.RemoteError)
    assert e.remote_type == "KeyError"
    assert type(e.__cause__) is KeyError
    assert e.__cause__.args == ("missing",)
    for comment, name in (("calls it", "entry"), ("raises here", "inner")):
        place = rf'File "{HERE}", line {line_of(comment)}, in .*{name}'
        assert re.search(place, e.traceback), e.traceback
    assert 'return mapping["missing"]' in e.traceback
    assert "levrt/guest" not in e.traceback
    assert e.traceback in str(e)
    assert e.exit_code == 1
    assert await e.document.get() == {"before": 1}


async def test_an_entry_that_raises_its_own_exception(tools):
    class Broken(ValueError):
        pass

    @levrt.remote
    async def entry():
        raise Broken("not today")

    e = await failure(Cr(tools, entry=entry()), levrt.RemoteError)
    assert "Broken" in e.remote_type
    assert type(e.__cause__) is ValueError
    assert "not today" in str(e)


async def test_an_entry_that_cannot_be_pickled(tools):
    state = {"deep": [{"lock": threading.Lock()}]}

    @levrt.remote
    def entry():
        print(state)

    e = await failure(Cr(tools, entry=entry()), (pickle.PicklingError, TypeError))
    assert "lock" in str(e)
    assert "state" in str(e)
    assert "deep" in str(e)


async def test_an_entry_that_exits(tools):
    @levrt.remote
    def politely():
        import sys

        lev.set(a=1)
        sys.exit(3)

    @levrt.remote
    def at_once():
        import os

        lev.set(a=1)
        os._exit(3)

    @levrt.remote
    def with_words():
        import sys

        lev.set(a=1)
        sys.exit("no way")

    for entry, code in ((politely, 3), (at_once, 3), (with_words, 1)):
        e = await failure(Cr(tools, entry=entry()), levrt.TaskFailed)
        assert type(e) is levrt.TaskFailed
        assert e.exit_code == code
        assert await e.document.get() == {"a": 1}
    assert e.log_tail == "no way"


async def test_an_entry_that_is_killed_for_memory(tools):
    @levrt.remote
    def entry():
        lev.set(a=1)
        hoard = []
        while True:
            hoard.append(bytes(range(256)) * 4096 * 16)

    limit = {"mem_limit": "64m", "memswap_limit": "64m"}
    for _ in range(5):
        e = await failure(Cr(tools, entry=entry(), host_config=limit), levrt.TaskFailed)
        assert e.exit_code == 137
        if e.oom_killed:
            break
        # An engine that is slow loses the kernel's word, when there is cgroup v1.
        assert "with mem_limit it is likely" in e.hint
    assert type(e) is levrt.OutOfMemory
    assert "mem_limit=64m" in str(e)
    assert "mem_limit" in e.hint
    assert await e.document.get() == {"a": 1}
    assert e.document.run.oom


async def test_137_that_is_not_for_memory(tools):
    e = await failure(sh(tools, "exit 137"), levrt.TaskFailed)
    assert type(e) is levrt.TaskFailed
    assert "not the kernel's out-of-memory killer" in str(e)


async def test_an_entry_that_forks_and_exits(tools):
    @levrt.remote
    def entry():
        import os

        lev.set(parent=1)
        child = os.fork()
        if child == 0:
            lev.set(child=2)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        orphan = os.fork()
        if orphan == 0:
            import time

            time.sleep(600)

    # The orphan holds the channel's socket; the main process is what counts.
    document = await Cr(tools, entry=entry())
    assert await document.get() == {"parent": 1, "child": 2}


async def test_an_entry_with_threads(tools):
    @levrt.remote
    def entry():
        import threading

        def work(n):
            for i in range(5):
                lev.set({f"t{n}.k{i}": n * i})

        for n in range(8):
            threading.Thread(target=work, args=(n,)).start()

    document = await Cr(tools, entry=entry())
    assert await document.get() == {
        f"t{n}": {f"k{i}": n * i for i in range(5)} for n in range(8)
    }


async def test_a_thread_that_is_a_daemon_does_not_hold_the_entry(tools):
    @levrt.remote
    def entry():
        import threading

        threading.Thread(target=threading.Event().wait, daemon=True).start()
        print("end")

    assert await lines(Cr(tools, entry=entry())) == ["end"]


async def test_an_entry_that_changes_stdout(tools):
    @levrt.remote
    def replaces():
        import io
        import sys

        sys.stdout = io.StringIO()
        print("swallowed")
        lev.set(a=1)

    @levrt.remote
    def closes():
        import os
        import sys

        print("said before")
        sys.stdout.flush()
        sys.stdout.close()
        sys.stderr.close()
        os.close(1)
        lev.set(a=1)

    first, second = await Cr(tools, entry=replaces()), await Cr(tools, entry=closes())
    assert await first.logs() == []
    assert [line.text for line in await second.logs()] == ["said before"]
    assert await first.get() == await second.get() == {"a": 1}


# files


async def test_a_file_that_vanished(tools, tmp_path):
    e = await failure(
        Cr(tools, cmd=["true"], files={"/f": tmp_path / "gone"}), FileNotFoundError
    )
    assert str(tmp_path / "gone") in str(e)
    assert ", files: /f: " in str(e)


async def test_two_files_with_one_target(tools):
    with pytest.raises(ValueError, match=r"two files for the one target '/a/b'"):
        Cr(tools, files={"/a/b": b"", "/a/./b": b""})
    with pytest.raises(ValueError, match=r"'/a/b/c' is below '/a/b'"):
        Cr(tools, files={"/a/b": b"", "/a/b/c": b""})


async def test_a_file_whose_target_is_a_directory(tools):
    e = await failure(
        Cr(tools, cmd=["true"], files={"/srv/dir": b"x"}), levrt.StartFailed
    )
    assert "directory" in str(e)
    assert "/srv/dir" in str(e)
    assert e.phase == "files"


async def test_a_file_below_a_mount(tools):
    with pytest.raises(ValueError, match="'/run/x' is below /run, which is mounted"):
        Cr(tools, files={"/run/x": b""}, host_config={"tmpfs": {"/run": ""}})
    with pytest.raises(ValueError, match="below /lev"):
        Cr(tools, files={"/lev/x": b""})


# links


async def test_links_to_a_task_that_has_ended(tools):
    task = await sh(tools, "true").start()
    host, name = task.host, task.name
    await task
    for target in {host, name} - {""}:
        e = await failure(sh(tools, "true", links={"old": target}), ValueError)
        assert name in str(e)
        assert "has ended" in str(e)
        assert "old" in str(e)


async def test_links_to_a_name_that_nobody_knows(tools):
    e = await failure(
        sh(tools, "true", links={"x": "no-such-host.invalid"}), ValueError
    )
    assert "links: x" in str(e)
    assert "no-such-host.invalid" in str(e)


async def test_links_with_another_containers_network(tools):
    with pytest.raises(levrt.UnsupportedOption, match="links .*container:x"):
        Cr(
            tools,
            links={"x": "127.0.0.1"},
            host_config={"network_mode": "container:x"},
        )


# readiness and services


def test_a_port_that_never_opens(tools, monkeypatch):
    monkeypatch.setenv("LEVRT_READY_TIMEOUT", "1")
    script = "httpd -p 8001; httpd -p 127.0.0.1:8002; exec sleep 600"

    async def main():
        task = sh(tools, script, ports=[8000, 8001])
        e = await failure(task.start(), levrt.ReadinessTimeout)
        assert e.phase == "readiness"
        assert "port 8000 did not open within 1 s" in str(e)
        assert "what listens instead: 8001, 8002" in str(e)

    levrt.run(main())


def test_a_listener_of_the_host_is_not_the_containers(tools, monkeypatch):
    import socket

    monkeypatch.setenv("LEVRT_READY_TIMEOUT", "1")

    async def main(port):
        task = sh(tools, "exec sleep 600", host=True, ports=[port])
        e = await failure(task.start(), levrt.ReadinessTimeout)
        assert f"port {port} did not open" in str(e)
        assert "what listens instead: nothing" in str(e)

    with socket.create_server(("127.0.0.1", 0)) as server:
        levrt.run(main(server.getsockname()[1]))


async def test_a_tool_that_ends_before_its_ports_open(tools):
    cr = sh(tools, "echo cannot bind >&2; exit 5", ports=[8000])
    e = await failure(cr, levrt.StartFailed)
    assert e.exit_code == 5
    assert "exit code 5 before its ports opened" in str(e)
    assert str(e).count("its last lines") == 1
    assert "cannot bind" in str(e)


async def test_a_service_that_dies_while_others_start(tools):
    """Its owner does not wait for ports that will not be needed."""
    dying = sh(tools, "nc -l -p 9; echo no disk >&2; exit 7")
    script = "until nc bad 9 </dev/null; do sleep 0.1; done; exec sleep 600"
    main = sh(tools, script, ports=[80], services={"bad": dying})
    e = await failure(main, levrt.TaskFailed)
    assert e.phase in ("start", "readiness")
    assert "service bad" in str(e)
    assert "no disk" in str(e)


async def test_a_service_that_dies_during_bring_up(engine, tools):
    broken = sh(tools, "echo no config >&2; exit 7", ports=[80])
    good = sh(tools, "exec httpd -f -p 80", ports=[80])
    main = sh(tools, "echo never", services={"bad": broken, "good": good})
    e = await failure(main, levrt.StartFailed)
    assert "service bad" in str(e)
    assert "exit code 7" in str(e)
    assert "no config" in str(e)
    assert e.phase == "services"
    assert engine.containers(lev.job_id) == []


async def test_a_service_whose_image_is_missing(engine, tools, registry):
    image = f"{registry}/no/such-image:1"
    main = sh(tools, "echo never", services={"bad": Cr(image)})
    e = await failure(main, levrt.ImageNotFound)
    assert "service bad" in str(e)
    assert image in str(e)


# what is stored


@pytest.mark.parametrize(
    "schema", ["x", "a/b", "a/b@1", "a/b@1.x", "/b@1.0", "a/@1.0", "a/b/c@1.0", ""]
)
async def test_a_schema_that_does_not_parse(tools, schema):
    with pytest.raises(ValueError, match="namespace/name@major.minor"):
        Cr(tools, schema)


async def test_a_value_that_is_no_bson(tools):
    @levrt.remote
    def entry():
        lev.set(good=1)
        try:
            lev.set(report={"hosts": [{"ports": {22, 80}}]})
        except TypeError as e:
            lev.set(error=str(e))
        try:
            lev.set(number=1 << 64)
        except OverflowError as e:
            lev.set(overflow=str(e))
        lev.set(a={"b": [object()]})

    e = await failure(Cr(tools, entry=entry()), levrt.RemoteError)
    assert type(e.__cause__) is TypeError
    assert "a.b[0]" in str(e)
    stored = await e.document.get()
    assert stored["good"] == 1
    assert "report.hosts[0].ports" in stored["error"]
    assert "set" in stored["error"]
    assert "number" in stored["overflow"]
    assert set(stored) == {"good", "error", "overflow"}


async def test_a_document_over_16_mb(tools):
    @levrt.remote
    def entry():
        lev.set(first=b"x" * 9_000_000)
        try:
            lev.set(second=b"y" * 9_000_000)
        except Exception as e:
            lev.set(caught=[c.__name__ for c in type(e).__mro__], text=str(e))
        lev.set(third=b"z" * 17_000_000)

    e = await failure(Cr(tools, entry=entry()), levrt.RemoteError)
    assert "DocumentTooLarge" in e.remote_type
    stored = await e.document.get()
    assert stored["first"] == b"x" * 9_000_000
    assert "DocumentTooLarge" in stored["caught"]
    assert "a document of 18000" in stored["text"]
    assert "at most 16777216 (16 MiB)" in stored["text"]
    assert "second" not in stored
    assert "third" not in stored


async def test_a_projection_that_mixes(tools):
    @levrt.remote
    def entry():
        lev.set(a=1, b=2)

    document = await Cr(tools, entry=entry())
    e = await failure(document.get(projection={"a": 1, "b": 0}), levrt.QueryError)
    assert "'b' is excluded" in str(e)
    assert e.code == 31254
    assert await document.get(projection={"a": 1}) == {"a": 1}


def test_a_store_that_cannot_be_opened(tools, tmp_path):
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database" * 1000)

    async def main():
        await failure(sh(tools, "true"), levrt.StoreError)
        with lev / "x" as document:
            return await failure(document.set(a=1), levrt.StoreError)

    for path in (str(garbage), "/proc/levrt/lev.db"):
        e = levrt.run(main(), db=f"sqlite:{path}")
        assert os.path.dirname(path) in str(e)


def test_a_store_of_no_known_kind():
    async def main():
        raise AssertionError("it ran")

    with pytest.raises(ValueError, match="sqlite:PATH"):
        levrt.run(main(), db="postgres://x")
