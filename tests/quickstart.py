"""The quickstart's main job: the README's workflow over targets of its own.

usage: quickstart.py README_WORKFLOW_DIR
"""

import asyncio
import logging
import sys
from collections.abc import Callable

import levrt
from levrt import Cr, Task

sys.path.insert(0, sys.argv[1])
import scan as workflow  # noqa: E402  (the README's scan.py)


@levrt.remote
def serve(port: int, banner: bytes) -> None:
    """A service that greets; it needs no image, only the runtime."""
    import socket

    with socket.create_server(("", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(banner)


@levrt.remote
def serve_pages(port: int) -> None:
    import http.server

    handler = http.server.SimpleHTTPRequestHandler
    http.server.ThreadingHTTPServer(("", port), handler).serve_forever()


TARGETS: dict[str, Callable[[], Cr]] = {
    "a web server": lambda: Cr("", entry=serve_pages(8080), ports=[8080]),
    "an SSH server": lambda: Cr(
        "", entry=serve(22, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), ports=[22]
    ),
    "an FTP server": lambda: Cr(
        "", entry=serve(21, b"220 (vsFTPd 3.0.3)\r\n"), ports=[21]
    ),
    "a mail server": lambda: Cr(
        "", entry=serve(25, b"220 mail.example ESMTP Postfix\r\n"), ports=[25]
    ),
}


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


async def findings(
    coll: levrt.Collection, hosts: dict[str, str]
) -> list[tuple[str, ...]]:
    """What the store has of these hosts, the newest scans."""
    rows: list[tuple[str, ...]] = [("target", "address", "port", "service", "product")]
    query = {"target": {"$in": list(hosts)}, "ports": {"$exists": True}}
    async for doc in coll.find(query).sort("_id", -1).limit(len(hosts)):
        for port in doc["ports"]:
            product = f"{port.get('product', '')} {port.get('version', '')}".strip()
            service = port.get("name", "?")
            name = hosts[doc["target"]]
            rows.append((name, doc["target"], str(port["port"]), service, product))
    return rows


async def main() -> None:
    print(f"starting {len(TARGETS)} targets …")
    tasks: list[Task] = await asyncio.gather(*(cr().start() for cr in TARGETS.values()))
    hosts = {task.host: name for task, name in zip(tasks, TARGETS, strict=True)}
    for host, name in hosts.items():
        print(f"  {name} at {host}")
    print("scanning them with the README's workflow …")
    docs = await workflow.main(list(hosts))
    await asyncio.gather(*(task.stop(1) for task in tasks))
    coll = docs[0].coll
    rows = await findings(coll, hosts)
    print(f"\nfindings, from the collection {coll.name}:\n\n{table(rows)}\n")
    if len(rows) - 1 < len(TARGETS):
        raise SystemExit("a target was not found: see above")


logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
levrt.run(main())
