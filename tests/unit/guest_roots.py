"""Root file systems for guests, without a container engine.

A private mount namespace stands in for a container: the bundle is mounted
read-only at /lev of some root directory, the host's socket over /lev/sock, and
the guest runs there under chroot. Needs root.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import levrt.bundle

sys.path.append(str(Path(__file__).parents[1] / "fakes"))

import channel

PACKAGE = Path(levrt.bundle.__file__).parent


def build_bundle(cache, python=sys.executable, **env):
    """The last line that the program prints, as the core reads it."""
    run = subprocess.run(
        [python, str(PACKAGE / "bundle.py"), str(cache)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1]


def empty_root(path):
    """What an image `FROM scratch` has."""
    for name in ("lev", "proc"):
        (path / name).mkdir(parents=True)
    return path


def busybox_root(path):
    """A shell and its tools, statically linked; no libc, no Python."""
    empty_root(path)
    for name in ("bin", "etc", "tmp"):
        (path / name).mkdir()
    shutil.copy(shutil.which("busybox"), path / "bin" / "busybox")
    for name in ("sh", "echo", "cat", "id", "env"):
        (path / "bin" / name).symlink_to("busybox")
    return path


# $1 root, $2 bundle, $3 socket, $4 user, $5 "ro" or "rw"; the rest is run.
_ENTER = """
set -e
root=$1 bundle=$2 sock=$3 user=$4 mode=$5
shift 5
mount --bind "$root" "$root"
mount --bind "$bundle" "$root/lev"
mount --bind "$sock" "$root/lev/sock"
mount -o remount,bind,ro "$root/lev"
mount -t proc proc "$root/proc"
[ "$mode" = rw ] || mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" "$@"
"""


def run_in_root(root, bundle, host, sock, *, user="1000:1000", mode="ro", env=None):
    """Runs the guest in `root`; the channel's socket is at `sock`, outside."""
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER]
    argv = [*enter, "enter", str(root), str(bundle), str(sock), user, mode]
    with channel.Listener(sock, host):
        return subprocess.run(
            [*argv, *channel.command()],
            env=channel.environment("unix:/lev/sock", **(env or {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
