"""@remote: what is captured, what is shipped, and what is said when it fails.

Closures are loaded where they are meant to run: by the bundle's interpreter.
"""

import abc
import dataclasses
import enum
import functools
import importlib
import inspect
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import typing
import xml.etree.ElementTree
from collections import namedtuple

import pytest
from guest_roots import build_bundle, channel

from levrt.entry import RemoteCall, RemoteFunction, remote


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return build_bundle(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def result(bundle, tmp_path):
    """result(func, …): what `func` returns in the container."""

    def result(func, *args, **kwargs):
        def entry(*args, **kwargs):
            from levrt import lev

            lev.set(result=func(*args, **kwargs))

        return ship(remote(entry)(*args, **kwargs))["result"]

    def ship(call):
        host = channel.Host(call.payload())
        process = channel.run_guest(bundle, host, tmp_path / "sock")
        assert host.fail is None, host.fail["traceback"]
        assert process.returncode == 0, process.stderr
        return host.data

    result.ship = ship
    return result


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """workflow(name=text, …) or workflow({path: text, …}): modules of a
    workflow, found but not loaded."""
    folder = tmp_path / "workflow"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)

    def write(files=(), **modules):
        for name, text in {**dict(files), **modules}.items():
            path = folder / (name if name.endswith(".py") else f"{name}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return folder

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None):
            if sys.modules[name].__file__.startswith(str(folder)):
                del sys.modules[name]


# The decorator


def test_a_call_captures_its_arguments():
    @remote
    def entry(a, b=2, *, c):
        """Its text."""

    call = entry(1, c=3)
    assert isinstance(entry, RemoteFunction)
    assert isinstance(call, RemoteCall)
    assert (call.args, call.kwargs, call.name, call.python) == (
        (1,),
        {"c": 3},
        "entry",
        "bundle",
    )
    assert entry.__name__ == "entry"
    assert entry.__doc__ == "Its text."
    assert entry.__module__ == __name__
    assert list(inspect.signature(entry).parameters) == ["a", "b", "c"]
    assert repr(entry) == "<remote function entry>"
    assert repr(call) == "<remote call of entry>"


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, r"entry\(\): missing a required argument: 'a'"),
        ((1, 2), {}, r"entry\(\): too many positional arguments"),
        ((1,), {"x": 1}, r"entry\(\): got an unexpected keyword argument 'x'"),
    ],
)
def test_a_call_is_checked_against_the_signature(args, kwargs, text):
    @remote
    def entry(a):
        return a

    with pytest.raises(TypeError, match=text):
        entry(*args, **kwargs)


def test_python():
    assert remote(python="image")(lambda: 0)().python == "image"
    assert remote(python="bundle")(lambda: 0)().python == "bundle"
    with pytest.raises(ValueError, match='must be "bundle" or "image", not \'host\''):
        remote(python="host")


def test_what_is_no_function():
    def generator():
        yield

    async def async_generator():
        yield

    for what in (generator, async_generator):
        with pytest.raises(TypeError, match="is a generator"):
            remote(what)
    for what in (5, print, int, functools.partial(int)):
        with pytest.raises(TypeError, match=r"expected a function .* not"):
            remote(what)
    with pytest.raises(TypeError, match="is a remote function already"):
        remote(remote(lambda: 0))


# Values and functions


def test_closures_and_arguments(result):
    data = {"a": [1, (2, 3)], "b": b"x", "c": {1, 2}}

    def entry(x, *, y):
        data["a"].append(x)
        return [data["a"], data["b"], sorted(data["c"]), y]

    assert result(entry, 4, y=None) == [[1, [2, 3], 4], b"x", [1, 2], None]
    assert data["a"] == [1, (2, 3)]


def test_a_closure_goes_along_as_it_is_when_it_is_pickled(result):
    value = 1
    call = remote(lambda: None)  # a description made early

    @remote
    def entry():
        from levrt import lev

        lev.set(value=value)

    call = entry()
    value = 2
    assert result.ship(call) == {"value": 2}


def test_shared_cells_and_recursion(result):
    count = 0

    def up():
        nonlocal count
        count += 1
        return count

    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    def entry():
        up()
        up()
        return [count, fib(10)]

    assert result(entry) == [2, 55]


def test_a_variable_without_a_value(result):
    def entry():
        try:
            return later
        except NameError as e:
            return str(e)

    got = result(entry)
    later = 1
    assert "later" in got
    assert later


def test_defaults_and_attributes(result):
    def helper(a=[1], *, b={"c": 2}):  # noqa: B006
        return [a, b, helper.mark, helper.__doc__, helper.__qualname__]

    helper.mark = 5
    helper.__doc__ = "other"
    assert result(helper)[:4] == [[1], {"c": 2}, 5, "other"]
    assert result(helper)[4].endswith("<locals>.helper")


COUNTER = 0
TABLE = {"a": 1}


def bump():
    global COUNTER
    COUNTER += 1
    return COUNTER


def test_globals_are_one_namespace(result):
    def entry():
        bump()
        bump()
        return [COUNTER, TABLE, __name__, sys.modules[__name__].COUNTER]

    assert result(entry) == [2, {"a": 1}, __name__, 2]


class Base:
    limit = 3

    def __init__(self, x):
        self.x = x

    @property
    def double(self):
        return self.x * 2

    @classmethod
    def make(cls, x):
        return cls(x)

    @staticmethod
    def helper(x):
        return x + Base.limit


class Derived(Base):
    __slots__ = ("__private", "y")

    def __init__(self, x):
        super().__init__(x)
        self.y = x + 1
        self.__private = x + 2

    def all(self):
        return [self.x, self.y, self.__private, self.double, self.helper(1)]


@dataclasses.dataclass(frozen=True)
class Finding:
    port: int
    state: str = "open"
    tags: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted(Finding):
    note: str = "n"
    seen: typing.ClassVar = 5

    def text(self):
        return f"{self.port} {self.note}"


class Severity(enum.IntEnum):
    LOW = 1
    HIGH = 9


class Tool(abc.ABC):
    @abc.abstractmethod
    def run(self): ...


class Nmap(Tool):
    def run(self):
        return "nmap"


Point = namedtuple("Point", "x y")


class Typed(typing.NamedTuple):
    a: int
    b: str = "c"


T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    def __init__(self, item: T):
        self.item = item


class Cached:
    @functools.cached_property
    def value(self):
        return 7


class Broken(ValueError):
    pass


@functools.lru_cache(maxsize=5)
def slow(x):
    return x * 3


def test_classes(result):
    made = Derived(4)

    def entry():
        error = Broken("x")
        try:
            raise error
        except Broken as e:
            assert e is error
        finding = Finding(80)
        try:
            Tool()
            abstract = False
        except TypeError:
            abstract = True
        return {
            "derived": Derived.make(1).all(),
            "instance": made.all(),
            "is": isinstance(made, Base),
            "finding": dataclasses.asdict(dataclasses.replace(finding, tags=["a"])),
            "equal": finding == Finding(80),
            "fields": [
                f.default is dataclasses.MISSING for f in dataclasses.fields(finding)
            ],
            "slotted": [
                Slotted(1).text(),
                Slotted.seen,
                hasattr(Slotted(1), "__dict__"),
            ],
            "severity": [int(s) for s in Severity],
            "enum": Severity(9) is Severity.HIGH,
            "tool": Nmap().run(),
            "abstract": abstract,
            "point": [Point(1, 2).y, Point(x=3, y=4)._asdict()],
            "typed": list(Typed(1)),
            "box": Box[int](5).item,
            "cached": Cached().value,
            "slow": [slow(2), slow.cache_parameters()["maxsize"]],
        }

    assert result(entry) == {
        "derived": [1, 2, 3, 2, 4],
        "instance": [4, 5, 6, 8, 4],
        "is": True,
        "finding": {"port": 80, "state": "open", "tags": ["a"]},
        "equal": True,
        "fields": [True, False, True],
        "slotted": ["1 n", 5, True],
        "severity": [1, 9],
        "enum": True,
        "tool": "nmap",
        "abstract": True,
        "point": [2, {"x": 3, "y": 4}],
        "typed": [1, "c"],
        "box": 5,
        "cached": 7,
        "slow": [6, 5],
    }


def test_classes_made_in_functions(result):
    class Local(Base):
        def twice(self):
            return super().double * 2

    assert result(lambda: Local(2).twice()) == 8


def test_bound_methods_and_partials(result):
    entry = functools.partial(Base(5).helper, 4)
    assert result(lambda: entry()) == 7

    class Scanner:
        def __init__(self):
            self.target = "t"

        @remote
        def scan(self, n):
            from levrt import lev

            lev.set(target=self.target, n=n)

    assert result.ship(Scanner().scan(3)) == {"target": "t", "n": 3}


def test_a_remote_function_is_a_plain_one_inside(result):
    @remote
    def inner(x):
        return x + 1

    assert result(lambda: inner(1)) == 2


def test_an_ordinary_closure_does_not_import_cloudpickle(result):
    made = Derived(4)

    def entry():
        finding = Finding(1)
        return ["cloudpickle" in sys.modules, made.all()[0], finding.port, slow(1)]

    assert result(entry) == [False, 4, 1, 3]


def test_submodules_that_were_imported_by_their_package(result):
    def entry():
        return xml.etree.ElementTree.fromstring("<a><b/></a>")[0].tag

    assert result(entry) == "b"


def test_code_made_by_exec(result):
    space = {"__name__": "made"}
    exec("def f(x):\n    return g(x) + 1\ndef g(x):\n    return x * 2\n", space)
    assert result(space["f"], 5) == 11


# Modules of the workflow


HELPERS = """
    import threading
    import json
    LIMIT = 10
    LOCK = threading.Lock()
    def parse(x):
        return [x, LIMIT]
    def locked():
        with LOCK:
            return 1
    class Parser:
        def parse(self, x):
            return parse(x)
"""


def test_from_a_sibling_module(workflow, result):
    workflow(helpers=HELPERS)
    from helpers import Parser, parse

    def entry():
        module = sys.modules["helpers"]
        return [parse(1), Parser().parse(2), module.parse is parse, parse.__module__]

    assert result(entry) == [[1, 10], [2, 10], True, "helpers"]


def test_a_sibling_module_as_a_whole(workflow, result):
    workflow(helpers=HELPERS)
    import helpers

    def entry():
        import helpers as again

        try:
            helpers.locked()
        except ImportError as e:
            error = str(e)
        return [
            helpers.parse(1),
            helpers.Parser().parse(2),
            helpers.json.loads("[3]"),
            again is helpers,
            error,
        ]

    *values, error = result(entry)
    assert values == [[1, 10], [2, 10], [3], True]
    assert error.startswith("helpers.LOCK: cannot pickle '_thread.lock' object")


def test_a_sibling_module_imported_inside(workflow, result):
    """Loaded here or not: it goes by value or as code."""
    workflow(helpers=HELPERS, other="import helpers\nX = helpers.parse(5)\n")

    def entry():
        import other
        from helpers import locked, parse

        return [parse(1), locked(), other.X, other.__file__]

    *values, path = result(entry)
    assert values == [[1, 10], 1, [5, 10]]
    assert path.endswith("workflow/other.py")
    assert "helpers" not in sys.modules

    def loaded():
        from helpers import parse

        return parse(1)

    import helpers

    helpers.LIMIT = 11
    assert result(loaded) == [1, 11]


def test_code_that_imports_a_loaded_module(workflow, result):
    workflow(
        helpers=HELPERS, other="from helpers import parse\nfrom helpers import locked\n"
    )
    import helpers

    helpers.LIMIT = 12

    def entry():
        from other import parse

        return parse(1)

    assert result(entry) == [1, 12]
    assert "other" not in sys.modules


@pytest.mark.parametrize("init", [True, False])
def test_packages_and_relative_imports(workflow, result, init):
    workflow(
        {
            **({"pkg/__init__.py": "from .a import one\n"} if init else {}),
            "pkg/a.py": "def one():\n    return 1\n",
            "pkg/b.py": """
                from . import a
                from .sub import deep
                def two():
                    from .a import one
                    from . import c
                    return [one(), a.one(), deep.x, c.y]
            """,
            "pkg/c.py": "from .a import one\ny = one() + 4\n",
            "pkg/sub/__init__.py": "",
            "pkg/sub/deep.py": "x = 3\n",
        }
    )
    import pkg.b

    def by_attribute():
        return pkg.b.two()

    def inside():
        import pkg.b as b

        return [b.two(), b.__package__]

    assert result(by_attribute) == [1, 1, 3, 5]
    assert result(inside) == [[1, 1, 3, 5], "pkg"]
    for name in [n for n in sys.modules if n.partition(".")[0] == "pkg"]:
        del sys.modules[name]
    assert result(inside) == [[1, 1, 3, 5], "pkg"]
    assert "pkg" not in sys.modules


def test_what_did_not_come_along_says_so(workflow, result):
    workflow(helpers=HELPERS)
    from helpers import parse

    def entry():
        module = sys.modules["helpers"]
        parse(1)
        try:
            module.Parser  # noqa: B018
        except AttributeError as e:
            return str(e)

    assert result(entry).startswith("helpers.Parser did not come along")


def test_modules_that_import_levrt(workflow, result):
    workflow(
        flow="""
            import levrt
            import levrt.engine
            from levrt import Concurrent, Cr, lev
            from levrt.errors import StoreError, TaskFailed
            from levrt.entry import remote

            assert issubclass(StoreError, levrt.LevError)
            assert TaskFailed is levrt.TaskFailed

            @levrt.remote
            @remote
            def inner():
                return levrt.engine.Client

            def scan(target: str) -> Cr:
                return Cr("image")

            def store(x) -> "Cr | None":
                lev.set(stored=x)
                levrt.lev.set(again=x)
                return x
        """
    )

    def entry():
        import flow

        try:
            flow.scan("x")
        except RuntimeError as e:
            error = str(e)
        return [flow.store(3), error]

    got = result.ship(remote(lambda: _store(entry))())
    assert got["stored"] == got["again"] == 3
    assert got["result"] == [
        3,
        "levrt.Cr is there in the workflow only, not inside of a container",
    ]


def _store(entry):
    from levrt import lev

    lev.set(result=entry())


def installed(folder):
    """A package in site-packages, which a container does not have."""
    site = folder / "site-packages"
    (site / "thirdparty").mkdir(parents=True)
    (site / "thirdparty" / "__init__.py").write_text(
        "def get():\n    return 1\nclass Thing:\n    def get(self):\n        return 2\n"
    )
    return site


def test_installed_packages_fail_where_they_are_used(workflow, result, monkeypatch):
    folder = workflow(
        helpers="""
            import thirdparty
            from thirdparty import Thing, get
            thing = Thing()
            def parse(x):
                return x
        """
    )
    monkeypatch.syspath_prepend(str(installed(folder)))
    import helpers
    import thirdparty
    from thirdparty import get

    def entry():
        said = [helpers.parse(1)]
        for use in (
            lambda: thirdparty.get(),
            lambda: get(),
            lambda: helpers.Thing(),
            lambda: helpers.thing.get(),
        ):
            try:
                use()
            except ImportError as e:
                said.append("\n".join([str(e), *getattr(e, "__notes__", ())]))
        return said

    one, *said = result(entry)
    del sys.modules["thirdparty"]
    assert one == 1
    assert len(said) == 4
    assert said[0].startswith("No module named 'thirdparty'\nthirdparty is neither in")
    assert said[1].startswith(
        "thirdparty.get: No module named 'thirdparty'; thirdparty"
    )
    assert said[2].startswith("thirdparty.Thing: No module named")
    assert said[3] == "helpers.thing: it is a thirdparty.Thing"


def test_an_instance_of_an_installed_package(workflow, bundle, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(installed(workflow())))
    import thirdparty

    thing = thirdparty.Thing()

    def entry():
        return thing.get()

    host = channel.Host(remote(entry)().payload())
    channel.run_guest(bundle, host, tmp_path / "sock")
    del sys.modules["thirdparty"]
    assert host.fail["type"] == "ImportError"
    assert "thirdparty.Thing: No module named 'thirdparty'" in host.fail["text"]
    assert "in entry" in host.fail["traceback"]


def test_a_compiled_module_of_the_workflow(workflow, monkeypatch):
    import _bisect

    folder = workflow()
    target = folder / "fast.cpython-x.so"
    shutil.copy(importlib.util.find_spec("_ctypes").origin, target)
    target.rename(folder / f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}")
    assert _bisect

    def entry():
        import fast

        return fast

    with pytest.raises(pickle.PicklingError, match=r"imports fast .* compiled"):
        remote(entry)().payload()


def test_pool_over_a_helper(workflow, result):
    workflow(
        helpers="""
            import contextlib
            import functools
            import os
            SCALE = 3
            def traced(func):
                @functools.wraps(func)
                def call(*args):
                    return func(*args)
                return call
            @traced
            def work(x):
                return [x * SCALE, os.getpid()]
            @contextlib.contextmanager
            def opened(x):
                yield x
        """
    )
    from helpers import opened, work

    def entry(method):
        import multiprocessing
        import os

        with multiprocessing.get_context(method).Pool(2) as pool:
            with opened(range(4)) as numbers:
                got = pool.map(work, numbers) + pool.map(squared, range(3))
        return [[x for x, _ in got], os.getpid() in [pid for _, pid in got]]

    for method in ("fork", "spawn", "forkserver"):
        assert result(entry, method) == [[0, 3, 6, 9, 0, 1, 4], False]


def squared(x):
    import os

    return [x * x, os.getpid()]


MAIN = """
    import sys
    from levrt.entry import remote

    def work(x):
        return x + OFFSET

    OFFSET = 100

    @remote
    def entry(method):
        import multiprocessing
        from levrt import lev

        with multiprocessing.get_context(method).Pool(2) as pool:
            lev.set(result=pool.map(work, range(3)))

    if __name__ == "__main__":
        sys.stdout.buffer.write(entry(sys.argv[1]).payload())
"""


def program_environment():
    """So that a program finds the same levrt and cloudpickle."""
    places = [
        os.path.dirname(importlib.util.find_spec(name).submodule_search_locations[0])
        for name in ("levrt", "cloudpickle")
    ]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def test_a_program_of_a_package(bundle, workflow, tmp_path):
    """Started by -m: relative imports inside of its functions."""
    folder = workflow(
        {
            "tool/__init__.py": "",
            "tool/parts.py": "def part():\n    return __name__\n",
            "tool/main.py": """
                import sys
                from levrt.entry import remote
                from .parts import part

                @remote
                def entry():
                    from levrt import lev
                    from .parts import part as again

                    lev.set(result=[part(), again is part, __package__])

                sys.stdout.buffer.write(entry().payload())
            """,
        }
    )
    payload = subprocess.check_output(
        [sys.executable, "-m", "tool.main"], cwd=folder, env=program_environment()
    )
    host = channel.Host(payload)
    process = channel.run_guest(bundle, host, tmp_path / "sock")
    assert host.fail is None, host.fail["traceback"]
    assert host.data == {"result": ["tool.parts", True, "tool"]}
    assert process.stderr == ""


def test_pool_over_a_function_of_the_program_itself(bundle, workflow, tmp_path):
    script = workflow(program=MAIN) / "program.py"
    for method in ("fork", "spawn"):
        payload = subprocess.check_output(
            [sys.executable, script, method], env=program_environment()
        )
        host = channel.Host(payload)
        channel.run_guest(bundle, host, tmp_path / "sock")
        assert host.fail is None, host.fail["traceback"]
        assert host.data == {"result": [100, 101, 102]}


def test_lev_in_a_process_started_anew(result):
    def entry():
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(store_something)

    assert "return the value instead" in result(entry)


def store_something():
    from levrt import lev

    try:
        lev.set(a=1)
    except RuntimeError as e:
        return str(e)


# What cannot be pickled


LOCK = threading.Lock()
NESTED = {"deep": [0, {"lock": LOCK}]}


def uses_global():
    return LOCK


def refusal(func, *args, **kwargs):
    with pytest.raises(pickle.PicklingError) as caught:
        remote(func)(*args, **kwargs).payload()
    return str(caught.value)


CANNOT = "cannot pickle '_thread.lock' object"


def test_the_variable_is_named():
    lock = threading.Lock()
    config = {"lock": lock}

    def entry():
        return lock

    assert refusal(entry) == f"entry closes over 'lock' (closure → lock): {CANNOT}"

    def entry():
        return config

    text = "entry closes over 'lock' (closure → config['lock'])"
    assert refusal(entry) == f"{text}: {CANNOT}"

    def entry():
        return NESTED

    text = "entry uses 'lock' (globals → NESTED['deep'][1]['lock'])"
    assert refusal(entry) == f"{text}: {CANNOT}"

    def entry():
        return uses_global()

    text = "entry uses 'LOCK' (globals → uses_global → globals → LOCK)"
    assert refusal(entry) == f"{text}: {CANNOT}"

    def entry(x):
        return x

    text = "entry is called with 'lock' (arguments → x['lock'])"
    assert refusal(entry, x=config) == f"{text}: {CANNOT}"


def test_attributes_and_cycles_are_named():
    base = Base(threading.Lock())
    base.me = base

    def entry():
        return base

    assert refusal(entry) == f"entry closes over 'x' (closure → base.x): {CANNOT}"

    def entry(f=base.__init__):
        return f

    text = "entry closes over 'x' (defaults → f.__self__.x)"
    assert refusal(entry) == f"{text}: {CANNOT}"


def test_generators_and_files_are_named(tmp_path):
    steps = (x for x in range(3))
    with open(tmp_path / "file", "wb") as f:

        def entry():
            return steps

        assert refusal(entry) == (
            "entry closes over 'steps' (closure → steps):"
            " cannot pickle 'generator' object"
        )

        def entry():
            return f

        assert "closes over 'f' (closure → f)" in refusal(entry)


def test_a_class_is_named():
    class Holder:
        lock = threading.Lock()

    def entry():
        return Holder

    text = "entry closes over 'lock' (closure → Holder.lock)"
    assert refusal(entry) == f"{text}: {CANNOT}"


def test_calls_stay_in_the_workflow():
    call = remote(lambda: 0)()

    def entry():
        return call

    assert refusal(entry) == (
        "entry closes over 'call' (closure → call): cannot pickle a levrt.RemoteCall:"
        " it belongs to the workflow; take the values that the entry needs out of it"
    )


def test_much_data_is_searched_in_bounded_time():
    value = [{"a": i} for i in range(30_000)]
    value[5]["lock"] = LOCK
    value[29_000]["lock"] = LOCK

    def entry():
        return value

    text = "entry closes over 'lock' (closure → value[5]['lock'])"
    assert refusal(entry) == f"{text}: {CANNOT}"
    del value[5]["lock"]
    assert refusal(entry) == f"entry closes over 'value' (closure → value): {CANNOT}"


def test_descriptions_of_functions_stay_in_the_workflow(result):
    def helper():
        return list(vars(helper))

    helper.__lev__ = {"lock": LOCK}
    helper.mark = 1
    assert result(helper) == ["mark"]


def test_a_value_that_is_too_deep():
    value = []
    for _ in range(100_000):
        value = [value]

    def entry():
        return value

    assert "deep recursion" in refusal(entry)
