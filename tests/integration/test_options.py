"""host_config= and options=, each observed from inside the container."""

import asyncio
import os
import socket

import pytest
from workflows import all_of, failure, lines, sh

import levrt
from levrt import Cr

# Of the second version of cgroups where it is alone, else of the first.
_CGROUP = """
limit() {
    cat /sys/fs/cgroup/$1 2>/dev/null || cat /sys/fs/cgroup/$2
}
"""


def option(image, script, **host):
    return sh(image, _CGROUP + script, host_config=host)


async def test_memory(tools):
    script = "limit memory/memory.limit_in_bytes memory.max"
    outputs = await all_of(
        option(tools, script, mem_limit=64 << 20),
        option(tools, script, mem_limit="64m"),
        option(tools, script, mem_limit="0.0625g"),
        sh(tools, _CGROUP + script, options={"mem_limit": "64m"}),
    )
    assert outputs == [[str(64 << 20)]] * 4


async def test_swap(tools):
    # Where the kernel does not count swap there is no file of it, and the engine
    # keeps the number for itself: what counts is that both are taken.
    script = (
        "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes 2>/dev/null ||"
        " cat /sys/fs/cgroup/memory.swap.max 2>/dev/null || echo none"
    )
    output = await lines(option(tools, script, mem_limit="64m", memswap_limit="96m"))
    assert output in ([str(96 << 20)], [str(32 << 20)], ["none"])


async def test_processors(tools):
    script = (
        "limit cpu/cpu.cfs_quota_us cpu.max; limit cpu/cpu.shares cpu.weight;"
        " limit cpu/cpu.cfs_period_us cpu.max"
    )
    output = await lines(option(tools, script, nano_cpus=500_000_000, cpu_shares=512))
    if len(output[0].split()) == 2:  # "50000 100000" of the second version
        assert output[:2] == ["50000 100000", "20"]
    else:
        assert output == ["50000", "512", "100000"]


async def test_pids(tools):
    script = "limit pids/pids.max pids.max"
    assert await lines(option(tools, script, pids_limit=7)) == ["7"]


def _effective(output):
    return int(output[0].split()[1], 16)


async def test_capabilities(tools):
    script = "grep CapEff /proc/self/status"
    default, none, raw, named = await all_of(
        option(tools, script),
        option(tools, script, cap_drop=["ALL"]),
        option(tools, script, cap_drop=["all"], cap_add=["NET_RAW"]),
        option(tools, script, cap_add=["CAP_SYS_PTRACE"]),
    )
    assert _effective(none) == 0
    assert _effective(raw) == 1 << 13
    assert _effective(named) == _effective(default) | 1 << 19


async def test_privileged_is_taken(tools):
    # It may be refused by a machine whose root lacks capabilities itself; then
    # the container's start says so.
    cr = option(tools, "grep CapEff /proc/self/status", privileged=True)
    try:
        output = await lines(cr)
    except levrt.StartFailed as e:
        assert "caps" in str(e)
    else:
        assert _effective(output) >> 21 & 1  # CAP_SYS_ADMIN


async def test_read_only(tools):
    script = "touch /file 2>&1; touch /dev/shm/file && echo shm"
    assert await lines(option(tools, script, read_only=True)) == [
        "touch: /file: Read-only file system",
        "shm",
    ]
    assert await lines(option(tools, script, read_only=False)) == ["shm"]


async def test_user(tools):
    outputs = await all_of(
        *[
            option(tools, "id -u; id -g", user=user)
            for user in ("user", "1000:50", "7", 1000)
        ]
    )
    assert outputs == [["1000", "1000"], ["1000", "50"], ["7", "0"], ["1000", "1000"]]


async def test_network_modes(tools):
    script = "ls /sys/class/net | tr '\\n' ' '"
    none, ours = await all_of(
        option(tools, script, network_mode="none"), option(tools, script)
    )
    assert none == ["lo "]
    assert ours == ["eth0 lo "]
    server = await sh(tools, "exec httpd -f -p 127.0.0.1:8000", ports=[8000]).start()
    try:
        inside = option(
            tools,
            "wget -qO- http://127.0.0.1:8000/etc/group | head -n 1",
            network_mode=f"container:{server.name}",
        )
        assert await lines(inside) == ["root:x:0:"]
    finally:
        await server.stop(0)


async def test_a_network_by_its_name(engine, tools):
    server = await sh(tools, "exec httpd -f -p 8000", ports=[8000]).start()
    try:
        (network,) = engine.networks(levrt.lev.job_id)
        get = f"wget -qO- http://{server.host}:8000/etc/group | head -n 1"
        assert await lines(option(tools, get, network_mode=network)) == ["root:x:0:"]
    finally:
        await server.stop(0)


async def test_tmpfs(tools):
    script = "touch /run/file && grep ' /run ' /proc/mounts"
    (line,) = await lines(option(tools, script, tmpfs={"/run": "size=1m,mode=711"}))
    assert line.split()[2] == "tmpfs"
    assert {"size=1024k", "mode=711"} < set(line.split()[3].split(","))
    (line,) = await lines(option(tools, script, tmpfs=["/run"], read_only=True))
    assert line.split()[2] == "tmpfs"


async def test_ulimits(tools):
    script = "ulimit -Sn; ulimit -Hn; ulimit -c"
    limits = [
        {"name": "nofile", "soft": 100, "hard": 200},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]
    assert await lines(option(tools, script, ulimits=limits)) == ["100", "200", "0"]


async def test_devices(tools):
    script = "echo x > /dev/nowhere && stat -c '%F %t:%T' /dev/nowhere"
    for devices in (
        ["/dev/null:/dev/nowhere:rwm"],
        [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nowhere"}],
    ):
        assert await lines(option(tools, script, devices=devices)) == [
            "character special file 1:3"
        ]


async def test_names_and_addresses(tools):
    script = "grep example /etc/hosts; grep nameserver /etc/resolv.conf; hostname; pwd"
    cr = sh(
        tools,
        script,
        host_config={
            "extra_hosts": {"a.example": "192.0.2.1"},
            "dns": ["192.0.2.53"],
            "network_mode": "bridge",
        },
        options={"hostname": "tool-7", "working_dir": "/srv/dir"},
    )
    assert [line.split() for line in await lines(cr)] == [
        ["192.0.2.1", "a.example"],
        ["nameserver", "192.0.2.53"],
        ["tool-7"],
        ["/srv/dir"],
    ]
    cr = option(tools, "grep example /etc/hosts", extra_hosts=["b.example:192.0.2.2"])
    assert [line.split() for line in await lines(cr)] == [["192.0.2.2", "b.example"]]


async def test_entries_take_options_too(tools):
    @levrt.remote
    def entry():
        import os
        import socket

        print(os.getuid(), socket.gethostname(), os.getcwd())

    cr = Cr(
        "",
        entry=entry(),
        host_config={"cap_drop": ["ALL"]},
        options={"user": "7:7", "hostname": "guest", "working_dir": "/var/made"},
    )
    assert await lines(cr) == ["7 guest /var/made"]


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def fetch(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /etc/group HTTP/1.0\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()


async def test_published_ports(tools):
    port, other, both = free_port(), free_port(), free_port()
    server = await sh(
        tools,
        "exec httpd -f -p 8000",
        ports=[8000],
        host_config={
            "port_bindings": {8000: [("127.0.0.1", port), other], "8001/udp": both}
        },
    ).start()
    try:
        assert b"root:x:0:" in await fetch(port)
        assert b"root:x:0:" in await fetch(other)
        e = await failure(
            option(tools, "true", port_bindings={80: ("127.0.0.1", port)}),
            levrt.Conflict,
        )
        assert str(port) in str(e)
    finally:
        await server.stop(0)
    with pytest.raises(ConnectionError):
        await fetch(port)
    # It is free again.
    again = option(tools, "true", port_bindings={80: ("127.0.0.1", port)})
    assert await lines(again) == []


async def test_ports_that_are_free(tools):
    task = await sh(
        tools,
        "exec httpd -f -p 8000",
        ports=[8000],
        options={"ports": [(8001, "udp")]},
        host_config={"port_bindings": {8000: None}, "publish_all_ports": True},
    ).start()
    try:
        assert sorted(task.published) == ["8000/tcp", "8001/udp"]
        address, port = task.published["8000/tcp"][0]
        assert address == "0.0.0.0"
        assert b"root:x:0:" in await fetch(port)
    finally:
        await task.stop(0)
    task = await sh(tools, "exec sleep 1000").start()
    assert task.published == {}
    await task.stop(0)


async def test_a_port_that_the_machine_uses(tools):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        cr = option(tools, "true", port_bindings={"80/tcp": ("127.0.0.1", port)})
        e = await failure(cr, levrt.Conflict)
        assert str(port) in str(e)


@pytest.mark.parametrize("mode", ["host", "none", "container:other"])
async def test_ports_need_a_network(mode):
    with pytest.raises(ValueError, match="port_bindings.*network_mode"):
        Cr("image", host_config={"port_bindings": {80: 1}, "network_mode": mode})


async def test_processor_time(tools):
    script = "limit cpu/cpu.cfs_quota_us cpu.max; limit cpu/cpu.cfs_period_us cpu.max"
    for host in (
        {"cpu_period": 50000, "cpu_quota": 25000},
        {"cpu_group": 50000, "cpu_quota": 25000},
    ):
        output = await lines(option(tools, script, **host))
        assert output in (["25000", "50000"], ["25000 50000"] * 2)


async def test_processors_by_number(tools):
    script = "grep Cpus_allowed_list /proc/self/status | cut -f 2"
    assert await lines(option(tools, script, cpuset_cpus="0")) == ["0"]


async def test_shared_memory(tools):
    script = "df -k /dev/shm | tail -n 1"
    (line,) = await lines(option(tools, script, shm_size="8m"))
    assert line.split()[1] == "8192"
    (line,) = await lines(option(tools, script))
    assert line.split()[1] == "65536"


async def test_groups(tools):
    assert await lines(option(tools, "id -G", group_add=["user", 7])) == ["0 7 1000"]
    assert await lines(
        option(tools, "id -G", user="user", group_add=["7"]),
    ) == ["1000 7"]
    e = await failure(option(tools, "true", group_add=["nobodys"]), levrt.LevError)
    assert "nobodys" in str(e)


async def test_kernel_parameters(tools):
    script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax"
    sysctls = {"net.core.somaxconn": 99, "kernel.msgmax": "4096"}
    assert await lines(option(tools, script, sysctls=sysctls)) == ["99", "4096"]
    e = await failure(
        option(tools, "true", sysctls={"kernel.pid_max": 99}), levrt.LevError
    )
    assert "kernel.pid_max" in str(e)


async def test_security(tools):
    script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f 2"
    default, bound, open_ = await all_of(
        option(tools, script),
        option(tools, script, security_opt=["no-new-privileges"]),
        option(tools, script, security_opt=["seccomp=unconfined"]),
    )
    assert (default, bound, open_) == (["0", "2"], ["1", "2"], ["0", "0"])


async def test_namespaces_of_the_machine(tools):
    script = "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc"
    host = [os.readlink("/proc/self/ns/pid"), os.readlink("/proc/self/ns/ipc")]
    own, shared, pids = await all_of(
        option(tools, script),
        option(tools, script, pid_mode="host", ipc_mode="host"),
        # What it has started ends with it all the same.
        option(tools, script + "; sleep 1000 &", pid_mode="host"),
    )
    assert not set(own) & set(host)
    assert shared == host
    assert pids[0] == host[0] and pids[1] not in (host[1], own[1])


async def test_processes_of_another_container(tools):
    other = await sh(tools, "echo up; exec sleep 1000").start()
    try:
        cr = option(tools, "cat /proc/*/cmdline", pid_mode=f"container:{other.name}")
        assert "sleep\x001000" in "".join(await lines(cr))
    finally:
        await other.stop(0)


async def test_names_of_domains(tools):
    script = "grep -E '^(search|options)' /etc/resolv.conf; hostname -f"
    cr = sh(
        tools,
        script,
        host_config={"dns_search": ["a.example"], "dns_opt": ["ndots:3"]},
        options={"hostname": "tool", "domainname": "b.example"},
    )
    assert await lines(cr) == ["search a.example", "options ndots:3", "tool.b.example"]


async def test_labels(engine, tools):
    task = await sh(
        tools, "exec sleep 1000", options={"labels": {"of.the.user": "7"}}
    ).start()
    try:
        assert engine.labels(task.name)["of.the.user"] == "7"
    finally:
        await task.stop(0)


LATER = (
    "mac_address volumes volumes_from network_disable tty stdin_open"
    " detach stop_signal stop_timeout healthcheck platform runtime networking_config"
    " lxc_conf restart_policy log_config auto_remove device_requests isolation"
).split()


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("where", ["host_config", "options"])
async def test_options_that_are_not_there_yet(name, where):
    with pytest.raises(levrt.UnsupportedOption, match=rf"\b{name}\b") as info:
        Cr("image", **{where: {name: 1}})
    assert isinstance(info.value, ValueError)


async def test_options_that_the_engine_refuses(tools):
    e = await failure(option(tools, "true", devices=["/dev/no-such"]), levrt.LevError)
    assert "/dev/no-such" in str(e)
    e = await failure(
        option(tools, "true", network_mode="no-such-network"), levrt.LevError
    )
    assert "no-such-network" in str(e)
