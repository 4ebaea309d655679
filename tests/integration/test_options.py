"""host_config= and options=, each observed from inside the container."""

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


LATER = (
    "domainname mac_address labels volumes volumes_from network_disable tty stdin_open"
    " detach stop_signal stop_timeout healthcheck platform runtime networking_config"
    " port_bindings lxc_conf restart_policy oom_kill_disable publish_all_ports"
    " dns_search pid_mode ipc_mode security_opt log_config mem_swappiness shm_size"
    " cpu_group cpu_period cpu_quota cpuset_cpus group_add sysctls init userns_mode"
    " auto_remove device_requests cgroup_parent dns_opt isolation"
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
