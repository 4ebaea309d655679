"""A host for guests: serves the channel's frames on a unix socket.

What src/run does in C, without containers: it hands the payload over,
acknowledges what the guest stores (or refuses it), and keeps all that came.
"""

import os
import socket
import subprocess
import threading

from levrt.guest.purebson import decode, encode

TOKEN = "0123456789abcdef"


class Host:
    """One guest's host. `refuse`: a function of the data that returns None or
    (type, text) for a {nak}; `before_ack` is called before each answer."""

    def __init__(self, payload, argv=(), *, entry="entry", level=None):
        self.answer = {"payload": payload, "entry": entry, "argv": list(argv)}
        if level is not None:
            self.answer["level"] = level
        self.refuse = lambda data: None
        self.before_ack = lambda: None
        self.hello = None
        self.seqs = []
        self.stored = []
        self.logs = []
        self.progress = []
        self.fail = None
        self.exit = None
        self.error = None  # what went wrong in the serving thread
        self.closed = threading.Event()

    @property
    def data(self):
        """The document, as the store has it: one $set after another."""
        merged = {}
        for part in self.stored:
            merged.update(part)
        return merged

    def serve(self, connection):
        """Until the guest hangs up."""
        try:
            with connection:
                while (frame := read_frame(connection)) is not None:
                    self._take(connection, frame)
        except Exception as e:
            self.error = e
        finally:
            self.closed.set()

    def _take(self, connection, frame):
        kind = next(iter(frame))
        if self.exit is not None:
            raise AssertionError(f"{kind} after exit")
        getattr(self, f"_on_{kind}")(connection, frame)

    def _on_hello(self, connection, frame):
        assert self.hello is None and frame["token"] == TOKEN, frame
        self.hello = frame
        connection.sendall(encode(self.answer))

    def _on_set(self, connection, frame):
        self.seqs.append(frame["set"])
        refusal = self.refuse(frame["data"])
        if refusal is None:
            self.stored.append(frame["data"])
            answer = {"ack": frame["set"]}
        else:
            answer = {"nak": frame["set"], "type": refusal[0], "text": refusal[1]}
        self.before_ack()
        connection.sendall(encode(answer))

    def _on_log(self, connection, frame):
        self.logs.append((frame["log"], frame["name"], frame["text"]))

    def _on_progress(self, connection, frame):
        self.progress.append((frame["progress"], frame["text"]))

    def _on_fail(self, connection, frame):
        self.fail = frame["fail"]

    def _on_exit(self, connection, frame):
        self.exit = frame["exit"]


def read_frame(connection):
    head = read_exactly(connection, 4)
    if head is None:
        return None
    return decode(head + read_exactly(connection, int.from_bytes(head, "little") - 4))


def read_exactly(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            if data:
                raise EOFError(f"{len(data)} of {size} bytes came")
            return None
        data += part
    return data


class Listener:
    """A unix socket at `path` on which one guest is served, in a thread."""

    def __init__(self, path, host):
        self.path = str(path)
        self.host = host
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o666)
        self.socket.listen(1)
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return  # closed: no guest came
        self.host.serve(connection)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()
        os.unlink(self.path)
        if self.host.error is not None and exc[0] is None:
            raise self.host.error


def environment(channel, **variables):
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LEV_CHANNEL": channel,
        "LEV_TOKEN": TOKEN,
        **variables,
    }


def command(bundle="/lev"):
    """As the container's entrypoint."""
    return [f"{bundle}/bin/python3", "-I", "-S", "-X", "utf8", f"{bundle}/boot.py"]


def run_guest(bundle, host, path, *, env=None, timeout=60, argv=None):
    """Runs the guest here, from where the bundle lies; socket at `path`."""
    with Listener(path, host):
        return subprocess.run(
            argv or command(bundle),
            env=environment(f"unix:{path}", **(env or {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
