"""MongoDB as it is when something goes wrong: a fake server's faults."""

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mongo import FakeMongo, Refuse

import levrt
from levrt import (
    DocumentTooLarge,
    QueryError,
    StoreError,
    StoreUnavailable,
    UnsupportedOperation,
    lev,
)

FAST = "heartbeatFrequencyMS=500&connectTimeoutMS=1000"
SHORT = f"{FAST}&serverSelectionTimeoutMS=600"


@pytest.fixture
def alone():
    with FakeMongo() as fake:
        yield fake


@pytest.fixture
def pair():
    with FakeMongo(members=2) as fake:
        yield fake


@pytest.fixture
def using(home):
    """Runs a coroutine function with a collection on a server."""

    def with_server(fake, main, options=FAST, login=""):
        async def work():
            return await main(lev.coll)

        url = fake.url(options, login)
        return levrt.run(asyncio.wait_for(work(), 30), db=url)

    return with_server


def insert(coll, *ids):
    return coll._session.insert("c", [{"_id": n} for n in ids])


def guarded(coll, seq):
    """As a guest's write is stored."""
    query = {"_id": 1, "_lev.seq": {"$lt": seq}}
    change = {"$set": {"n": seq, "_lev.seq": seq}}
    return coll._session.update("c", query, change, upsert=True)


def test_says_who_it_is(alone, using):
    async def main(coll):
        await insert(coll, 1)

    using(alone, main)
    assert {"name": "levrt"} in [client.get("application") for client in alone.clients]
    assert alone.docs["c"] == {1: {"_id": 1}}


# ---- answers that say no ----


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, QueryError),
        (121, QueryError),
        (17419, DocumentTooLarge),
        (10334, DocumentTooLarge),
        (59, UnsupportedOperation),
        (115, UnsupportedOperation),
        (13, StoreError),
        (10107, StoreUnavailable),
        (91, StoreUnavailable),
    ],
)
def test_codes_have_their_exceptions(alone, using, code, kind):
    alone.faults["insert"] = [Refuse(code, "the server's words")]

    async def main(coll):
        with pytest.raises(StoreError, match="the server's words") as caught:
            await insert(coll, 1)
        assert type(caught.value) is kind
        if kind is QueryError:
            assert caught.value.code == code
        await insert(coll, 2)  # it goes on

    using(alone, main)
    assert list(alone.docs["c"]) == [2]


def test_a_duplicate_key(alone, using):
    async def main(coll):
        await insert(coll, 1)
        with pytest.raises(QueryError, match="E11000") as caught:
            await insert(coll, 2, 1, 3)
        assert (caught.value.code, caught.value.codeName) == (11000, "DuplicateKey")

    using(alone, main)
    assert list(alone.docs["c"]) == [1, 2]  # those before the one that failed


def test_a_failed_login_tells_no_password(alone, using, caplog):
    caplog.set_level(logging.DEBUG)
    alone.faults["saslStart"] = [Refuse(18, "Authentication failed.")] * 20

    async def main(coll):
        with pytest.raises(StoreError, match=r"Authentication failed") as caught:
            await insert(coll, 1)
        return f"{caught.value} {caught.value!r}"

    text = using(alone, main, SHORT, login="me:s%33cret@")
    assert "me@127.0.0.1" in text
    for shown in (text, caplog.text):
        assert "s3cret" not in shown and "s%33cret" not in shown


# ---- replica sets ----


def test_the_primary_steps_down(pair, using):
    pair.faults["insert"] = ["step down"]

    async def main(coll):
        await insert(coll, 1)
        await insert(coll, 2)

    using(pair, main)
    assert list(pair.docs["c"]) == [1, 2]
    assert pair.seen.count("insert") == 3


@pytest.mark.parametrize("fault", ["lost", "close"])
def test_a_write_is_repeated_once_its_connection_is_lost(pair, using, fault):
    pair.faults["insert"] = [fault]

    async def main(coll):
        await insert(coll, 1)

    using(pair, main)
    assert list(pair.docs["c"]) == [1]
    assert pair.seen.count("insert") == 2


@pytest.mark.parametrize("code", [91, 189, 11600, 13435])
def test_errors_that_may_be_retried(pair, using, code):
    refusal = Refuse(code, labels=("RetryableWriteError",))
    pair.faults["insert"] = [refusal]
    pair.faults["find"] = [Refuse(code)]

    async def main(coll):
        await insert(coll, 1)
        assert await coll._session.find_one("c") == {"_id": 1}

    using(pair, main)
    assert pair.seen.count("insert") == 2 and pair.seen.count("find") == 2


# ---- a server that is lost ----


def test_an_insert_whose_answer_was_lost_is_told(alone, using):
    """Without a replica set nobody knows: it is not sent a second time."""
    alone.faults["insert"] = ["lost"]

    async def main(coll):
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await insert(coll, 1)

    using(alone, main)
    assert alone.seen.count("insert") == 1


@pytest.mark.parametrize("fault", ["lost", "close"])
def test_a_guests_write_is_repeated(alone, using, fault):
    """It carries a number: a second time is a duplicate key, or the first."""
    alone.faults["update"] = [fault, fault]

    async def main(coll):
        try:
            await guarded(coll, 7)
        except QueryError as e:
            assert e.code == 11000 and fault == "lost"

    using(alone, main)
    assert alone.docs["c"][1] == {"_id": 1, "n": 7, "_lev.seq": 7}
    assert alone.seen.count("update") >= 2


def test_nobody_there(using):
    with FakeMongo() as gone:
        url = gone.url(SHORT)

    async def main():
        with pytest.raises(StoreUnavailable, match=r"No suitable servers found"):
            await lev.coll.find_one()

    levrt.run(main(), db=url)


# ---- answers that do not come as they should ----


@pytest.mark.parametrize("fault", ["mute", "half"])
@pytest.mark.parametrize("command", ["insert", "find", "aggregate"])
def test_silence_is_left_by_cancelling(alone, using, command, fault):
    alone.faults[command] = [fault]

    async def main(coll):
        session = coll._session
        ops = {
            "insert": lambda: session.insert("c", [{"_id": 1}]),
            "find": lambda: session.find_one("c"),
            "aggregate": lambda: session.count("c"),
        }
        task = asyncio.ensure_future(ops[command]())
        await asyncio.to_thread(alone.reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await insert(coll, 2)  # by another connection

    using(alone, main)
    assert 2 in alone.docs["c"]


def test_a_handshake_without_an_answer(alone, using):
    """Monitors and connections both: only what was asked for is bounded."""
    alone.faults["isMaster"] = alone.faults["hello"] = ["mute"] * 50

    async def main(coll):
        with pytest.raises(StoreUnavailable):
            await coll.find_one()

    using(alone, main, SHORT)


def test_an_answer_byte_by_byte(alone, using):
    alone.faults["find"] = ["dribble"]

    async def main(coll):
        await insert(coll, 1, 2, 3)
        return [doc["_id"] async for doc in levrt.Collection(coll._session, "c").find()]

    assert using(alone, main) == [1, 2, 3]


def test_an_answer_of_garbage(alone, using):
    alone.faults["find"] = ["garbage"]

    async def main(coll):
        with pytest.raises(StoreError):
            await coll.find_one()
        assert await coll.find_one() is None

    using(alone, main)


# ---- cursors ----


def test_a_cursor_has_many_batches(alone, using):
    async def main(coll):
        await insert(coll, *range(10))
        found = levrt.Collection(coll._session, "c").find(batch_size=2)
        return [doc["_id"] async for doc in found]

    assert using(alone, main) == list(range(10))
    assert alone.seen.count("getMore") == 3


@pytest.mark.parametrize("fault", ["close", Refuse(43, "cursor id not found")])
def test_a_cursor_that_is_lost(alone, using, fault):
    """What came before is given, and then the error, every time."""
    alone.faults["getMore"] = [fault]

    async def main(coll):
        await insert(coll, *range(10))
        found, seen = levrt.Collection(coll._session, "c").find(), []
        for _ in range(2):
            with pytest.raises(StoreError):
                async for doc in found:
                    seen.append(doc["_id"])
        return seen

    assert using(alone, main) == [0, 1, 2]


def test_an_abandoned_cursor_is_closed(alone, using):
    async def main(coll):
        await insert(coll, *range(10))
        found = levrt.Collection(coll._session, "c").find(batch_size=2)
        assert await found.to_list(2) == [{"_id": 0}, {"_id": 1}]
        await found.close()

    using(alone, main)
    assert "killCursors" in alone.seen


def test_closing_a_cursor_of_a_mute_server(alone, using):
    alone.faults["killCursors"] = ["mute"]

    async def main(coll):
        await insert(coll, *range(10))
        found = levrt.Collection(coll._session, "c").find(batch_size=2)
        assert await found.to_list(2) == [{"_id": 0}, {"_id": 1}]
        await found.close()
        await asyncio.to_thread(alone.reached.wait)
        assert await levrt.Collection(coll._session, "c").find_one(9) == {"_id": 9}

    using(alone, main)


# ---- the process ----


def program(code, *arguments):
    env = {**os.environ, "PYTHONPATH": str(Path(levrt.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=env)


def test_a_forked_process_cannot_use_it(alone, home):
    code = """
import os, sys, threading
import levrt
from levrt import lev

async def count():
    return await lev.coll.count_documents()

def child(parent):
    try:
        levrt.run(count(), db=sys.argv[1])
    except levrt.StoreError as e:
        os._exit(0 if f"process {parent} " in str(e) else 3)
    finally:
        os._exit(4)

async def main():
    await count()
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        thread = threading.Thread(target=child, args=[parent])
        thread.start()
        thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert await count() == 0

levrt.run(main(), db=sys.argv[1])
"""
    program(code, alone.url(FAST))


def test_sqlite_users_do_not_load_the_driver(home):
    code = """
import levrt
from levrt import lev

async def main():
    await lev.coll.count_documents()

levrt.run(main())
assert "mongoc" not in open("/proc/self/maps").read()
"""
    program(code)
