"""levrt.Cr: what each parameter takes, what it refuses and in which words."""

import gc
import inspect
import pathlib
import sys
import types
import weakref
from collections import UserDict

import pytest

import levrt
from levrt import Cr, Digest, UnsupportedOption

DOCUMENTED = [
    "image",
    "schema",
    "host",
    "entry",
    "cmd",
    "env",
    "files",
    "links",
    "ports",
    "services",
]
ADDED = ["timeout", "check", "host_config", "options", "pull", "engine", "name", "keep"]


@levrt.remote
def tool(flag=None):
    return flag


@levrt.remote
def needs(target):
    return target


def plain():
    pass


class Path(pathlib.PurePosixPath):
    """Any os.PathLike."""


# ---- what it has ----


def test_defaults():
    cr = Cr("img")
    assert {name: getattr(cr, name) for name in DOCUMENTED + ADDED} == {
        "image": "img",
        "schema": None,
        "host": False,
        "entry": None,
        "cmd": None,
        "env": [],
        "files": {},
        "links": {},
        "ports": [],
        "services": {},
        "timeout": None,
        "check": True,
        "host_config": {},
        "options": {},
        "pull": "missing",
        "engine": None,
        "name": None,
        "keep": False,
    }


def values():
    call = tool()
    return {
        "image": "my/nmap:7",
        "schema": "team/nmap@1.0",
        "host": True,
        "entry": call,
        "cmd": ["a", "b"],
        "env": ["K=V"],
        "files": {"/x": b"1"},
        "links": {"peer": "10.0.0.1"},
        "ports": [80],
        "services": {"db": Cr("redis")},
    }


def test_positional_order():
    given = values()
    cr = Cr(*given.values())
    assert {name: getattr(cr, name) for name in DOCUMENTED} == given


def test_by_keyword():
    given = values()
    cr = Cr(**given)
    assert {name: getattr(cr, name) for name in DOCUMENTED} == given


def test_signature():
    parameters = inspect.signature(Cr).parameters
    assert list(parameters) == DOCUMENTED + ADDED
    kinds = {name: p.kind for name, p in parameters.items()}
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert [kinds[name] for name in DOCUMENTED] == [positional] * 10
    assert {kinds[name] for name in ADDED} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["image"].default is inspect.Parameter.empty
    assert parameters["check"].default is True
    assert parameters["pull"].default == "missing"
    assert parameters["env"].default is None
    # The defaults of the signature are those that count.
    shown = {n: p.default for n, p in parameters.items() if n != "image"}
    a, b = Cr("i"), Cr("i", **shown)
    assert [getattr(a, n) for n in parameters] == [getattr(b, n) for n in parameters]


def test_the_rest_is_keyword_only():
    with pytest.raises(TypeError, match="at most 10 positional arguments"):
        Cr(*values().values(), 5.0)


def test_image_is_needed():
    with pytest.raises(TypeError, match="image"):
        Cr()


def test_unknown_parameter():
    with pytest.raises(TypeError, match="commnad"):
        Cr("img", commnad=["x"])


def test_repr():
    assert repr(Cr("img")) == "Cr('img')"
    assert repr(Cr("img", "a/b@1.0")) == "Cr('img', 'a/b@1.0')"


@pytest.mark.parametrize("name", DOCUMENTED + ADDED)
def test_attributes_are_read_only(name):
    cr = Cr("img")
    with pytest.raises(AttributeError):
        setattr(cr, name, getattr(cr, name))
    with pytest.raises(AttributeError):
        delattr(cr, name)


def test_later_changes_do_not_matter():
    cmd, env, ports = ["a"], {"A": "1"}, [80]
    files, links, services = {"/f": "x"}, {"l": "h"}, {"s": Cr("i")}
    check, options, host_config = [3], {"user": "1"}, {"read_only": True}
    given = [cmd, env, ports, files, links, services, check, options, host_config]
    cr = Cr(
        "img",
        cmd=cmd,
        env=env,
        ports=ports,
        files=files,
        links=links,
        services=services,
        check=check,
        options=options,
        host_config=host_config,
    )
    before = {name: getattr(cr, name) for name in DOCUMENTED + ADDED}
    for container in given:
        container.clear()
    assert {name: getattr(cr, name) for name in DOCUMENTED + ADDED} == before
    assert before["cmd"] == ["a"] and before["ports"] == [80]


@pytest.mark.parametrize(
    "name", ["cmd", "env", "files", "links", "ports", "services", "check", "options"]
)
def test_what_attributes_give_is_the_callers(name):
    """A Cr was checked once: nothing can be smuggled into it afterwards."""
    cr = Cr(
        "img",
        cmd=["a"],
        env=["A=1"],
        files={"/f": b""},
        links={"l": "h"},
        ports=[1],
        services={"s": Cr("i")},
        check=[3],
        options={"user": "1"},
    )
    before = getattr(cr, name)
    got = getattr(cr, name)
    got.clear()
    assert getattr(cr, name) == before != got


def test_subclass():
    class Tool(Cr):
        def __new__(cls, target):
            return super().__new__(cls, "img", cmd=[target])

        def __init__(self, target):
            self.target = target

    made = Tool("host")
    assert (made.image, made.cmd, made.target) == ("img", ["host"], "host")
    assert isinstance(made, Cr)
    assert repr(made) == "Tool('img')"
    with pytest.raises(TypeError, match="image must be str"):
        type("T", (Cr,), {})(5)


def test_subclass_is_collected_with_its_cycles():
    class Tool(Cr):
        pass

    made = Tool("img", services={"s": Tool("img")})
    made.own = made
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


def test_base_type_takes_no_attributes():
    with pytest.raises(AttributeError):
        Cr("img").other = 1
    with pytest.raises(TypeError, match="immutable"):
        Cr.other = 1


def test_refused_ones_leave_nothing():
    cmd = ["x"]
    before = sys.getrefcount(cmd), sys.getrefcount(tool)
    for _ in range(50):
        with pytest.raises(ValueError):
            Cr("img", cmd=cmd, entry=tool, ports=[0])
    assert (sys.getrefcount(cmd), sys.getrefcount(tool)) == before


# ---- what it takes ----

# parameter, value, the attribute
TAKEN = [
    ("image", "busybox", "busybox"),
    ("image", "reg.example:5000/a/b:1.2@sha256:" + "0" * 64, None),
    ("image", "sha256:" + "a" * 64, None),
    ("image", "0123456789ab", None),
    ("image", ".user.tool", ".user.tool"),
    ("image", ".user.tool:1.0", ".user.tool:1.0"),
    ("schema", None, None),
    ("schema", "a/b@1.0", "a/b@1.0"),
    ("schema", "A-1.x_/b.c-d@10.22", "A-1.x_/b.c-d@10.22"),
    ("host", True, True),
    ("entry", None, None),
    ("cmd", [], []),
    ("cmd", ("a", ""), ["a", ""]),
    ("cmd", ["ünïcode", "with space"], ["ünïcode", "with space"]),
    ("env", [], []),
    ("env", ("A=1", "B="), ["A=1", "B="]),
    ("env", ["A=b=c"], ["A=b=c"]),
    ("env", {"A": "1", "B": ""}, ["A=1", "B="]),
    ("files", {"/a": None}, {}),
    ("files", {"/a": "text"}, {"/a": "text"}),
    ("files", {"/a": b"\0\xff"}, {"/a": b"\0\xff"}),
    ("files", {"/a": bytearray(b"x")}, {"/a": b"x"}),
    ("files", {"/a": memoryview(b"x")}, {"/a": b"x"}),
    ("files", {"/a": Path("/etc/hosts")}, {"/a": Path("/etc/hosts")}),
    ("files", {"/": Path("/etc")}, {"/": Path("/etc")}),
    ("files", {"/a//b/../c/": "x"}, {"/a/c": "x"}),
    ("files", {"//a": "x"}, {"/a": "x"}),
    ("files", {"/a": Path("d"), "/a/b": "x"}, {"/a": Path("d"), "/a/b": "x"}),
    ("links", {"a.b-c_d": "host.example"}, {"a.b-c_d": "host.example"}),
    ("ports", [], []),
    ("ports", (1, 65535), [1, 65535]),
    ("timeout", 1, 1.0),
    ("timeout", 0.25, 0.25),
    ("timeout", None, None),
    ("check", False, False),
    ("check", [], []),
    ("check", (0, 255), [0, 255]),
    ("options", {"user": "1000:1000"}, {"user": "1000:1000"}),
    ("options", {"mem_limit": "1.5g"}, {"mem_limit": "1.5g"}),
    ("host_config", {"cap_add": ["NET_RAW"]}, {"cap_add": ["NET_RAW"]}),
    ("pull", "always", "always"),
    ("pull", "never", "never"),
    ("engine", "unix:///run/docker.sock", "unix:///run/docker.sock"),
    ("name", "a1", "a1"),
    ("name", "A_b.c-9", "A_b.c-9"),
]


@pytest.mark.parametrize(("name", "value", "kept"), TAKEN)
def test_takes(name, value, kept):
    cr = Cr(**{"image": "img", name: value})
    if kept is not None or value is None:
        assert getattr(cr, name) == kept
        assert type(getattr(cr, name)) is type(kept)
    else:
        assert getattr(cr, name) == value


@pytest.mark.parametrize(
    ("name", "value", "kept"), [case for case in TAKEN if isinstance(case[1], dict)]
)
@pytest.mark.parametrize("kind", [types.MappingProxyType, UserDict])
def test_takes_any_mapping(name, value, kept, kind):
    assert getattr(Cr(**{"image": "img", name: kind(value)}), name) == kept


def test_services_take_any_mapping():
    service = Cr("img")
    cr = Cr("img", services=types.MappingProxyType({"db": service}))
    assert cr.services == {"db": service}


def test_a_mapping_that_fails():
    class Failing(UserDict):
        def __getitem__(self, key):
            raise LookupError("not now")

    with pytest.raises(LookupError, match="not now"):
        Cr("img", env=Failing(A="1"))


def test_entry_call_is_kept():
    call = tool(flag=1)
    assert Cr("img", entry=call).entry is call


def test_entry_function_is_called():
    cr = Cr("img", entry=tool)
    assert repr(cr.entry) == "<remote call of tool>"


def test_check_false_and_accepted_codes_differ():
    assert Cr("i", check=[0, 1]).check == [0, 1]
    assert Cr("i", check=True).check is True


# ---- what it refuses ----

# parameter, value, exception, what its text has to hold
REFUSED = [
    ("image", None, TypeError, "image must be str, not NoneType"),
    ("image", b"img", TypeError, "image must be str, not bytes"),
    ("image", "a\0b", ValueError, "image must not contain NUL"),
    ("image", "Upper", ValueError, "image: "),
    ("image", "a b", ValueError, "image: "),
    ("image", "a:", ValueError, "image: "),
    ("image", "a@sha256:zz", ValueError, "image: "),
    ("image", ".tool", ValueError, "it must look like '.user.tool'"),
    ("schema", 5, TypeError, "schema must be str, not int"),
    *(
        (
            "schema",
            text,
            ValueError,
            f"schema must look like 'namespace/name@major.minor', not {text!r}",
        )
        for text in [
            "",
            "a",
            "a/b",
            "a/b@1",
            "a/b@1.",
            "a/b@.1",
            "a/b@1.0.0",
            "a/b@1.x",
            "/b@1.0",
            "a/@1.0",
            "a/b/c@1.0",
            "a|b/c@1.0",
            "a$/b@1.0",
            "a/b@1.0 ",
        ]
    ),
    ("schema", "a/b@1.0\0", ValueError, "schema must not contain NUL"),
    ("host", 1, TypeError, "host must be bool, not int"),
    ("host", None, TypeError, "host must be bool, not NoneType"),
    ("host", "yes", TypeError, "host must be bool, not str"),
    ("entry", plain, TypeError, "not function; decorate the function with @levrt"),
    ("entry", "nmap", TypeError, "entry must be a call of a @remote function"),
    ("entry", (tool,), TypeError, "function, not tuple"),
    ("entry", needs, TypeError, "target"),
    ("cmd", "nmap -p 80", TypeError, "cmd must be a list of str, not str"),
    ("cmd", b"nmap", TypeError, "cmd must be a list of str, not bytes"),
    ("cmd", {"a": 1}, TypeError, "cmd must be a list of str, not dict"),
    ("cmd", 5, TypeError, "cmd must be a list of str, not int"),
    ("cmd", ["a", 80], TypeError, "cmd[1] must be str, not int"),
    ("cmd", [b"a"], TypeError, "cmd[0] must be str, not bytes"),
    ("cmd", [None], TypeError, "cmd[0] must be str, not NoneType"),
    ("cmd", ["a\0"], ValueError, "cmd[0] must not contain NUL"),
    ("env", "A=1", TypeError, "env must be a list of 'NAME=value' or a dict, not str"),
    ("env", 5, TypeError, "env must be a list of 'NAME=value' or a dict, not int"),
    ("env", ["A"], ValueError, "env[0] must look like 'NAME=value', not 'A'"),
    ("env", ["A=1", "=1"], ValueError, "env[1] must look like 'NAME=value'"),
    ("env", [5], TypeError, "env[0] must be str, not int"),
    ("env", ["A=\0"], ValueError, "env[0] must not contain NUL"),
    ("env", {"A": 1}, TypeError, "env['A'] must be str, not int"),
    ("env", {5: "1"}, TypeError, "a name in env must be str, not int"),
    ("env", {"": "1"}, ValueError, "env: '' is no name of a variable"),
    ("env", {"A=B": "1"}, ValueError, "env: 'A=B' is no name of a variable"),
    ("env", {"A": "\0"}, ValueError, "env['A'] must not contain NUL"),
    ("files", ["/a"], TypeError, "files must be a dict by absolute path, not list"),
    ("files", {5: "x"}, TypeError, "files: a target must be str, not int"),
    ("files", {"a": "x"}, ValueError, "files: the target 'a' is no absolute path"),
    ("files", {"": "x"}, ValueError, "files: the target '' is no absolute path"),
    ("files", {"/a\0": "x"}, ValueError, "the target '/a\\x00' must not contain NUL"),
    (
        "files",
        {"/\ud800": "x"},
        ValueError,
        "files: the target '/\\ud800' has a lone surrogate",
    ),
    ("files", {"/a": "\ud800"}, ValueError, "files['/a'] has a lone surrogate"),
    ("cmd", ["a", "\ud800"], ValueError, "cmd[1] has a lone surrogate"),
    ("env", ["A=1", "B=\ud800"], ValueError, "env[1] has a lone surrogate"),
    ("env", {"A": "\ud800"}, ValueError, "env['A'] has a lone surrogate"),
    ("env", {"\ud800": "1"}, ValueError, "a name in env has a lone surrogate"),
    ("links", {"\ud800": "h"}, ValueError, "an alias in links has a lone surrogate"),
    ("links", {"a": "\ud800"}, ValueError, "links['a'] has a lone surrogate"),
    ("name", "a\ud800", ValueError, "name has a lone surrogate"),
    ("engine", "unix:///\ud800", ValueError, "engine has a lone surrogate"),
    ("image", "a\ud800", ValueError, "image has a lone surrogate"),
    ("schema", "a/\ud800@1.0", ValueError, "schema has a lone surrogate"),
    (
        "files",
        {"/a": 5},
        TypeError,
        "files['/a'] must be bytes, str or a path, not int",
    ),
    ("files", {"/a": "x", "/b/../a": "y"}, ValueError, "two files for the one target"),
    ("files", {"/": "x"}, ValueError, "files: '/' takes a local directory only"),
    ("files", {"/a": "x", "/a/b": "y"}, ValueError, "'/a/b' is below '/a', which is a"),
    ("files", {"/a/b/c": "y", "/a": "x"}, ValueError, "below '/a', which is a file"),
    ("files", {"/a": Path("a\0b")}, ValueError, "files['/a']: the path"),
    ("files", {"/lev/x": "y"}, ValueError, "'/lev/x' is below /lev, which is mounted"),
    ("files", {"/proc/x": "y"}, ValueError, "'/proc/x' is below /proc"),
    ("files", {"/dev/shm/x": "y"}, ValueError, "'/dev/shm/x' is below /dev"),
    ("files", {"/a": Digest("0" * 64)}, UnsupportedOption, "files['/a']"),
    ("links", ["a"], TypeError, "links must be a dict of alias to host, not list"),
    ("links", {5: "h"}, TypeError, "an alias in links must be str, not int"),
    ("links", {"a": 5}, TypeError, "links['a'] must be str, not int"),
    ("links", {"a b": "h"}, ValueError, "links: 'a b' is no host name"),
    ("links", {"": "h"}, ValueError, "links: '' is no host name"),
    ("links", {"-a": "h"}, ValueError, "links: '-a' is no host name"),
    ("links", {"a": ""}, ValueError, "links: the host of 'a' is empty; a run that"),
    ("links", {"a": "h\0"}, ValueError, "links['a'] must not contain NUL"),
    ("ports", 80, TypeError, "ports must be a list of int, not int"),
    ("ports", {80}, TypeError, "ports must be a list of int, not set"),
    ("ports", ["80"], TypeError, "ports[0] must be int, not str"),
    ("ports", [80, True], TypeError, "ports[1] must be int, not bool"),
    ("ports", [80.0], TypeError, "ports[0] must be int, not float"),
    ("ports", [0], ValueError, "ports[0] must be 1 to 65535, not 0"),
    ("ports", [1, 65536], ValueError, "ports[1] must be 1 to 65535, not 65536"),
    ("ports", [-1], ValueError, "ports[0] must be 1 to 65535, not -1"),
    ("ports", [2**70], ValueError, "ports[0] must be 1 to 65535"),
    ("services", [], TypeError, "services must be a dict of alias to Cr, not list"),
    ("services", {"a": "img"}, TypeError, "services['a'] must be a Cr, not str"),
    ("services", {5: Cr("i")}, TypeError, "an alias in services must be str, not int"),
    ("services", {"a b": Cr("i")}, ValueError, "services: 'a b' is no host name"),
    (
        "services",
        {"a": Cr("i", host=True)},
        ValueError,
        "services['a'] has host=True",
    ),
    ("timeout", "5", TypeError, "timeout must be a number of seconds, not str"),
    ("timeout", True, TypeError, "timeout must be a number of seconds, not bool"),
    ("timeout", 0, ValueError, "timeout must be a positive number of seconds, not 0"),
    ("timeout", -1.5, ValueError, "timeout must be a positive number"),
    ("timeout", float("nan"), ValueError, "timeout must be a positive number"),
    ("timeout", float("inf"), ValueError, "timeout must be a positive number"),
    ("timeout", 10**400, ValueError, "timeout must be a positive number"),
    ("check", 1, TypeError, "check must be bool or a list of exit codes, not int"),
    ("check", None, TypeError, "check must be bool or a list of exit codes"),
    (
        "check",
        [256],
        ValueError,
        "check[0] must be an exit code from 0 to 255, not 256",
    ),
    ("check", [0, -1], ValueError, "check[1] must be an exit code"),
    ("check", ["1"], TypeError, "check[0] must be int, not str"),
    ("check", [True], TypeError, "check[0] must be int, not bool"),
    ("host_config", [], TypeError, "host_config must be a dict, not list"),
    ("options", "x", TypeError, "options must be a dict, not str"),
    ("options", {"no_such": 1}, ValueError, "no_such"),
    ("options", {5: 1}, TypeError, "options: an option's name must be str, not int"),
    ("options", {"user": object()}, TypeError, "user"),
    ("options", {"mem_limit": "much"}, ValueError, "mem_limit"),
    ("host_config", {"image": "x"}, ValueError, "image= of the Cr"),
    ("host_config", {"binds": []}, ValueError, "files= of the Cr"),
    ("host_config", {"restart_policy": {}}, UnsupportedOption, "restart_policy"),
    ("pull", None, TypeError, "pull must be str, not NoneType"),
    ("pull", True, TypeError, "pull must be str, not bool"),
    (
        "pull",
        "yes",
        ValueError,
        "pull must be 'missing', 'always' or 'never', not 'yes'",
    ),
    ("engine", 5, TypeError, "engine must be str, not int"),
    ("engine", "", ValueError, "engine must not be empty"),
    ("engine", "a\0", ValueError, "engine must not contain NUL"),
    ("name", 5, TypeError, "name must be str, not int"),
    ("name", "", ValueError, "name must not be empty"),
    ("name", "a", ValueError, "name must have 2 to 120 letters"),
    ("name", "-ab", ValueError, "name must have 2 to 120 letters"),
    ("name", "a b", ValueError, "name must have 2 to 120 letters"),
    ("name", "a" * 121, ValueError, "name must have 2 to 120 letters"),
]


@pytest.mark.parametrize(("name", "value", "kind", "text"), REFUSED)
def test_refuses(name, value, kind, text):
    with pytest.raises(kind) as caught:
        Cr(**{"image": "img", name: value})
    assert text in str(caught.value)
    assert isinstance(caught.value, TypeError) == (kind is TypeError)


TOGETHER = [
    (
        {"host": True, "options": {"network_mode": "none"}},
        ValueError,
        "host=True and network_mode exclude each other",
    ),
    (
        {"services": {"a": Cr("i")}, "host_config": {"network_mode": "none"}},
        ValueError,
        "leave network_mode out",
    ),
    (
        {"files": {"/t/x": "1"}, "options": {"tmpfs": ["/t"]}},
        ValueError,
        "'/t/x' is below /t, which is mounted",
    ),
    (
        {"files": {"/t/x": "1"}, "host_config": {"tmpfs": {"/t/": "size=1m"}}},
        ValueError,
        "'/t/x' is below /t, which is mounted",
    ),
    (
        {"options": {"user": "1"}, "host_config": {"user": "2"}},
        ValueError,
        "user is in options and in host_config: give it once",
    ),
    ({"image": ""}, ValueError, "image: an empty image has nothing to run"),
    ({"image": "", "entry": tool}, None, ""),
]


@pytest.mark.parametrize(("given", "kind", "text"), TOGETHER)
def test_together(given, kind, text):
    if kind is None:
        Cr(**{"image": "img", **given})
        return
    with pytest.raises(kind) as caught:
        Cr(**{"image": "img", **given})
    assert text in str(caught.value)


def test_the_first_wrong_parameter_is_reported():
    with pytest.raises(ValueError, match="schema"):
        Cr("img", "bad", ports=["x"], name="")


def test_list_that_changes_while_it_is_checked():
    """An item whose repr() empties the list must not be read behind its end."""

    class Sly(int):
        def __repr__(self):
            ports.clear()
            return "sly"

    ports = [Sly(0), *range(1, 1000)]
    with pytest.raises(ValueError, match="not sly"):
        Cr("img", ports=ports)
    assert ports == []


def test_dict_that_changes_while_it_is_checked():
    class Key(str):
        __slots__ = ()

        def __repr__(self):
            services.clear()
            return "key"

    services = {Key("bad name"): Cr("i")}
    services |= {f"s{i}": Cr("i") for i in range(100)}
    with pytest.raises(ValueError, match="services: key is no host name"):
        Cr("img", services=services)


def test_services_nest_deeply():
    """Deeper than the stack is no crash, neither making nor dropping it."""
    cr = Cr("img")
    for _ in range(20_000):
        cr = Cr("img", services={"s": cr})
    assert isinstance(cr.services["s"], Cr)
    del cr


def test_methods_are_operations():
    cr = Cr("img")
    start, done = cr.start(), cr.done()
    assert isinstance(start, types.CoroutineType | levrt.Op)
    assert (repr(start), repr(done)) == (
        "<Cr.start, not started>",
        "<Cr.done, not started>",
    )
    start.close()
    done.close()


def test_what_is_kept_has_no_services():
    with pytest.raises(ValueError, match="keep=True and services"):
        Cr("img", services={"db": Cr("redis")}, keep=True)
    with pytest.raises(ValueError, match="services\\['db'\\] has keep=True"):
        Cr("img", services={"db": Cr("redis", keep=True)})
    with pytest.raises(TypeError, match="keep"):
        Cr("img", keep="yes")
