"""The public API as a type checker sees it, and as `from levrt import *` does."""

import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import levrt
from levrt import _levrt
from levrt.logs import KeptLogs

ROOT = Path(__file__).parents[2]
CHECKED = ROOT / "tests" / "typing"

# Of the C half, what is for the Python half alone.
INTERNAL = {"Bridge", "Cursor", "Session", "begin", "decode", "encode"}
GETSETS = (types.GetSetDescriptorType, types.MemberDescriptorType)


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    cache = tmp_path_factory.mktemp("mypy")

    def check(path):
        """The errors by line, as sets of their codes."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
                *("--config-file", "", "--cache-dir", cache, path),
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert not done.stderr, done.stderr
        errors = {}
        for line in done.stdout.splitlines():
            match = re.fullmatch(r"(.+?):(\d+): error: (.*)  \[([\w-]+)\]", line)
            if match is None:
                assert ": note: " in line, line
                continue
            assert Path(match[1]).name == path.name, line
            errors.setdefault(int(match[2]), []).append((match[4], match[3]))
        return errors

    return check


def test_types_of_right_use(mypy):
    assert mypy(CHECKED / "right.py") == {}


def test_wrong_use_is_refused(mypy):
    path = CHECKED / "wrong.py"
    expected = {
        n: sorted(line.partition("# E: ")[2].split())
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if "# E: " in line
    }
    found = {n: sorted(code for code, _ in e) for n, e in mypy(path).items()}
    assert found == expected


def test_stub_and_module_agree():
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "levrt._levrt"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- names ----


def test_everything_of_the_c_half_is_public_or_internal():
    names = {name for name in vars(_levrt) if not name.startswith("_")}
    assert names - INTERNAL <= set(levrt.__all__)
    assert names >= INTERNAL, "no longer there"
    assert not INTERNAL & set(levrt.__all__)


def test_all_is_all():
    assert len(levrt.__all__) == len(set(levrt.__all__))
    for name in levrt.__all__:
        assert getattr(levrt, name) is not None
    assert set(levrt.__all__) <= set(dir(levrt))
    with pytest.raises(AttributeError, match="module 'levrt' has no attribute 'x'"):
        levrt.x  # noqa: B018
    scope = {}
    exec("from levrt import *", scope)
    assert set(levrt.__all__) <= set(scope)


def test_public_names_that_are_used_are_listed():
    """Whatever came in by being used is no accident."""
    public = {
        name
        for name, value in vars(levrt).items()
        if not name.startswith("_")
        and name != "TYPE_CHECKING"
        and not isinstance(value, types.ModuleType)
    }
    assert public <= set(levrt.__all__)


def test_exceptions_are_one_tree():
    raised = [
        value
        for name in levrt.__all__
        if inspect.isclass(value := getattr(levrt, name))
        and issubclass(value, BaseException)
    ]
    assert len(raised) == 20
    for kind in raised:
        assert issubclass(kind, levrt.LevError)
        assert kind.__module__ == "levrt.errors"
    assert issubclass(levrt.DeadlineExceeded, TimeoutError)
    assert issubclass(levrt.UnsupportedOption, ValueError)


def public_parts():
    """Everything that a user may come across, by name."""
    modules = [levrt.annot, levrt.annot.cats, levrt.bson]
    found = {
        name: value
        for name in levrt.__all__
        if not isinstance(value := getattr(levrt, name), types.ModuleType)
    }
    for module in modules:
        found |= {f"{module.__name__}.{n}": getattr(module, n) for n in module.__all__}
    found |= {
        "Find": type(levrt.Collection(None, "x").find()),
        "KeptLogs": KeptLogs,
        "lev": type(levrt.lev),
        "Namespace": type(levrt.lev / "x"),
    }
    return found


def undocumented(name, value):
    if isinstance(value, types.ModuleType) or inspect.isroutine(value):
        return [] if value.__doc__ else [name]
    if not inspect.isclass(value) or value.__module__ in ("types", "builtins"):
        return []  # an instance, or the union of File
    members = {
        n: m
        for n, m in vars(value).items()
        if not n.startswith("_")
        and (inspect.isroutine(m) or isinstance(m, (property, *GETSETS)))
        and n not in getattr(value, "__slots__", ())
    }
    missing = [f"{name}.{n}" for n, m in members.items() if not inspect.getdoc(m)]
    return missing if value.__doc__ else [name, *missing]


def test_everything_public_is_documented():
    missing = [
        found
        for name, value in public_parts().items()
        for found in undocumented(name, value)
    ]
    assert missing == []


@pytest.mark.parametrize("kind", [levrt.Cr, levrt.Task, levrt.Document, levrt.Op])
def test_documented_with_signatures(kind):
    assert kind.__doc__
    for name, member in vars(kind).items():
        if name.startswith("_") or not callable(member):
            continue
        assert member.__doc__, name
        if not isinstance(member, classmethod):
            assert "self" in inspect.signature(member).parameters, name
