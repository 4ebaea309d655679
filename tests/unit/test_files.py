"""levrt.files: the values of Cr(files=…)."""

import copy
import dataclasses
import pathlib
import pickle

import pytest

from levrt.files import Digest, File

HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize("text", [HEX, HEX.upper(), f"sha256:{HEX}"])
def test_a_digest_is_its_digits(text):
    digest = Digest(text)
    assert digest.sha256 == HEX
    assert str(digest) == f"sha256:{HEX}"
    assert digest == Digest(HEX) and hash(digest) == hash(Digest(HEX))


@pytest.mark.parametrize("text", ["", "abc", HEX[:-1], HEX + "0", "md5:" + HEX[:-4]])
def test_what_is_no_digest_is_refused(text):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Digest(text)


def test_bytes_are_no_digest():
    with pytest.raises(TypeError, match="sha256 must be a str, not bytes"):
        Digest(HEX.encode())


def test_a_digest_is_frozen_and_can_be_copied():
    digest = Digest(HEX)
    with pytest.raises(dataclasses.FrozenInstanceError):
        digest.sha256 = HEX
    assert copy.copy(digest) == pickle.loads(pickle.dumps(digest)) == digest


@pytest.mark.parametrize("value", [b"x", "x", pathlib.Path("x"), Digest(HEX)])
def test_file_knows_what_it_takes(value):
    assert isinstance(value, File)


@pytest.mark.parametrize("value", [None, 1, ["x"], bytearray(b"x")])
def test_file_knows_what_it_does_not_take(value):
    assert not isinstance(value, File)


def test_file_is_an_annotation():
    def tool(words: File = None, more: File | None = None):
        return words, more

    assert tool.__annotations__["words"] is File
