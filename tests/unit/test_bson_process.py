"""What the codec does to its process: imports, memory, references."""

import datetime as dt
import decimal
import gc
import importlib.machinery
import importlib.util
import re
import subprocess
import sys
import tracemalloc
import types
import uuid
import weakref

import pytest
from bson_cases import CODECS, NAMES, element

from levrt import _guest, bson as lb


@pytest.fixture(params=CODECS, ids=NAMES)
def codec(request):
    return request.param


def bare_python(code: str) -> str:
    """Run code where only the standard library and levrt._guest are."""
    program = f"""
import sys, importlib.machinery as m, importlib.util as u
loader = m.ExtensionFileLoader("levrt._guest", {_guest.__file__!r})
g = u.module_from_spec(u.spec_from_loader("levrt._guest", loader))
loader.exec_module(g)
{code}
"""
    argv = [sys.executable, "-I", "-S", "-W", "error", "-c", program]
    run = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


LAZY = ("datetime", "decimal", "enum", "re", "uuid", "levrt.bson")


def test_encoding_imports_nothing():
    code = f"""
before = set(sys.modules)
lazy = {LAZY!r}
class Text(str): pass
data = g.encode({{"a": 1, "b": [None, True, 1.5, "s", b"b", {{}}, Text("t")]}})
g.decode(data)
for bad in (object(), {{1}}, 1j):
    try:
        g.encode({{"a": bad}})
    except TypeError:
        pass
g.ObjectId(str(g.ObjectId()))
print(sorted((set(sys.modules) - before) | (set(lazy) & set(sys.modules))))
"""
    assert bare_python(code) == "[]\n"


@pytest.mark.parametrize(
    "module, value",
    [
        ("datetime", dt.datetime(2020, 1, 2, tzinfo=dt.UTC)),
        ("decimal", decimal.Decimal("1.5")),
        ("re", re.compile("a")),
        ("uuid", uuid.UUID(int=1)),
    ],
    ids=["datetime", "decimal", "re", "uuid"],
)
def test_decoding_imports_what_it_makes(module, value):
    data = _guest.encode({"a": value})
    code = f"""
assert {module!r} not in sys.modules
value = g.decode({data!r})["a"]
assert {module!r} in sys.modules
assert g.encode({{"a": value}}) == {data!r}
print(repr(value))
"""
    assert bare_python(code) == f"{value!r}\n"


def test_a_type_is_known_when_its_module_comes_later():
    code = """
try:
    g.encode({"a": object()})
except TypeError:
    pass
import datetime, decimal, uuid
g.encode({"a": [datetime.datetime(2020, 1, 1), decimal.Decimal(1), uuid.UUID(int=1)]})
print("fine")
"""
    assert bare_python(code) == "fine\n"


def test_modules_that_are_not_what_they_seem():
    code = """
import types
for name in ("datetime", "decimal", "enum", "re", "uuid", "levrt.bson"):
    sys.modules[name] = types.ModuleType(name)
for value in (object(), {1}):
    try:
        g.encode({"a": value})
    except TypeError as err:
        print(err)
sys.modules["uuid"].UUID = 5
sys.modules["levrt.bson"]._KINDS = 5
try:
    g.encode({"a": object()})
except TypeError as err:
    print(err)
sys.modules["levrt.bson"]._KINDS = {object: 99}
try:
    g.encode({"a": object()})
except SystemError as err:
    print(err)
try:
    g.decode(g.encode({})[:0] + b"\\x1d\\0\\0\\0\\5a\\0\\x10\\0\\0\\0\\4" + bytes(17))
except ImportError as err:
    print(err)
"""
    assert bare_python(code).splitlines() == [
        "a: object has no BSON type; store a dict of its parts, or str(value)",
        "a: set has no order, which BSON arrays have; store sorted(value) or list("
        "value)",
        "a: object has no BSON type; store a dict of its parts, or str(value)",
        "levrt.bson._KINDS is damaged",
        "uuid.UUID is not a class",
    ]


def test_only_its_init_function_is_exported():
    run = subprocess.run(
        ["nm", "-D", "--defined-only", _guest.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line.split()[-1] for line in run.stdout.splitlines()]
    assert [name for name in names if not name.startswith("__")] == ["PyInit__guest"]


def load_again() -> types.ModuleType:
    loader = importlib.machinery.ExtensionFileLoader("levrt._guest", _guest.__file__)
    spec = importlib.util.spec_from_loader("levrt._guest", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_two_instances_share_nothing_and_go_away():
    module = load_again()
    assert module.ObjectId is not _guest.ObjectId
    oid = module.ObjectId()
    data = module.encode({"a": oid, "t": dt.datetime(2020, 1, 1)})
    assert module.decode(data)["a"] == oid == _guest.decode(data)["a"]
    gone = weakref.ref(module.ObjectId)
    del module, oid
    gc.collect()
    assert gone() is None


DOC = {
    "text": "value",
    "longer": "x" * 100,
    "é": "€uro",
    "ints": [1, 2**40, -5, 10**15],
    "float": 1.5,
    "nested": {"a": {"b": [{"c": None}, (True, False)]}},
    "raw": b"bytes",
    "when": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "zone": dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    "uuid": uuid.UUID(int=5),
    "decimal": decimal.Decimal("1.5"),
    "re": re.compile("a.*b", re.I),
    "oid": lb.ObjectId(),
    "proxy": types.MappingProxyType({"k": [1]}),
    "special": [
        lb.Binary(b"x", 9),
        lb.Code("f", {"x": 1}),
        lb.Code("f"),
        lb.DBPointer("a.b", lb.ObjectId()),
        lb.DateTimeMS(2**60),
        lb.Decimal128(b"\xff" * 16),
        lb.Int64(1),
        lb.MaxKey(),
        lb.MinKey(),
        lb.Regex("(", "i"),
        lb.Symbol("s"),
        lb.Timestamp(1, 2),
        lb.Undefined(),
    ],
}
SHARED = [
    *DOC,
    *DOC.values(),
    *DOC["special"],
    None,
    True,
    *(getattr(lb, name) for name in lb.__all__),
    dt.datetime,
    decimal.Decimal,
    uuid.UUID,
]


def failures(codec, data):
    """Every kind of way out by an error."""
    bad_values = ({1}, 2**70, "\ud800", decimal.Decimal("1E9999"), re.compile(b"a"))
    for bad in bad_values:
        for doc in ({"a": [1, {"b": bad}]}, {"a": types.MappingProxyType({"b": bad})}):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                codec.encode(doc)
    for key in (1, "a\0", "\ud800"):
        with pytest.raises((TypeError, ValueError)):
            codec.encode({"a": {key: 1}})
    for broken in (
        data[:-1],
        data[: len(data) // 2],
        element(0x04, b"\x0d\0\0\0\x10\x30\0\1\0\0\0\x20\0"),
        element(0x0B, b"a\0"),
        element(0x02, b"\2\0\0\0\xff\0"),
    ):
        with pytest.raises(ValueError):
            codec.decode(broken)
    for form in ("x", 5):
        with pytest.raises((TypeError, ValueError)):
            codec.ObjectId(form)


def exercise(codec, data):
    assert codec.encode(DOC) == data
    got = codec.decode(data)
    hash(got["oid"]), got["oid"] == DOC["oid"], got["oid"] < DOC["oid"]
    repr(got["oid"]), str(got["oid"]), got["oid"].generation_time
    codec.ObjectId(), codec.ObjectId(got["oid"]), got["oid"].__reduce__()


def test_references_and_memory_stay_flat(codec):
    rounds = 10_000
    data = codec.encode(DOC)
    gc.collect()
    before = [sys.getrefcount(thing) for thing in SHARED]
    tracemalloc.start()
    try:
        for _ in range(100):  # caches fill
            exercise(codec, data)
            failures(codec, data)
        gc.collect()
        start = tracemalloc.get_traced_memory()[0]
        for n in range(rounds):
            exercise(codec, data)
            if n % 50 == 0:
                failures(codec, data)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()
    after = [sys.getrefcount(thing) for thing in SHARED]
    drift = {
        repr(thing): b - a
        for thing, a, b in zip(SHARED, before, after, strict=True)
        if abs(b - a) > 20
    }
    assert drift == {}
    # A leak of one small object per round would be at least 24 bytes each.
    assert grown < 16 * rounds


def allocations_failed(testcapi, call, expected):
    """Let each allocation of a call fail in turn; how many there were."""
    for n in range(1, 5000):
        testcapi.set_nomemory(n, n + 1)
        try:
            call()
        except MemoryError:
            continue
        except expected:
            pass
        finally:
            testcapi.remove_mem_hooks()
        return n
    raise AssertionError("the call does not come to an end")


# CPython's own test module: distributions may leave it out.
if importlib.util.find_spec("_testcapi") is not None:

    @pytest.mark.parametrize(
        "codec",
        [c for c in CODECS if not hasattr(c, "_Encoder")],
        ids=lambda c: c.__name__,
    )
    def test_out_of_memory_at_every_allocation(codec):
        import _testcapi

        data = codec.encode(DOC)
        oid = codec.ObjectId()
        errors = (TypeError, ValueError, OverflowError)
        calls = [
            (lambda: codec.encode(DOC), ()),
            (lambda: codec.decode(data), ()),
            (lambda: codec.encode({"a": [1, {"b.c": {1}}]}), errors),
            (lambda: codec.encode({"a": [1, {"b.c": 2**70}]}), errors),
            (lambda: codec.encode({"a": "\ud800"}), errors),
            (lambda: codec.encode({"a": {5: 1}}), errors),
            (lambda: codec.decode(data[:-9] + data[-4:]), errors),
            (lambda: (codec.ObjectId(str(oid)), hash(oid), oid.__reduce__()), ()),
            (lambda: (oid.generation_time, codec.ObjectId.from_datetime), ()),
            (lambda: codec.ObjectId(5), errors),
            (lambda: codec.ObjectId("5"), errors),
        ]
        counts = [allocations_failed(_testcapi, *call) for call in calls]
        # The short error of the last one may come from free lists alone.
        assert all(count > 1 for count in counts[:-1]), counts
        assert codec.encode(DOC) == data
