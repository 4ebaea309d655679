"""lev-launcher: ports, the relay, and the start of the bundle's Python.

$LEVRT_TEST_LAUNCHER names another build of it, as one with a sanitizer.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

import levrt.bundle

LAUNCHER = os.environ.get(
    "LEVRT_TEST_LAUNCHER",
    str(Path(levrt.bundle.__file__).parent / "bin" / "lev-launcher"),
)


def launch(*args, **kwargs):
    return subprocess.run(
        [LAUNCHER, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **kwargs,
    )


@contextlib.contextmanager
def listening(family=socket.AF_INET, address="127.0.0.1"):
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        sock.listen(1)
        yield sock.getsockname()[1]


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# probe


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::"),
    ],
)
def test_a_listener_on_any_address(family, address):
    with listening(family, address) as port:
        run = launch("probe", "--timeout-ms", 5000, port)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_it_waits_for_all():
    ports = [unused_port(), unused_port()]
    probe = subprocess.Popen([LAUNCHER, "probe", *map(str, ports)])
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", ports[0]))
        first.listen(1)
        second.bind(("127.0.0.1", ports[1]))  # bound is not listening
        with pytest.raises(subprocess.TimeoutExpired):
            probe.wait(0.3)
        second.listen(1)
        assert probe.wait(60) == 0


def test_a_connection_is_no_listener():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        with socket.create_connection(sock.getsockname()) as client:
            run = launch("probe", "--timeout-ms", 1, client.getsockname()[1])
    assert run.returncode == 3


def test_the_time_out_says_what_listens_instead():
    missing = unused_port()
    with listening() as one, listening(socket.AF_INET6, "::1") as other:
        run = launch("probe", "--timeout-ms", 20, missing, one)
        assert run.returncode == 3
        said = json.loads(run.stdout)
        assert said["missing"] == [missing]
        assert {one, other} <= set(said["listening"])
        assert said["listening"] == sorted(set(said["listening"]))
    assert run.stdout.count("\n") == 1


def test_owned_looks_at_the_processes_it_can_see():
    with listening() as port:
        assert launch("probe", "--owned", "--timeout-ms", 5000, port).returncode == 0
        # In a PID namespace of its own it sees itself only.
        apart = ["unshare", "--pid", "--fork", "--mount-proc", LAUNCHER, "probe"]
        run = subprocess.run(
            [*apart, "--owned", "--timeout-ms", "50", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 3
        assert json.loads(run.stdout) == {"missing": [port], "listening": []}
        run = subprocess.run(
            [*apart, "--timeout-ms", "5000", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0


def test_an_empty_network_namespace():
    run = subprocess.run(
        ["unshare", "--net", LAUNCHER, "probe", "--timeout-ms", "20", "80"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3
    assert json.loads(run.stdout) == {"missing": [80], "listening": []}


def test_more_listeners_than_one_answer_holds():
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(listening()) for _ in range(300)]
        run = launch("probe", "--timeout-ms", 20, *ports, unused_port())
        assert len(json.loads(run.stdout)["missing"]) == 1
        assert len(json.loads(run.stdout)["listening"]) == 100
        assert launch("probe", *ports).returncode == 0


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "usage: lev-launcher probe"),
        (("what",), "usage: lev-launcher probe"),
        (("probe",), "probe needs at least one port"),
        (("probe", "x"), 'a port must be a number from 1 to 65535, not "x"'),
        (("probe", "0"), "a port must be a number from 1 to 65535"),
        (("probe", "65536"), "a port must be a number from 1 to 65535"),
        (("probe", "80 "), "a port must be a number from 1 to 65535"),
        (("probe", "--fast", "80"), "probe does not know the option --fast"),
        (("probe", "--timeout-ms"), "probe does not know the option --timeout-ms"),
        (("probe", "--timeout-ms", "x", "80"), "--timeout-ms must be a number"),
        (("relay",), "relay needs the name of one abstract socket"),
        (("relay", ""), "relay needs the name of one abstract socket"),
        (("relay", "a", "b"), "relay needs the name of one abstract socket"),
        (("relay", "a" * 108), "at most 107 bytes long"),
        (("relay", "--timeout-ms", "-1", "a"), "--timeout-ms must be a number"),
    ],
)
def test_wrong_arguments(args, text):
    run = launch(*args)
    assert run.returncode == 2
    assert run.stderr.startswith(f"lev-launcher: {text}") or text in run.stderr
    assert run.stdout == ""


# relay


@pytest.fixture
def guest():
    with socket.socket(socket.AF_UNIX) as listener:
        name = f"lev-test-{os.getpid()}-{id(listener):x}"
        listener.bind("\0" + name)
        listener.settimeout(60)
        yield listener, name


def start_relay(name, *args, token="T0KEN"):
    env = {**os.environ, "LEV_TOKEN": token}
    return subprocess.Popen(
        [LAUNCHER, "relay", *args, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, data
        data += part
    return data


def test_both_ways_with_half_closes(guest):
    listener, name = guest
    relay = start_relay(name)
    listener.listen(1)  # later than the relay: it waits
    peer, _ = listener.accept()
    with peer:
        assert receive(peer, 5) == b"T0KEN"
        relay.stdin.write(b"to the guest")
        relay.stdin.close()
        assert receive(peer, 12) == b"to the guest"
        assert peer.recv(1) == b""  # the host's end, seen by the guest
        peer.sendall(b"to the host")
    assert relay.stdout.read() == b"to the host"
    assert relay.wait(60) == 0
    assert relay.stderr.read() == b""
    relay.stdout.close()
    relay.stderr.close()


def test_much_in_both_ways_at_once(guest):
    listener, name = guest
    listener.listen(1)
    relay = start_relay(name, token="")
    peer, _ = listener.accept()
    data = os.urandom(1 << 20) * 16
    back = []

    def write(f):
        f.write(data)
        f.close()

    def echo():
        got = receive(peer, len(data))
        assert got == data

    def send():
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)

    threads = [
        threading.Thread(target=write, args=(relay.stdin,)),
        threading.Thread(target=lambda: back.append(relay.stdout.read())),
        threading.Thread(target=echo),
        threading.Thread(target=send),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert back == [data]
    assert relay.wait(60) == 0
    peer.close()
    relay.stdout.close()
    relay.stderr.close()


def test_a_killed_guest_ends_the_relay(guest):
    listener, name = guest
    listener.listen(1)
    relay = start_relay(name)
    peer, _ = listener.accept()
    assert receive(peer, 5) == b"T0KEN"
    relay.stdin.write(b"never read")
    relay.stdin.flush()
    peer.close()
    assert relay.wait(60) == 0
    for pipe in (relay.stdin, relay.stdout, relay.stderr):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def test_no_guest():
    run = launch("relay", "--timeout-ms", 30, "lev-test-nobody")
    assert run.returncode == 1
    assert run.stderr == "lev-launcher: no guest listens after 30 ms\n"


def test_a_guest_outside_of_the_container(guest):
    listener, name = guest
    listener.listen(1)
    run = subprocess.run(
        ["unshare", "--pid", "--fork", LAUNCHER, "relay", name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"LEV_TOKEN": "secret"},
    )
    assert run.returncode == 1
    assert "held by a process outside of this container" in run.stderr
    peer, _ = listener.accept()
    with peer:
        assert peer.recv(100) == b""  # it was not told


# python


@pytest.fixture
def fake_bundle(tmp_path):
    """A bundle whose loader shows what it was given."""
    for name in ("bin", "loader"):
        (tmp_path / name).mkdir()
    os.link(LAUNCHER, tmp_path / "bin" / "python3")
    loader = tmp_path / "loader" / "python3"
    loader.write_text('#!/bin/sh\nfor a; do echo "[$a]"; done\nenv\n')
    loader.chmod(0o755)
    return tmp_path


def test_the_loader_gets_its_arguments(fake_bundle):
    python = str(fake_bundle / "bin" / "python3")
    run = subprocess.run(
        [python, "-c", "code", ""],
        capture_output=True,
        text=True,
        check=True,
        env={
            "LD_PRELOAD": "a",
            "LD_LIBRARY_PATH": "",
            "PYTHONPATH": "b=c",
            "PATH": "/bin:/usr/bin",
        },
    )
    lines = run.stdout.splitlines()
    assert lines[:10] == [
        "[--library-path]",
        f"[{fake_bundle}/lib]",
        "[--inhibit-rpath]",
        "[]",
        "[--argv0]",
        f"[{python}]",
        f"[{fake_bundle}/libexec/python3]",
        "[-c]",
        "[code]",
        "[]",
    ]
    assert set(lines[10:]) >= {
        "LEV_ENV_LD_PRELOAD=a",
        "LEV_ENV_LD_LIBRARY_PATH=",
        "LEV_ENV_PYTHONPATH=b=c",
        "PATH=/bin:/usr/bin",
    }
    assert not [x for x in lines if x.startswith(("LD_", "PYTHON"))]


def test_by_a_short_name(fake_bundle):
    run = subprocess.run(
        ["python3"],
        executable=fake_bundle / "bin" / "python3",
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"[{fake_bundle}/bin/python3]" in run.stdout.splitlines()


def test_without_a_bundle(tmp_path):
    os.link(LAUNCHER, tmp_path / "python3")
    run = subprocess.run(
        [tmp_path / "python3"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 127
    assert run.stderr.startswith("lev-launcher: no runtime bundle at ")


def test_signals_end_it():
    for args in (["probe", str(unused_port())], ["relay", "lev-test-nobody"]):
        process = subprocess.Popen([LAUNCHER, *args])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
