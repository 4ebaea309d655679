"""ObjectId, of each codec, beside PyMongo's."""

import copy
import datetime as dt
import itertools
import os
import pickle
import threading
import time

import pytest
from bson_cases import CODECS, NAMES

import bson as pymongo

OID = "6b056c0ebde44cc488c9a275"
RAW = bytes.fromhex(OID)


@pytest.fixture(params=[codec.ObjectId for codec in CODECS], ids=NAMES)
def cls(request):
    return request.param


def test_forms(cls):
    for form in (OID, OID.upper(), RAW, cls(OID), pymongo.ObjectId(OID)):
        oid = cls(form)
        assert type(oid) is cls
        assert oid.binary == bytes(oid) == RAW
        assert str(oid) == OID
        assert repr(oid) == f"ObjectId('{OID}')"
    assert cls(oid=OID) == cls(OID)
    assert cls(None) != cls(None)


def test_each_takes_the_others(cls):
    for codec in CODECS:
        other = codec.ObjectId(OID)
        assert cls(other) == other == cls(OID)
        assert hash(other) == hash(cls(OID))
        assert codec.decode(codec.encode({"a": cls(OID)})) == {"a": cls(OID)}


@pytest.mark.parametrize(
    "form, exc, message",
    [
        ("", ValueError, "oid must be 24 hexadecimal digits or 12 bytes, not ''"),
        (OID[:-1], ValueError, "oid must be 24 hexadecimal digits"),
        (OID + "0", ValueError, "oid must be 24 hexadecimal digits"),
        (OID[:-1] + "g", ValueError, "oid must be 24 hexadecimal digits"),
        (OID[:-1] + "\uff11", ValueError, "oid must be 24 hexadecimal digits"),
        (" " + OID[1:], ValueError, "oid must be 24 hexadecimal digits"),
        (OID[:22] + "\n0", ValueError, "oid must be 24 hexadecimal digits"),
        (RAW[:-1], ValueError, "12 bytes, not b'k"),
        (5, TypeError, "oid must be an ObjectId, a str of 24 .* not int"),
        (bytearray(RAW), TypeError, "not bytearray"),
        ([], TypeError, "not list"),
    ],
    ids=ascii,
)
def test_bad_forms(cls, form, exc, message):
    with pytest.raises(exc, match=message):
        cls(form)
    assert cls.is_valid(form) is False


def test_is_valid(cls):
    for form in (OID, RAW, cls(), pymongo.ObjectId()):
        assert cls.is_valid(form) is True
    assert cls.is_valid(None) is False


def test_someone_elses_class_of_that_name(cls):
    class ObjectId:
        binary = RAW

    assert cls(OID) != ObjectId()
    with pytest.raises(TypeError):
        cls(ObjectId())
    ObjectId.__module__ = "bson.objectid"
    assert cls(OID) == ObjectId()
    ObjectId.binary = "twelve chars"
    assert cls(OID) != ObjectId()


def test_equal_and_ordered_like_pymongos(cls):
    low, high = cls(bytes(12)), cls(b"\xff" * 12)
    assert low < high and low <= high and high > low and high >= low
    assert low <= cls(bytes(12)) and low >= cls(bytes(12))
    assert not low < cls(bytes(12))
    theirs = pymongo.ObjectId(OID)
    assert cls(OID) == theirs and theirs == cls(OID)
    assert low < theirs and theirs < high and theirs > low
    assert hash(cls(OID)) == hash(theirs)
    assert {theirs: 1}[cls(OID)] == 1
    assert cls(OID) != OID and cls(OID) != RAW
    with pytest.raises(TypeError):
        low < OID  # noqa: B015


def test_generation_time(cls):
    assert cls(OID).generation_time == pymongo.ObjectId(OID).generation_time
    assert cls(bytes(12)).generation_time == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    last = cls(b"\xff" * 12).generation_time
    assert last == dt.datetime(2106, 2, 7, 6, 28, 15, tzinfo=dt.UTC)


def test_from_datetime(cls):
    when = dt.datetime(2024, 2, 29, 12, 0, 1, 999999, tzinfo=dt.UTC)
    oid = cls.from_datetime(when)
    assert oid == pymongo.ObjectId.from_datetime(when)
    assert oid.binary[4:] == bytes(8)
    assert cls.from_datetime(when.replace(tzinfo=None)) == oid
    with pytest.raises(TypeError, match="generation_time must be a datetime, not int"):
        cls.from_datetime(5)
    for year in (1969, 2107):
        with pytest.raises(ValueError, match="in the years 1970 to 2106"):
            cls.from_datetime(dt.datetime(year, 1, 1))


def test_new_ones(cls):
    before = int(time.time())
    oids = [cls() for _ in range(1000)]
    after = int(time.time())
    assert len(set(oids)) == 1000
    assert before <= int.from_bytes(oids[0].binary[:4]) <= after
    assert len({oid.binary[4:9] for oid in oids}) == 1
    counts = [int.from_bytes(oid.binary[9:]) for oid in oids]
    assert all((b - a) % 2**24 == 1 for a, b in itertools.pairwise(counts))


def test_new_ones_in_threads(cls):
    oids = []
    threads = [
        threading.Thread(target=lambda: oids.extend([cls() for _ in range(2000)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(oids)) == 8000


def test_new_ones_after_fork(cls):
    ours = cls()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, bytes(cls()))
        os._exit(0)
    os.close(write)
    theirs = os.read(read, 12)
    os.close(read)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(theirs) == 12
    assert theirs[4:9] != ours.binary[4:9]
    assert cls().binary[4:9] == ours.binary[4:9]


def test_is_immutable(cls):
    oid = cls(OID)
    for name in ("binary", "_data", "anything"):
        with pytest.raises(AttributeError):
            setattr(oid, name, b"x")
    with pytest.raises(TypeError):
        type("Sub", (cls,), {})


def test_copies(cls):
    oid = cls(OID)
    assert copy.copy(oid) == copy.deepcopy(oid) == oid
    assert oid.__reduce__() == (cls, (RAW,))


def test_pickles():
    from levrt.bson import ObjectId

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(ObjectId(OID), protocol)) == ObjectId(OID)
