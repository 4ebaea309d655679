"""The parameters of Cr, each seen from inside the container."""

import os
import socket

import pytest
from workflows import all_of, failure, lines, sh

import levrt
from levrt import Cr, lev

# image


async def test_image_by_name_id_and_prefix(engine, tools):
    image = engine.image_id(tools)
    digits = image.removeprefix("sha256:")
    refs = [tools, tools.removesuffix(":1") + ":1", image, digits, digits[:12]]
    outputs = await all_of(*[Cr(ref, cmd=["echo", "here"]) for ref in refs])
    assert outputs == [["here"]] * len(refs)


async def test_empty_image_has_the_runtime_alone():
    @levrt.remote
    def entry():
        import os

        lev.set(root=sorted(os.listdir("/")))

    root = (await (await Cr("", entry=entry())).get())["root"]
    assert "lev" in root
    assert not {"bin", "usr", "lib"} & set(root)


# schema


async def test_schema_names_the_collection(tools):
    plain = await Cr(tools, cmd=["true"])
    named = await Cr(tools, "team/tool@2.10", cmd=["true"])
    assert plain.coll.name == "_"
    assert named.coll.name == "team/tool@2.10"
    with lev / "a":
        assert (await Cr(tools, cmd=["true"])).coll.name == "a"
        inner = await Cr(tools, "team/tool@2.10", cmd=["true"])
    assert inner.coll.name == "a|team/tool@2.10"
    assert await named.get() == {}


# host


async def test_host_network(tools):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = (
            f"nc 127.0.0.1 {port} -e true 2>/dev/null && echo reached || echo refused"
        )
        assert await all_of(sh(tools, script, host=True), sh(tools, script)) == [
            ["reached"],
            ["refused"],
        ]


async def test_host_task_has_the_gateway_as_host(tools):
    task = await sh(tools, "sleep 60", host=True).start()
    other = await sh(tools, "ip route | grep ^default").start()
    try:
        assert task.host
        assert task.host.count(".") == 3
    finally:
        await task.stop(0)
        await other.done()


# entry and cmd


async def test_cmd_follows_the_images_entrypoint(images):
    image = images.get("entry")
    assert await all_of(Cr(image), Cr(image, cmd=["a", "b c"]), Cr(image, cmd=[])) == [
        ["own x"],
        ["own a b c"],
        ["own x"],
    ]


async def test_cmd_is_argv_of_an_entry(images):
    @levrt.remote
    def entry(greeting, *, name="nobody"):
        import sys

        print(greeting, name, sys.argv[1:])

    image = images.get("entry")
    arguments = ["--option", "-f"]
    given = Cr(image, entry=entry("hello", name="you"), cmd=arguments)
    assert await lines(given) == ["hello you ['--option', '-f']"]

    @levrt.remote
    async def uncalled():
        import asyncio

        await asyncio.sleep(0)
        print("async")

    assert await lines(Cr(image, entry=uncalled)) == ["async"]


async def test_a_cr_is_run_as_often_as_awaited(tools):
    cr = Cr(tools, "team/twice@1.0", cmd=["echo", "again"])
    first, second = await cr, await cr
    assert first.filter != second.filter
    assert first.run.argv == second.run.argv == ("echo", "again")


# env


async def test_env_is_added_to_the_images(images):
    image = images.get("entry")

    @levrt.remote
    def entry():
        import os

        print(os.environ["OWN"], os.environ.get("A"), os.environ.get("B"))
        print(os.environ.get("LEV_TOKEN"), os.environ.get("LEV_CHANNEL"))

    assert await all_of(
        Cr(image, entry=entry()),
        Cr(image, entry=entry(), env=["A=1", "B=x=y", "OWN=mine"]),
        Cr(image, entry=entry(), env={"A": "", "B": "ü €"}),
    ) == [
        ["image None None", "None None"],
        ["mine 1 x=y", "None None"],
        ["image  ü €", "None None"],
    ]


async def test_env_of_a_tool(tools):
    cr = sh(tools, 'echo "$A,$PATH"', env=["A=1", "PATH=/bin"])
    assert await lines(cr) == ["1,/bin"]


# files

_STAT = 'for f; do stat -c "%n %a %u:%g %F" "$f"; done'


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "tool").write_text("#!/bin/sh\necho run of $0\n")
    (top / "tool").chmod(0o750)
    (top / "sub" / "data").write_bytes(bytes(range(256)))
    (top / "sub" / "data").chmod(0o604)
    (top / "link").symlink_to("sub/data")
    return top


def _files(tree):
    return {
        "/etc/config.json": b'{"a": 1}',
        "/srv/text": "grüße",
        "/new/made/here": "x",
        "/opt/tool": tree / "tool",
        "/opt/tree": tree,
        "/srv/nothing": None,
    }


async def test_files(tools, tree):
    script = f"""
    cat /etc/config.json; echo; cat /srv/text; echo
    {_STAT}
    test -e /srv/nothing || echo no file
    md5sum < /opt/tree/link
    /opt/tool
    """
    paths = ["/etc/config.json", "/srv/text", "/new", "/new/made/here", "/opt/tool"]
    paths += ["/opt/tree", "/opt/tree/sub/data", "/opt/tree/link"]
    assert await lines(sh(tools, script, *paths, files=_files(tree))) == [
        '{"a": 1}',
        "grüße",
        "/etc/config.json 644 0:0 regular file",
        "/srv/text 644 0:0 regular file",
        "/new 755 0:0 directory",
        "/new/made/here 644 0:0 regular file",
        "/opt/tool 750 0:0 regular file",
        "/opt/tree 755 0:0 directory",
        "/opt/tree/sub/data 604 0:0 regular file",
        "/opt/tree/link 777 0:0 symbolic link",
        "no file",
        "e2c865db4162bed963bfaa9ef6ac18f0  -",
        "run of /opt/tool",
    ]


async def test_files_belong_to_the_containers_user(images, tools, tree):
    script = _STAT + "; cat /srv/text >/dev/null && echo readable"
    files = {"/srv/text": "x", "/home/user/tree": tree}
    paths = ["/srv/text", "/home/user/tree/tool"]
    user = images.get("user")
    outputs = await all_of(
        sh(user, script, *paths, files=files),
        sh(tools, script, *paths, files=files, host_config={"user": "user"}),
        sh(tools, script, *paths, files=files, options={"user": "1000:50"}),
        sh(tools, script, *paths, files=files, options={"user": "2000"}),
        sh(tools, script, *paths, files=files, options={"user": "user:staff"}),
    )
    for output, owner in zip(
        outputs,
        ["1000:1000", "1000:1000", "1000:50", "2000:0", "1000:50"],
        strict=True,
    ):
        assert output == [
            f"/srv/text 644 {owner} regular file",
            f"/home/user/tree/tool 750 {owner} regular file",
            "readable",
        ]


async def test_files_under_a_read_only_root(engine, images, tree):
    script = 'cat /srv/text; echo; stat -c %u /srv/text; echo "$0"; touch /srv/new'
    cr = Cr(
        images.get("user"),
        cmd=["sh", "-c", script, "its own cmd"],
        files={"/srv/text": "there", "/srv/tree": tree},
        host_config={"read_only": True},
        check=[1],
    )
    output = await lines(cr)
    complaint = next(line for line in output if "Read-only file system" in line)
    output.remove(complaint)  # of stderr: it may come at any place
    assert output == ["there", "1000", "its own cmd"]
    assert engine.images() == []

    @levrt.remote
    def entry():
        print(open("/srv/text").read())

    cr = Cr("", entry=entry(), files={"/srv/text": "x"}, host_config=cr.host_config)
    assert await lines(cr) == ["x"]
    assert engine.images() == []


async def test_files_follow_the_images_links(tools):
    # /etc/alias is a link to /srv/dir in this image
    script = "cat /srv/dir/file; test -L /etc/alias && echo still a link"
    cr = sh(tools, script, files={"/etc/alias/file": "content\n"})
    assert await lines(cr) == ["content", "still a link"]


async def test_files_are_read_at_the_start(tools, tmp_path):
    source = tmp_path / "source"
    cr = Cr(tools, cmd=["cat", "/f"], files={"/f": source})
    source.write_text("now")
    assert await lines(cr) == ["now"]
    source.write_text("then")
    assert await lines(cr) == ["then"]


# links


async def test_links(tools):
    script = "echo found > /srv/index; exec httpd -f -p 8000 -h /srv"
    web = await sh(tools, script, ports=[8000]).start()
    try:
        get = "wget -qO- http://proxy:8000/index"
        outputs = await all_of(
            sh(tools, get, links={"proxy": web.host}),
            sh(tools, get, links={"proxy": web.name}),
            sh(tools, "grep proxy /etc/hosts", links={"proxy": "192.0.2.7"}),
            sh(tools, "grep proxy /etc/hosts", links={"proxy": "localhost"}),
            sh(tools, "grep proxy /etc/hosts", links={"proxy": "2001:db8::7"}),
        )
    finally:
        await web.stop(0)
    assert outputs[:2] == [["found"], ["found"]]
    found = [output[0].split()[0] for output in outputs[2:]]
    assert found == ["192.0.2.7", "127.0.0.1", "2001:db8::7"]


async def test_host_is_reachable_from_the_workflow(tools):
    web = await sh(tools, "exec httpd -f -p 8000", ports=[8000]).start()
    try:
        socket.create_connection((web.host, 8000), timeout=10).close()
    finally:
        await web.stop(0)


# ports

# Long enough that whoever does not wait finds nothing.
_LATE = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; "


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "$(hostname -i)"], ids=["all", "lo", "eth0"]
)
async def test_ports_are_open_when_start_returns(tools, address):
    script = f"{_LATE} echo opening; exec httpd -f -p {address}:8000"
    task = await sh(tools, script, ports=[8000]).start()
    try:
        records, _, _ = await task._read_logs(0)
        assert b"opening" in records
    finally:
        await task.stop(0)


async def test_several_ports(tools):
    script = f"httpd -p 8001; {_LATE} exec httpd -f -p 8002"
    task = await sh(tools, script, ports=[8001, 8002]).start()
    try:
        for port in (8001, 8002):
            socket.create_connection((task.host, port), timeout=10).close()
    finally:
        await task.stop(0)


async def test_ports_in_an_image_without_a_shell(images):
    @levrt.remote
    def entry():
        import socket

        with socket.create_server(("", 8000)) as server:
            connection, _ = server.accept()
            connection.close()

    task = await Cr("", entry=entry(), ports=[8000]).start()
    socket.create_connection((task.host, 8000), timeout=10).close()
    await task


async def test_ports_of_the_host_network(tools):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = f"{_LATE} exec httpd -f -p 127.0.0.1:{port}"
    task = await sh(tools, script, host=True, ports=[port]).start()
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    finally:
        await task.stop(0)


# services


def _web(tools, text, **options):
    script = f"{_LATE} echo {text} > /srv/index; exec httpd -f -p 80 -h /srv"
    return sh(tools, script, ports=[80], **options)


async def test_services(engine, tools):
    main = sh(
        tools,
        "wget -qO- http://one/index; wget -qO- http://two/index",
        services={"one": _web(tools, "first"), "two": _web(tools, "second")},
    )
    assert await lines(main) == ["first", "second"]
    session = lev.job_id
    assert engine.containers(session) == []
    assert [n for n in engine.networks(session) if "-run-" in n] == []


async def test_services_of_services(tools):
    inner = _web(tools, "innermost")
    middle = sh(
        tools,
        "wget -qO /srv/index http://inner/index && exec httpd -f -p 80 -h /srv",
        ports=[80],
        services={"inner": inner},
    )
    main = sh(tools, "wget -qO- http://middle/index", services={"middle": middle})
    assert await lines(main) == ["innermost"]


async def test_services_with_entries(tools):
    @levrt.remote
    def serve():
        from http.server import HTTPServer, SimpleHTTPRequestHandler

        lev.set(role="service")
        HTTPServer(("", 80), SimpleHTTPRequestHandler).serve_forever()

    service = Cr("", "team/service@1.0", entry=serve(), ports=[80])
    main = sh(tools, "wget -qO- http://web/ | grep -c lev", services={"web": service})
    assert await lines(main) == ["1"]
    collection = (await Cr(tools, "team/service@1.0", cmd=["true"])).coll
    assert await collection.count_documents({"role": "service"}) == 1


async def test_services_are_gone_when_the_main_container_failed(engine, tools):
    main = sh(tools, "exit 9", services={"one": sh(tools, "sleep 600")})
    assert (await failure(main, levrt.TaskFailed)).exit_code == 9
    assert engine.containers(lev.job_id) == []


async def test_a_service_that_ends_well_is_no_failure_of_a_later_main(tools):
    once = _web(tools, "x")
    main = sh(tools, "wget -qO- http://one/index", services={"one": once})
    assert await lines(main) == ["x"]


# timeout


async def test_timeout_keeps_what_was_stored(tools):
    @levrt.remote
    def entry():
        import threading

        lev.set(found=[1, 2])
        threading.Event().wait()

    cr = Cr(tools, entry=entry(), timeout=1.5)
    e = await failure(cr, levrt.DeadlineExceeded)
    assert isinstance(e, TimeoutError)
    assert e.phase == "run"
    assert "timeout of 1.5 s" in str(e)
    assert await e.document.get() == {"found": [1, 2]}


async def test_timeout_sends_the_stop_signal_then_kills(images):
    image = images.get("stops")  # STOPSIGNAL SIGINT
    polite = "trap 'echo asked; exit 4' INT; while :; do sleep 0.02; done"
    stubborn = "trap 'echo asked' INT; while :; do sleep 0.02; done"
    for script, code in ((polite, 4), (stubborn, 137)):
        e = await failure(sh(image, script, timeout=0.5), levrt.DeadlineExceeded)
        assert e.exit_code == code
        assert e.log_tail == "asked"


async def test_timeout_counts_while_ports_are_waited_for(tools):
    cr = sh(tools, "exec sleep 600", ports=[80], timeout=1)
    e = await failure(cr.start(), levrt.DeadlineExceeded)
    assert e.phase == "readiness"
    assert "timeout of 1.0 s" in str(e)


async def test_timeout_that_is_not_reached(tools):
    assert await lines(sh(tools, "echo x", timeout=60)) == ["x"]


# check


async def test_check(tools):
    for check in (False, [3], [1, 3]):
        document = await sh(tools, "exit 3", check=check)
        assert document.run.exit_code == 3
    for check in (True, [], [4]):
        e = await failure(sh(tools, "exit 3", check=check), levrt.TaskFailed)
        assert e.exit_code == 3


# name


async def test_name(engine, tools):
    task = await sh(tools, "exec sleep 60", name="my.tool-1").start()
    try:
        assert task.name == "my.tool-1"
        assert "my.tool-1" in engine.containers(lev.job_id)
    finally:
        await task.stop(0)


async def test_names_say_whose_they_are(engine, tools):
    task = await sh(tools, "exec sleep 60").start()
    try:
        user, job, session, number = task.name.rsplit("-", 3)
        assert user
        assert job
        assert lev.job_id.startswith(session)
        assert int(number) == task.id
    finally:
        await task.stop(0)


async def test_a_name_that_is_taken(engine, tools):
    free = engine.occupy("taken-already", tools)
    try:
        cr = sh(tools, "true", name="taken-already")
        e = await failure(cr, levrt.Conflict)
        assert "taken-already" in str(e)
        assert "give another name=" in str(e)
        assert e.status == 409
    finally:
        free()
    assert await lines(cr) == []


# engine


async def test_engine_of_one_run(tools, remote_engine):
    assert await lines(sh(tools, "echo x", engine=remote_engine.url)) == ["x"]


async def test_engine_that_is_not_there(tools):
    e = await failure(
        sh(tools, "true", engine="unix:///nonexistent/docker.sock"),
        levrt.EngineUnavailable,
    )
    assert "/nonexistent/docker.sock" in str(e)
    assert "engine= of the Cr" in str(e)
    assert os.environ["LEVRT_ENGINE"] not in str(e)
