"""Somebody else connects to a guest's socket before the guest does."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

import levrt
from levrt import Cr, lev


@levrt.remote
def entry():
    lev.set(came="through")


class Stranger(threading.Thread):
    """Connects to the first guest's socket that appears, and says `words`."""

    def __init__(self, words: bytes) -> None:
        super().__init__(daemon=True)
        self.words = words
        self.met = threading.Event()
        self.given_up = threading.Event()

    def run(self) -> None:
        known = set(self.sockets())
        with socket.socket(socket.AF_UNIX) as sock:
            while not self.given_up.is_set():
                new = [path for path in self.sockets() if path not in known]
                if new and sock.connect_ex(str(new[0])) == 0:
                    break
            if self.given_up.is_set():
                return
            with contextlib.suppress(ConnectionError):  # the guest was first
                sock.sendall(self.words)
                self.met.set()
            self.given_up.wait(60)

    def sockets(self) -> list[Path]:
        return list(Path(os.environ["XDG_RUNTIME_DIR"]).glob("levrt-*/*"))


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x05\x00\x00\x00\x00", b""],
    ids=["no BSON", "a wrong hello", "silence"],
)
async def test_the_guest_comes_through_all_the_same(words, engine):
    stranger = Stranger(words)
    stranger.start()
    try:
        # A quick engine's guest may be there first, some times.
        for _ in range(100):
            doc = await Cr("", entry=entry)
            assert await doc.get() == {"came": "through"}
            if stranger.met.is_set():
                break
        assert stranger.met.is_set()
    finally:
        stranger.given_up.set()
        stranger.join()
