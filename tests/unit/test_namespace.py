"""``lev`` in a workflow: namespaces, their collections and documents."""

import asyncio
import contextvars
import gc
import logging

import pytest

import levrt
from levrt import Cr, ctx, lev
from levrt.namespace import namespace_prefix


def test_ctx_is_lev():
    assert ctx is lev
    assert repr(lev) == "lev"


# ---- names ----


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        (5, TypeError, "a namespace's name must be str, not int"),
        (None, TypeError, "a namespace's name must be str, not NoneType"),
        (b"a", TypeError, "a namespace's name must be str, not bytes"),
        ("", ValueError, "must not be empty nor contain '|', '$' or NUL: ''"),
        ("a|b", ValueError, "must not be empty nor contain '|', '$' or NUL: 'a|b'"),
        ("$a", ValueError, "nor contain '|', '$' or NUL: '$a'"),
        ("a\0", ValueError, "nor contain '|', '$' or NUL"),
        ("\ud800", ValueError, "without lone surrogates: '\\ud800'"),
    ],
)
def test_wrong_names(name, kind, text):
    for base in [lev, lev / "ok"]:
        with pytest.raises(kind) as caught:
            base / name
        assert text in str(caught.value)


def test_names_of_any_text(run):
    async def main():
        with lev / "ünï" / "a.b c/d@1":
            assert namespace_prefix() == "ünï|a.b c/d@1"
            await lev.set(x=1)
            assert lev.coll.name == "ünï|a.b c/d@1"
        return await lev.coll._session.collections()

    assert run(main()) == ["ünï|a.b c/d@1"]


def test_repr():
    assert repr(lev / "a" / "b c") == "lev / 'a' / 'b c'"


# ---- which one is active ----


def test_outer_names_come_first(run):
    async def main():
        assert namespace_prefix() == ""
        with lev / "a" / "b":
            assert namespace_prefix() == "a|b"
            with lev / "c":
                assert namespace_prefix() == "a|b|c"
            assert namespace_prefix() == "a|b"
        assert namespace_prefix() == ""

    run(main())


def test_left_by_an_exception(run):
    async def main():
        with pytest.raises(KeyError), lev / "a":
            raise KeyError
        assert namespace_prefix() == ""

    run(main())


def test_a_prepared_one_is_entered_again(run):
    async def main():
        space = lev / "a"
        for _ in range(3):
            with space:
                assert namespace_prefix() == "a"
            assert namespace_prefix() == ""

    run(main())


def test_a_prepared_one_is_entered_while_active(run):
    async def main():
        a, b = lev / "a", lev / "b"
        with a, b, a:
            assert namespace_prefix() == "a|b|a"
            with a:
                assert namespace_prefix() == "a|b|a|a"
        assert namespace_prefix() == ""

    run(main())


def test_tasks_have_their_own(run):
    async def work(name, entered, leave):
        with lev / name:
            entered.set()
            await leave.wait()
            return namespace_prefix()

    async def main():
        events = [(asyncio.Event(), asyncio.Event()) for _ in range(3)]
        with lev / "outer":
            tasks = [
                asyncio.create_task(work(f"t{n}", *pair))
                for n, pair in enumerate(events)
            ]
            for entered, _ in events:
                await entered.wait()
            assert namespace_prefix() == "outer"
        # They go on with the outer one that was active when they began.
        for _, leave in reversed(events):
            leave.set()
        assert await asyncio.gather(*tasks) == [f"outer|t{n}" for n in range(3)]

    run(main())


def test_one_prepared_for_many_tasks(run):
    space = lev / "shared"

    async def work(both):
        with space:
            await both.wait()
            with space:
                await both.wait()
                return namespace_prefix()

    async def main():
        barrier = asyncio.Barrier(3)
        return await asyncio.gather(*(work(barrier) for _ in range(3)))

    assert run(main()) == ["shared|shared"] * 3


def test_left_in_another_order(run):
    async def main():
        a, b, c = lev / "a", lev / "b", lev / "c"
        a.__enter__()
        b.__enter__()
        c.__enter__()
        b.__exit__(None, None, None)
        assert namespace_prefix() == "a|c"
        a.__exit__(None, None, None)
        assert namespace_prefix() == "c"
        c.__exit__(None, None, None)
        assert namespace_prefix() == ""

    run(main())


def test_left_where_it_was_not_entered(run):
    async def leave(space):
        space.__exit__(None, None, None)

    async def main():
        with pytest.raises(RuntimeError, match="lev / 'a' is left in a task that"):
            await leave(lev / "a")
        space = lev / "a"
        task = asyncio.create_task(leave(space))
        with space, pytest.raises(RuntimeError, match="is left in a task"):
            await task

    run(main())


def test_outside_of_a_loop(home):
    for use in [
        lambda: (lev / "a").__enter__(),
        lambda: lev.set(a=1),
        lambda: lev.doc,
        lambda: lev.coll,
        lambda: lev.job_id,
    ]:
        with pytest.raises(RuntimeError, match=r"inside of levrt\.run\(\) or asyncio"):
            use()
    assert namespace_prefix() == ""


def test_contexts_do_not_grow(run):
    """A workflow may enter as many as it wants."""

    async def main():
        with lev / "a":
            pass
        before = len(contextvars.copy_context())
        for n in range(200):
            with lev / f"n{n}", lev / "b":
                pass
        gc.collect()
        assert len(contextvars.copy_context()) == before

    run(main())


# ---- collections and documents ----


def test_runs_go_into_its_collection(engine, run):
    async def main():
        async def name(cr):
            return (await cr).coll.name

        plain, typed = Cr("img"), Cr("img", "team/nmap@1.0")
        names = [await name(plain), await name(typed)]
        with lev / "a" / "b":
            names += [await name(plain), await name(typed)]
            inside = typed.done()
            task = asyncio.create_task(typed.start())
            await asyncio.sleep(0)
        # What counts is where it starts, not where it was made.
        names += [await name(inside), (await (await task)).coll.name]
        return names

    assert run(main()) == [
        "_",
        "team/nmap@1.0",
        "a|b",
        "a|b|team/nmap@1.0",
        "team/nmap@1.0",
        "a|b|team/nmap@1.0",
    ]


def test_services_are_of_the_same_namespace(engine, run):
    async def main():
        with lev / "a":
            cr = Cr("img", "t/main@1.0", services={"s": Cr("img", "t/s@1.0")})
            return (await cr).coll.name

    assert run(main()) == "a|t/main@1.0"


def test_its_document(run):
    async def main():
        with lev / "a" / "b" as doc:
            assert doc.coll.name == "a|b"
            assert doc.coll == lev.coll
            assert doc is lev.doc
            assert await doc.get() is None  # nothing is stored yet
            await lev.set(x=1)
            assert await doc.get() == {"x": 1}
            with lev / "c" as inner:
                assert inner.coll.name == "a|b|c"
                await lev.set(x=2)
        with lev / "a", lev / "b" as again:
            assert again is doc
        assert lev.doc.coll.name == "_"
        assert lev.doc.filter != doc.filter != inner.filter
        assert await inner.get() == {"x": 2}

    run(main())


def test_each_job_has_its_own_document(home):
    async def main(x):
        with lev / "a" as doc:
            await lev.set(x=x)
            return doc, lev.job_id, [d async for d in doc.all()]

    first, first_id, _ = levrt.run(main(1))
    second, second_id, both = levrt.run(main(2))
    assert first != second and first_id != second_id
    assert [d["x"] for d in both] == [1, 2]


def test_job_id(run):
    async def main():
        assert lev.job_id == lev.job_id
        with lev / "a":
            return lev.job_id

    job = run(main())
    assert len(job) == 24
    int(job, 16)


# ---- set ----


@pytest.mark.parametrize(
    ("args", "kwargs", "stored"),
    [
        (({"a": 1},), {}, {"a": 1}),
        ((), {"a": 1, "b": [b"x", {"c": None}]}, {"a": 1, "b": [b"x", {"c": None}]}),
        (({"a": 1, "b": 1},), {"b": 2}, {"a": 1, "b": 2}),
        (("key", 5), {}, {"key": 5}),
        (("key", 5), {"b": 2}, {"key": 5, "b": 2}),
        (({"v": {"x.y": 1, "$z": 2}},), {}, {"v": {"x.y": 1, "$z": 2}}),
        ((), {"value": 5}, {"value": 5}),
        ((), {}, None),
        (({},), {}, None),
    ],
)
def test_set(run, args, kwargs, stored):
    async def main():
        assert await lev.set(*args, **kwargs) is None
        return await lev.doc.get()

    assert run(main()) == stored


def test_set_nests_dotted_keys(run):
    async def main():
        await lev.set({"a.b": 1})
        await lev.set({"a.c.d": 2, "e": 3})
        await lev.update({"a.b": 4}, f=5)
        return await lev.doc.get()

    assert run(main()) == {"a": {"b": 4, "c": {"d": 2}}, "e": 3, "f": 5}


def test_set_of_nothing_changes_nothing(run):
    async def main():
        lev.set(a=1)
        await lev.set()
        assert await lev.doc.get() == {"a": 1}
        await lev.doc.set({})
        return await lev.doc.get()

    assert run(main()) == {"a": 1}


@pytest.mark.parametrize(
    ("args", "kwargs", "kind", "text"),
    [
        ((5,), {}, TypeError, "data must be a mapping, not int"),
        (([("a", 1)],), {}, TypeError, "data must be a mapping, not list"),
        (("key",), {}, TypeError, "takes one value after the key"),
        (("key",), {"value": 1}, TypeError, "takes one value after the key"),
        (("key", 1, 2), {}, TypeError, "takes one value"),
        (({"a": 1}, 2), {}, TypeError, "a mapping, keywords, or a key and its value"),
        (({5: 1},), {}, TypeError, "a key must be str, not int"),
        (({"_id": 1},), {}, ValueError, "the key _id is reserved"),
        (({"_lev": 1},), {}, ValueError, "the key _lev is reserved"),
        (({"_lev.seq": 1},), {}, ValueError, "the key _lev.seq is reserved"),
        (({"": 1},), {}, ValueError, "a key must not be empty"),
        (({"a.b": 1},), {"data": 3}, TypeError, "'data'"),
        ((), {"a": object()}, TypeError, "a"),
        ((), {"a": [1, {"b": {1, 2}}]}, TypeError, "a[1].b"),
        ((), {"a": 2**64}, OverflowError, "a"),
        ((), {"a": "\ud800"}, ValueError, "a"),
    ],
)
def test_set_refuses(run, args, kwargs, kind, text):
    """At once, with the path of the key, and nothing is stored."""

    async def main():
        with pytest.raises(kind) as caught:
            lev.set(*args, **kwargs)
        assert text in str(caught.value)
        with pytest.raises(kind):
            lev.doc.set(*args, **kwargs)
        assert await lev.doc.get() is None

    run(main())


def test_update_is_for_mappings(run):
    async def main():
        with pytest.raises(TypeError, match="must be a mapping, not int"):
            lev.update(5)

    run(main())


# ---- progress ----


def test_progress(caplog):
    with caplog.at_level(logging.INFO, "lev"):
        lev.progress(0)
        lev.progress(0.25)
        lev.progress(1, "done")
    assert [(r.name, r.message) for r in caplog.records] == [
        ("lev", "progress: 0"),
        ("lev", "progress: 0.25"),
        ("lev", "progress: 1 (done)"),
    ]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_progress_out_of_range(wrong):
    with pytest.raises(ValueError, match="fraction must be from 0 to 1, not"):
        lev.progress(wrong)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("0.5",), "fraction must be a number, not str"),
        ((None,), "fraction must be a number, not NoneType"),
        ((True,), "fraction must be a number, not bool"),
        ((0.5, 5), "text must be a str, not int"),
    ],
)
def test_progress_of_another_type(args, text):
    with pytest.raises(TypeError, match=text):
        lev.progress(*args)
