"""levrt.annot: what tools say about themselves."""

import enum
import functools
import importlib.util
import re
import subprocess
import sys
import textwrap

import pytest

from levrt import annot
from levrt.annot import cats
from levrt.annot.cats import Attck, BlackArch, Category


class Cr:
    """What the functions below call is found by its name; none of them runs."""

    def __init__(self, *args, **kwargs):
        raise AssertionError("annot.meta must not run anything")


class conf:
    IMAGE = "conf/image:2"

    @property
    def lazy(self):
        raise AssertionError("annot.meta must not run anything")


IMAGE, VERSION, IMAGES = "my/nmap:7", 3, {"nmap": "d/nmap:1", "other": "d/other:1"}
REDIS = Cr if False else None  # a name that is no Cr
OBJECT = conf()


def described(func):
    return annot.meta()(func).__lev__


def images(func):
    return described(func)["images"]


def from_file(tmp_path, source):
    """A tool of a file of its own, as tools are."""
    path = tmp_path / "tool.py"
    path.write_text("from levrt import annot\n" + textwrap.dedent(source))
    spec = importlib.util.spec_from_file_location("tool", path)
    module = importlib.util.module_from_spec(spec)
    module.Cr = Cr
    spec.loader.exec_module(module)
    return module


def test_a_decorator_returns_the_function_itself():
    def scan(ip):
        """Doc."""

    assert annot.meta(desc="d")(scan) is scan
    assert scan.__lev__ == {
        "desc": "d",
        "params": [],
        "cats": {},
        "tags": [],
        "ext": {},
        "images": (),
        "schemas": (),
    }


def test_everything_is_kept():
    ip = annot.Param("ip", "target", holder="10.0.0.1", regex=[r"\d+", "x"])

    @annot.meta(
        desc="d",
        params=[ip, annot.ARGV],
        cats={Attck: [Attck.Discovery], BlackArch: BlackArch.Scanner},
        tags=["nmap", "scan"],
        ext={"level": 3},
    )
    def scan(ip):
        return Cr("nmap", "t/nmap@1.0")

    assert scan.__lev__ == {
        "desc": "d",
        "params": [ip, annot.ARGV],
        "cats": {Attck: [Attck.Discovery], BlackArch: [BlackArch.Scanner]},
        "tags": ["nmap", "scan"],
        "ext": {"level": 3},
        "images": ("nmap",),
        "schemas": ("t/nmap@1.0",),
    }


@pytest.mark.parametrize("name", ["exports", "export"])
def test_a_module_is_described_by_what_it_exports(name):
    @annot.meta(desc="one")
    def one():
        return Cr("i:1", "s/one@1.0")

    @annot.meta(desc="two")
    def two():
        return Cr("i:1", "s/two@1.0"), Cr("i:2")

    def plain():
        return Cr("not described")

    assert annot.meta(**{name: [one, two, plain]}, desc="m", cats=Attck.Impact) == {
        "exports": [one, two, plain],
        "desc": "m",
        "params": [],
        "cats": {Attck: [Attck.Impact]},
        "tags": [],
        "ext": {},
        "images": ("i:1", "i:2"),
        "schemas": ("s/one@1.0", "s/two@1.0"),
    }


def test_modules_are_exported_too(tmp_path):
    tool = from_file(
        tmp_path,
        """
        @annot.meta()
        def scan():
            return Cr("i:1")
        __lev__ = annot.meta([scan], desc="tool")
        """,
    )
    assert annot.meta([tool])["images"] == ("i:1",)


def test_an_empty_list_of_exports_gives_the_dict():
    assert annot.meta([])["exports"] == []
    assert annot.meta([])["images"] == ()


# --- what a function runs ---------------------------------------------------


def test_positional_and_keyword():
    def f():
        Cr("a", "s/a@1.0")
        Cr(schema="s/b@1.0", image="b")
        Cr("c", schema="s/c@1.0", host=True)
        Cr("d")
        Cr("a", None)  # once is enough

    assert described(f)["images"] == ("a", "b", "c", "d")
    assert described(f)["schemas"] == ("s/a@1.0", "s/b@1.0", "s/c@1.0")


def test_by_module_alias_and_local_import(tmp_path):
    tool = from_file(
        tmp_path,
        """
        if 0:
            from levrt import Cr as Container
            import levrt as lv
        @annot.meta()
        def f():
            return lv.Cr("a"), Container("b"), Other("c"), Cr("d")
        """,
    )
    assert tool.f.__lev__["images"] == ("a", "b", "d")


def test_services_come_after_what_needs_them():
    def f():
        return Cr("main", services={"r": Cr("redis", services={"x": Cr("deep")})})

    assert images(f) == ("main", "redis", "deep")


def test_async_functions_and_nested_entries():
    async def f():
        def entry():
            Cr("inner", "s/inner@1.0")

        await Cr("outer", entry=entry())
        return [Cr(x) for x in ("l:1", "l:2")]

    assert images(f) == ("inner", "outer", "l:1", "l:2")


def test_constants_attributes_and_items():
    def f():
        Cr(IMAGE, f"t/nmap@{VERSION}.0")
        Cr("reg/" + IMAGE)
        Cr(conf.IMAGE)
        Cr(IMAGES["nmap"])
        Cr({"k": "literal"}["k"])
        Cr(["first", "last"][-1])

    assert images(f) == (
        "my/nmap:7",
        "reg/my/nmap:7",
        "conf/image:2",
        "d/nmap:1",
        "literal",
        "last",
    )
    assert described(f)["schemas"] == ("t/nmap@3.0",)


def test_locals_parameters_and_the_closure():
    outer = "closure:1"

    def f(image="default:1", *, other="default:2"):
        local = "local:1"
        Cr(local), Cr(image), Cr(other), Cr(outer)
        image = other or "fallback"
        if (last := "walrus") and image:
            Cr(last)
        for each in ["e:1", "e:2"]:
            Cr(each if image else "else")

    assert images(f) == (
        "local:1",
        "default:1",
        "default:2",
        "fallback",
        "closure:1",
        "walrus",
        "e:1",
        "e:2",
        "else",
    )


def test_constants_of_the_module_that_come_later(tmp_path):
    tool = from_file(
        tmp_path,
        """
        @annot.meta()
        def f():
            return Cr(LATER + ":1", services=SERVICES)
        LATER = "later"
        DB = "db"
        SERVICES = {"db": Cr(DB)} if 0 else {}
        """,
    )
    assert tool.f.__lev__["images"] == ("later:1", "db")


def test_what_is_not_known_is_left_out():
    def f(image, args, kwargs):
        Cr(image)
        Cr(*args, "starred")
        Cr(**kwargs)
        Cr(image.upper())
        Cr(f"{image:>3}")
        Cr(f"{image!r}")
        Cr(IMAGES["missing"])
        Cr(OBJECT.lazy)
        Cr(undefined)  # noqa: F821
        Cr(7)
        Cr("")
        Cr()
        return REDIS

    assert images(f) == ()


def test_a_name_that_hangs_on_itself_ends():
    def f(a="x"):
        a = a + "y"
        b = c = b or c  # noqa: F821
        Cr(a), Cr(b), Cr(c)

    assert images(f) == ("x",)


def test_many_values_of_one_expression_end():
    def f(a="x"):
        a = "y" if a else "z"
        Cr(a + a + a + a + a + a + a + a + a + a + a + a)

    assert 1 <= len(images(f)) <= 64


def test_a_wrapper_is_looked_through():
    def f():
        return Cr("wrapped")

    @functools.wraps(f)
    def wrapper():
        return f()

    assert images(wrapper) == ("wrapped",)


def test_methods_and_functions_of_one_name(tmp_path):
    tool = from_file(
        tmp_path,
        """
        class A:
            @annot.meta()
            def scan(self):
                return Cr("a")
        class B:
            @annot.meta(
                desc="more than one line"
            )
            def scan(self):
                return Cr("b")
        """,
    )
    assert tool.A.scan.__lev__["images"] == ("a",)
    assert tool.B.scan.__lev__["images"] == ("b",)


def test_a_file_that_has_changed_since(tmp_path):
    tool = from_file(
        tmp_path,
        """
        def f():
            return Cr("a")
        """,
    )
    (tmp_path / "tool.py").write_text("def f(:\n")
    assert described(tool.f)["images"] == ()


@pytest.mark.parametrize("func", [print, functools.partial(print), lambda: Cr("x")])
def test_without_source(func):
    class callable_with_attributes:
        __call__ = staticmethod(func)

    assert images(callable_with_attributes()) == ()


def test_code_without_a_file():
    names = {"Cr": Cr}
    exec("def f():\n    return Cr('x')\n", names)
    assert images(names["f"]) == ()


def test_code_of_a_notebook():
    """IPython keeps the source of a cell where linecache finds it."""
    import linecache

    source = "def f():\n    return Cr('cell')\n"
    names = {"Cr": Cr}
    linecache.cache["<cell 1>"] = (len(source), None, source.splitlines(True), "<cell>")
    exec(compile(source, "<cell 1>", "exec"), names)
    assert images(names["f"]) == ("cell",)


# --- Param and the categories -----------------------------------------------


def test_param_keeps_lists():
    param = annot.Param("ip", "target", regex="x", holder="y")
    assert (param.name, param.desc) == ("ip", "target")
    assert (param.regex, param.placeholder) == (["x"], ["y"])
    assert repr(param) == "Param('ip', 'target', regex=['x'], holder=['y'])"
    param = annot.Param("ip", "target", holder=["a", 80])
    assert (param.regex, param.placeholder) == ([], ["a", 80])


def test_argv():
    assert (annot.ARGV.name, annot.ARGV.desc) == ("argv", "command line arguments")


def test_categories():
    for kind, size in ((Attck, 16), (BlackArch, 48)):
        assert issubclass(kind, Category) and issubclass(kind, enum.Enum)
        assert len(kind) == len({m.value for m in kind}) == size
    assert sorted(cats.__all__) == ["Attck", "BlackArch", "Category"]
    assert all(re.fullmatch(r"TA00[0-4]\d", member.value) for member in Attck)
    for member in BlackArch:
        words = re.findall("[A-Z][a-z]*", member.name)
        assert "-".join(words).lower() == member.value
    assert Attck("TA0043") is Attck.Reconnaissance
    assert BlackArch("code-audit") is BlackArch.CodeAudit


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, {}),
        ([], {}),
        ({}, {}),
        (Attck.Impact, {Attck: [Attck.Impact]}),
        ([Attck.Impact, BlackArch.Dos, Attck.Discovery], None),
        ({Attck: Attck.Impact}, {Attck: [Attck.Impact]}),
        ({Attck: [Attck.Impact], BlackArch: []}, None),
    ],
)
def test_cats_are_kept_by_class(given, kept):
    if kept is None:
        kept = (
            {Attck: [Attck.Impact, Attck.Discovery], BlackArch: [BlackArch.Dos]}
            if isinstance(given, list)
            else {Attck: [Attck.Impact], BlackArch: []}
        )
    assert annot.meta([], cats=given)["cats"] == kept


# --- bad input ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"desc": 1}, "desc must be a str, not int"),
        ({"params": ["ip"]}, "params must be a list of Param, not of str"),
        ({"params": annot.ARGV}, "params must be a list of Param, not Param"),
        ({"tags": "nmap"}, "tags must be a list of str, not str"),
        ({"tags": [1]}, "tags must be a list of str, not of int"),
        ({"cats": "Scanner"}, "cats takes members of Category, not 'Scanner'"),
        ({"cats": {Attck: [BlackArch.Dos]}}, "takes members of Attck, not <BlackArch"),
        ({"cats": {"Attck": []}}, "keys of cats must be classes"),
        ({"ext": []}, "ext must be a dict, not list"),
        ({"exports": [1]}, "exports takes functions, and modules.* 1 is neither"),
        ({"exports": "scan"}, "exports must be a list .* not str"),
        ({"exports": [], "export": []}, "give one"),
    ],
)
def test_bad_arguments_of_meta(kwargs, message):
    with pytest.raises(TypeError, match=message):
        annot.meta(**kwargs)


def test_a_decorator_without_its_parentheses():
    with pytest.raises(TypeError, match=r"@annot\.meta\(desc=…\)"):

        @annot.meta
        def f():
            pass


def test_what_is_no_function_is_not_decorated():
    with pytest.raises(TypeError, match="decorates a function, not int"):
        annot.meta()(1)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, "d"), {}, "name must be a str, not int"),
        (("n", None), {}, "desc must be a str, not NoneType"),
        (("n", "d"), {"regex": 1}, "regex must be a list of str, not int"),
        (("n", "d"), {"regex": [1]}, "regex must be a list of str, not of int"),
        (("n", "d"), {"holder": 5}, "holder must be a list of object, not int"),
        (("n", "d", "h"), {}, "positional"),
    ],
)
def test_bad_arguments_of_param(args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        annot.Param(*args, **kwargs)


def test_another_name_is_refused(tmp_path):
    """A second copy would have categories that are other dict keys."""
    source = importlib.util.find_spec("levrt.annot").submodule_search_locations[0]
    (tmp_path / "annot").symlink_to(source)
    run = subprocess.run(
        [sys.executable, "-c", "import annot"],
        cwd=tmp_path,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "ImportError: this package is levrt.annot" in run.stderr
