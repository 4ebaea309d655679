"""levrt.args: the words of a command line."""

import decimal
import pathlib

import pytest
from hypothesis import given, strategies as st

from levrt.args import cli


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, []),
        ((), {"a": 1}, ["-a", "1"]),
        ((), {"long_name": "x"}, ["--long-name", "x"]),
        ((), {"a_b_c": 1}, ["--a-b-c", "1"]),
        ((), {"from_": 1}, ["--from-", "1"]),
        ((), {"v": True}, ["-v"]),
        ((), {"verbose": True, "v": False, "q": None}, ["--verbose"]),
        ((), {"p": [80, 443]}, ["-p", "80", "-p", "443"]),
        ((), {"p": (80, "443")}, ["-p", "80", "-p", "443"]),
        ((), {"p": []}, []),
        ((), {"v": [True, True]}, ["-v", "-v"]),
        ((), {"p": [None, 1, False]}, ["-p", "1"]),
        ((), {"a": 0}, ["-a", "0"]),
        ((), {"a": ""}, ["-a", ""]),
        ((), {"a": -1.5}, ["-a", "-1.5"]),
        (("scan", 1), {"a": 2}, ["scan", "1", "-a", "2"]),
        (("-x", "a_b", "", True), {}, ["-x", "a_b", "", "True"]),
        ((pathlib.Path("/a/b"),), {}, ["/a/b"]),
        ((), {"d": decimal.Decimal("1.10")}, ["-d", "1.10"]),
    ],
)
def test_words(args, kwargs, words):
    assert cli(*args, **kwargs) == words


def test_positional_values_come_first_and_options_in_order():
    assert cli("t", z=1, a=2, m=[3, 4]) == "t -z 1 -a 2 -m 3 -m 4".split()


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((None,), {}, r"argument 1: None is no argument"),
        (("x", ["a"]), {}, r"argument 2: .* unpack it with \* \(got list\)"),
        ((b"x",), {}, r"argument 1: bytes .* decode"),
        ((), {"data": b"x"}, r"data: bytes .* decode"),
        ((), {"p": {1, 2}}, r"p: .* \(got set\)"),
        ((), {"p": {"a": 1}}, r"p: .* \(got dict\)"),
        ((), {"p": [[1]]}, r"p: a list is no single argument"),
    ],
)
def test_what_is_no_word_is_refused_by_name(args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        cli(*args, **kwargs)


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match="name of an option is empty"):
        cli(**{"": 1})


@given(st.lists(st.text()), st.dictionaries(st.from_regex(r"[a-z_]+"), st.integers()))
def test_every_value_arrives_once_as_str(args, kwargs):
    words = cli(*args, **kwargs)
    assert words[: len(args)] == args
    assert words[len(args) + 1 :: 2] == [str(value) for value in kwargs.values()]
    assert len(words) == len(args) + 2 * len(kwargs)
