"""A proxy before a real engine's socket that holds requests where a test says.

A real engine passes each phase too fast to be met in it. `hold(pattern)` stops
the next request whose first line matches, before it reaches the engine, or its
answer on the way back; `reached` says that it is there; `release()` lets it go
on. Everything else passes through untouched.
"""

import contextlib
import json
import re
import socket
import threading


class Hold:
    """One stop, for the first request that matches."""

    def __init__(self, pattern: str, answer: bool) -> None:
        self.pattern = re.compile(pattern)
        self.answer = answer
        self.reached = threading.Event()
        self._released = threading.Event()
        self._taken = False
        self._instead: bytes | None = None

    def take(self, line: str, answer: bool) -> bool:
        if self._taken or answer != self.answer or not self.pattern.search(line):
            return False
        self._taken = True
        return True

    def stop_here(self) -> bytes | None:
        """What to answer in the engine's place; b"" hangs up; None: pass on."""
        self.reached.set()
        self._released.wait()
        return self._instead

    def release(self) -> None:
        self._released.set()

    def refuse(self, status: int, message: str) -> None:
        """Answers this in the engine's place."""
        body = json.dumps({"message": message})
        self._instead = (
            f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        ).encode()
        self.release()

    def hang_up(self) -> None:
        """The connection breaks where the request was to be passed on."""
        self._instead = b""
        self.release()


class Gate:
    """Listens on the unix socket `path`; the engine is behind `target`."""

    def __init__(self, path: str, target: str) -> None:
        self.target = target
        self.holds: list[Hold] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def hold(self, pattern: str, *, answer: bool = False) -> Hold:
        hold = Hold(pattern, answer)
        with self._lock:
            self.holds.append(hold)
        return hold

    def forget(self) -> None:
        with self._lock:
            holds, self.holds = self.holds, []
        for hold in holds:
            hold.release()

    def cut(self) -> None:
        """Breaks every connection there is now."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            self._shut(connection)

    def close(self) -> None:
        self.forget()
        self._shut(self._listener)
        self._threads[0].join()
        self.cut()
        for thread in self._threads[1:]:
            thread.join()
        for connection in self._open:
            connection.close()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self.target)
            asked: list[str] = []
            with self._lock:
                self._open |= {client, engine}
            for work in (
                lambda c=client, e=engine, a=asked: self._requests(c, e, a),
                lambda c=client, e=engine, a=asked: self._answers(e, c, a),
            ):
                thread = threading.Thread(target=work)
                self._threads.append(thread)
                thread.start()

    def _requests(
        self, client: socket.socket, engine: socket.socket, asked: list[str]
    ) -> None:
        with contextlib.suppress(OSError):
            reader = client.makefile("rb", 65536)
            while head := _head(reader):
                line = head.split(b"\r\n", 1)[0].decode()
                asked.append(line)
                instead = self._stop(line, answer=False)
                if instead is not None:
                    client.sendall(instead)
                    self._shut(client)
                    break
                engine.sendall(head)
                left = _length(head)
                if left is None:  # upgraded: whatever follows is a stream
                    left = 1 << 62
                while left and (data := reader.read1(min(left, 65536))):
                    engine.sendall(data)
                    left -= len(data)
        self._shut(engine, socket.SHUT_WR)

    def _answers(
        self, engine: socket.socket, client: socket.socket, asked: list[str]
    ) -> None:
        seen = 0
        with contextlib.suppress(OSError):
            while data := engine.recv(65536):
                if len(asked) > seen:
                    seen = len(asked)
                    self._stop(asked[-1], answer=True)
                client.sendall(data)
        # The client learns of the engine's end, and that ends _requests too.
        self._shut(client)

    def _stop(self, line: str, *, answer: bool) -> bytes | None:
        with self._lock:
            hold = next((h for h in self.holds if h.take(line, answer)), None)
        return None if hold is None else hold.stop_here()

    @staticmethod
    def _shut(connection: socket.socket, how: int = socket.SHUT_RDWR) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(how)


def _head(reader) -> bytes:
    head = b""
    while line := reader.readline():
        head += line
        if line == b"\r\n":
            return head
    return b""


def _length(head: bytes) -> int | None:
    if re.search(rb"(?im)^upgrade:", head):
        return None
    found = re.search(rb"(?im)^content-length: *(\d+)", head)
    return int(found[1]) if found else 0
