"""The start of a closure that stores one key, beside ``python -I -S -c pass``.

Both are run on the host without a container, in turns, cold but for the page
cache. Printed are the medians, their ratio, and where a closure's time goes.
Run from the checkout: python tests/bench/bench_guest.py [ROUNDS]
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "fakes")]

import channel  # noqa: E402

import levrt.bundle  # noqa: E402
from levrt.entry import remote  # noqa: E402


@remote
def entry():
    from levrt import lev

    lev.set(key=1)


def seconds(argv, env):
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env)
    _, status = os.waitpid(pid, 0)
    assert status == 0, argv
    return time.perf_counter() - start


def closure_seconds(argv, payload, sock):
    host = channel.Host(payload)
    with channel.Listener(sock, host):
        took = seconds(argv, channel.environment(f"unix:{sock}"))
    assert host.data == {"key": 1}
    return took


def imports(bundle, payload, sock):
    """name → µs of each module that a closure's start imports."""
    argv = channel.command(bundle)
    argv[1:1] = ["-X", "importtime"]
    process = channel.run_guest(bundle, channel.Host(payload), sock, argv=argv)
    lines = re.findall(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)", process.stderr)
    return {name: int(took) for took, name in lines}


def base_imports(python):
    run = subprocess.run(
        [python, "-X", "importtime", "-I", "-S", "-c", "pass"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"\| +(\S+)$", run.stderr, re.MULTILINE))


def main(rounds="60"):
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    with tempfile.TemporaryDirectory() as folder:
        sock = f"{folder}/sock"
        bundle = levrt.bundle.ensure(f"{folder}/cache")
        payload = entry().payload()
        plain, bundled, closure = [], [], []
        for _ in range(int(rounds)):
            plain.append(seconds([python, "-I", "-S", "-c", "pass"], {}))
            bundled.append(
                seconds([f"{bundle}/bin/python3", "-I", "-S", "-c", "pass"], {})
            )
            closure.append(closure_seconds(channel.command(bundle), payload, sock))
        ours = imports(bundle, payload, sock)
        known = base_imports(python)
    a, b, c = (statistics.median(times) * 1e3 for times in (plain, bundled, closure))
    ratio = statistics.median(y / x for x, y in zip(plain, closure, strict=True))
    print(f"python -I -S -c pass            {a:7.2f} ms")
    print(f"the same by launcher and bundle {b:7.2f} ms")
    print(f"a closure that stores one key   {c:7.2f} ms   {ratio:.2f}x")
    rest = {name: took for name, took in ours.items() if name not in known}
    print(f"  of it, imports: {sum(rest.values()) / 1e3:.2f} ms")
    for name, took in sorted(rest.items(), key=lambda item: -item[1])[:8]:
        print(f"    {name:30}{took / 1e3:6.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
