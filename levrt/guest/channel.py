"""The channel to the workflow: BSON documents both ways over one socket.

Threads take turns: a frame that is to be acknowledged holds the channel until
its answer is there. So do processes that were forked: from the first fork on,
the number of the last frame lies in shared memory and a record lock guards
the exchange (the kernel drops it when its holder dies).

A signal handler that raises, as Ctrl-C's does, would leave half a frame or an
unread answer behind. While a frame is under way, handlers of the main thread
are put off until it is over; the workflow answers or the socket ends, so that
is not long.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import _thread
import posix

try:
    from levrt._guest import decode, encode
except ImportError:  # the image's interpreter cannot load it
    from levrt.guest.purebson import decode, encode  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any

FRAME_MAX = 48 * 1024 * 1024
# How long a guest waits for the relay of an engine that is not on this machine.
ACCEPT_TIMEOUT = 120.0

# What the shared memory says about the exchange under way. A short frame goes
# out in one piece, or not at all: only of a long one, half may have been sent.
_IDLE, _SENDING, _WAITING, _ENDED = 0, 1, 2, 3
_ONE_PIECE = 32 * 1024
_OVER = "the entry has ended"


class ChannelError(ConnectionError):
    """The workflow cannot be reached (any more)."""


def connect(way: str, token: str) -> "Channel":
    """``unix:<path>``: a socket to connect to; ``abstract:<name>``: a name to
    listen at, for the relay."""
    kind, _, name = way.partition(":")
    if kind == "unix":
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(name)
        except BaseException:
            sock.close()
            raise
        return Channel(sock)
    if kind == "abstract":
        return Channel(_accept(name, token.encode()))
    raise ChannelError(f"LEV_CHANNEL has {way!r}: not unix:<path> or abstract:<name>")


def _accept(name: str, token: bytes) -> _socket.socket:
    """One connection, by a process of this container that knows the token.

    Abstract names belong to the network namespace, and that may be the host's.
    """
    with _Closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as listener:
        listener.bind("\0" + name)
        listener.listen(4)
        listener.settimeout(ACCEPT_TIMEOUT)
        while True:
            fd, _ = listener._accept()  # type: ignore[attr-defined]
            sock = _socket.socket(fileno=fd)
            if _is_relay(sock, token):
                return sock
            sock.close()


class _Closing:
    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock

    def __enter__(self) -> _socket.socket:
        return self.sock

    def __exit__(self, *exc: object) -> None:
        self.sock.close()


def _is_relay(sock: _socket.socket, token: bytes) -> bool:
    peer = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    if not any(peer[:4]):  # pid 0: of another PID namespace
        return False
    sock.settimeout(5.0)
    said = b""
    try:
        while len(said) < len(token):
            part = sock.recv(len(token) - len(said))
            if not part:
                return False
            said += part
    except OSError:
        return False
    sock.settimeout(None)
    return said == token


class _Undisturbed:
    """Puts Python's signal handlers off: they would raise between two bytes."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self.came: list[int] = []

    def _note(self, number: int, frame: "FrameType | None") -> None:
        self.came.append(number)

    def __enter__(self) -> None:
        if _thread.get_ident() != _main_thread:
            return  # handlers run on the main thread only
        try:
            for number in _handled:
                handler = _signal.getsignal(number)
                if callable(handler):
                    self.handlers[number] = handler
                    _signal.signal(number, self._note)
        except BaseException:  # by the handler of one that was not replaced yet
            self._restore()
            raise

    def _restore(self) -> None:
        for number, handler in self.handlers.items():
            _signal.signal(number, handler)

    def __exit__(self, *exc: object) -> None:
        try:
            self._restore()
        except BaseException:  # by a handler that was there again
            self._restore()
            raise
        for number in self.came:  # not raise_signal: asyncio has seen it already
            self.handlers[number](number, None)


_main_thread = _thread.get_ident()
_handled = sorted(_signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP})


class Channel:
    """One for the process and its forks; any thread may use it."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._lock = _thread.allocate_lock()
        self._owner = 0  # the thread that holds the lock
        self._seq = 0
        self._pid = posix.getpid()
        self._shared = -1  # memory shared with forks: state, sequence number
        self._broken = ""
        posix.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._after_in_parent,
            after_in_child=self._after_in_child,
        )

    # The first exchange.

    def hello(self, token: str, python: str) -> "dict[str, Any]":
        """Says who this is; the answer holds the payload."""
        self._write(encode({"hello": 1, "token": token, "python": python}))
        return decode(self._read())

    # Frames of the entry.

    def store(self, data: "Mapping[str, Any]") -> None:
        """Returns when `data` is stored, or raises what the workflow says."""
        document = encode(data)  # raises before anything is sent
        if len(document) > FRAME_MAX - 64:
            raise _too_large(len(document))
        with _Undisturbed():
            self._acquire()
            try:
                answer = self._exchange(document)
            finally:
                self._release()
        if "nak" in answer:
            from levrt.guest.errors import refusal

            raise refusal(answer)

    def tell(self, frame: "Mapping[str, Any]") -> None:
        """A frame without an answer."""
        self._tell(encode(frame), _IDLE)

    def end(self, code: int) -> None:
        """The last frame; forks that live on are refused from then on."""
        try:
            self._tell(encode({"exit": code}), _ENDED)
        finally:
            self._broken = _OVER
            self._sock.close()

    def _tell(self, data: bytes, then: int) -> None:
        with _Undisturbed():
            self._acquire()
            try:
                self._enter()
                self._send(data, then)
            finally:
                self._release()

    @property
    def is_own(self) -> bool:
        """False in a process that was forked."""
        return posix.getpid() == self._pid

    def busy_here(self) -> bool:
        """Whether this thread is inside of an exchange: it cannot start one."""
        return self._owner == _thread.get_ident()

    # Taking turns.

    def _acquire(self) -> None:
        if self.busy_here():
            raise RuntimeError(
                "lev was called by a destructor or hook while this thread was"
                " storing something"
            )
        self._lock.acquire()
        self._owner = _thread.get_ident()
        self._lock_memory(posix.F_LOCK)

    def _release(self) -> None:
        self._lock_memory(posix.F_ULOCK)
        self._owner = 0
        self._lock.release()

    def _lock_memory(self, command: int) -> None:
        if self._shared < 0:
            return
        try:
            posix.lockf(self._shared, command, 0)
        except OSError as e:  # a daemon closes all that it has inherited
            self._broken = self._broken or f"it was closed in this process ({e})"

    def _enter(self) -> None:
        """Looks at what an earlier holder left."""
        if self._shared >= 0 and not self._broken:
            note = posix.pread(self._shared, 9, 0)
            self._seq = int.from_bytes(note[1:], "little")
            if note[0] == _SENDING:
                self._broken = "a process died while it was sending"
            elif note[0] == _ENDED:
                self._broken = _OVER
        if self._broken:
            raise ChannelError(f"nothing can be stored: {self._broken}")

    def _note(self, state: int) -> None:
        if self._shared >= 0:
            note = bytes([state]) + self._seq.to_bytes(8, "little")
            posix.pwrite(self._shared, note, 0)

    # One exchange, under the lock.

    def _exchange(self, document: bytes) -> "dict[str, Any]":
        self._enter()
        self._seq += 1
        seq = self._seq
        self._send(_set_frame(seq, document), _WAITING)
        while True:
            answer = decode(self._read())
            # A smaller number: its process was killed before it could read it.
            if answer.get("ack", answer.get("nak")) == seq:
                self._note(_IDLE)
                return answer

    def _send(self, frame: bytes, then: int) -> None:
        self._note(_SENDING if len(frame) > _ONE_PIECE else then)
        self._write(frame)
        self._note(then)

    def _write(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as e:
            self._broken = f"the workflow has gone ({e})"
            raise ChannelError(self._broken) from None

    def _read(self) -> bytes:
        try:
            # The length stays in the socket until all of it is read at once,
            # so that a process which is killed here leaves a whole answer.
            head = b"?"
            while 0 < len(head) < 4:  # cut there by a relay: once in a blue moon
                head = self._sock.recv(4, _socket.MSG_PEEK | _socket.MSG_WAITALL)
            size = int.from_bytes(head, "little")
            if len(head) < 4 or not 5 <= size <= 2**31 - 1:
                raise OSError("it closed the channel")
            return self._receive(size)
        except OSError as e:
            self._broken = f"the workflow has gone ({e})"
            raise ChannelError(self._broken) from None

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        got = 0
        with memoryview(data) as view:
            while got < size:
                n = self._sock.recv_into(view[got:], 0, _socket.MSG_WAITALL)
                if n == 0:
                    raise OSError("it closed the channel")
                got += n
        return bytes(data)

    # Forks.

    def _before_fork(self) -> None:
        if self._owner == _thread.get_ident():
            return
        self._lock.acquire()
        if self._shared < 0:
            try:
                self._shared = posix.memfd_create("lev-channel", posix.MFD_CLOEXEC)
                self._note(_IDLE)
            except OSError:
                self._shared = -1  # the child will be refused

    def _after_in_parent(self) -> None:
        if self._owner != _thread.get_ident():
            self._lock.release()

    def _after_in_child(self) -> None:
        global _main_thread
        _main_thread = _thread.get_ident()
        self._lock = _thread.allocate_lock()
        self._owner = 0
        if self._shared < 0 and not self._broken:
            self._broken = (
                "this process was forked and this system has no memfd_create;"
                " store from the entry's own process"
            )


def _set_frame(seq: int, document: bytes) -> bytes:
    """``{set: seq, data: document}`` without another walk through the data."""
    body = b"".join(
        (
            b"\x12set\0",
            seq.to_bytes(8, "little"),
            b"\x03data\0",
            document,
            b"\0",
        )
    )
    return (len(body) + 4).to_bytes(4, "little") + body


def _too_large(size: int) -> Exception:
    from levrt.guest.errors import DocumentTooLarge

    return DocumentTooLarge(
        f"{size} bytes in one lev.set: at most {FRAME_MAX} can be sent at once;"
        " store it in parts"
    )
