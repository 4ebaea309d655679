"""A bundle for crun alone, with what the engine of containers tells it.

The engine writes its config.json for runc: there the seccomp profile is JSON.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import helper

import levrt

UNIFIED = "/sys/fs/cgroup/unified"


def written(image: str, store: str, cmd: list[str]) -> tuple[dict[str, Any], Path]:
    """The engine's config.json of a container without a network, and a copy of
    the files that it mounts there. They are in the helper's memory."""

    files = Path(store) / "bench-files"

    async def main() -> dict[str, Any]:
        cr = levrt.Cr(image, cmd=cmd, check=False, host_config={"network_mode": "none"})
        task = await cr.start()
        inside = f"/proc/{helper.pid()}/root{store}/sessions"
        (directory,) = Path(inside).glob(f"*/state/bundles/{task.name}")
        config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        files.mkdir(exist_ok=True)
        for name in ("hosts", "hostname", "resolv.conf"):
            shutil.copy(directory / name, files / name)
        await task.stop(0)
        return config

    helper.pid.cache_clear()  # each session has one
    before = dict(os.environ)
    os.environ.update(LEVRT_ENGINE=f"oci:{store}", LEVRT_OCI_RUNTIME="runc")
    try:
        return levrt.run(main()), files
    finally:
        os.environ.clear()
        os.environ.update(before)


def make(
    where: Path, root: Path, image: str, store: str, cmd: list[str], *, seccomp: bool
) -> Path:
    """A bundle at `where` that runs `cmd` in the directory `root`."""
    config, files = written(image, store, ["sleep", "1000"])
    config["process"]["args"][2:] = cmd
    config["root"]["path"] = str(root)
    del config["linux"]["cgroupsPath"]  # one per container
    if not seccomp:
        del config["linux"]["seccomp"]
    for mount in config["mounts"]:
        source = Path(mount["source"])
        if source.name in ("hosts", "hostname", "resolv.conf"):
            mount["source"] = str(files / source.name)
    where.mkdir(parents=True)
    (where / "config.json").write_text(json.dumps(config))
    return where


def without_hybrid(argv: list[str | Path]) -> list[str | Path]:
    """The command where crun sees no hybrid of cgroups v1 and v2, which it
    refuses."""
    if not os.path.ismount(UNIFIED):
        return argv
    script = f'umount {UNIFIED}; exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *argv]
