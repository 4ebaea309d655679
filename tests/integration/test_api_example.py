"""The published example, word for word but for its typing errors.

They are: a parameter called "taget", `Cr` and the tasks used without being
imported, and the image "...".
"""

import levrt
from levrt import Concurrent, Cr, lev


async def test_example(tools):
    def scan(target: str):
        @levrt.remote
        def entry():
            issues = ["Some issues"]
            # 储存数据
            lev.set(target=target, issues=issues)

        return Cr(tools, "ts/issues@1.0", entry=entry())

    doc = await scan("example.com")
    assert {"target": "example.com", "issues": ["Some issues"]} == await doc.get()
    assert doc.coll.collaction_name == "ts/issues@1.0"
    # 保存在 ts/issues@1.0

    with lev / "example":
        example = await scan("example.com")
        # 保存在 example|ts/issues@1.0

    with lev / "httpbin" / "org":
        httpbin = await scan("httpbin.org")
        # 保存在 httpbin|org|ts/issues@1.0

    assert example.coll.collaction_name == "example|ts/issues@1.0"
    assert httpbin.coll.collaction_name == "httpbin|org|ts/issues@1.0"
    found = await httpbin.coll.find_one({"target": "httpbin.org"})
    assert found["_id"] == httpbin.filter["_id"]
    assert await httpbin.get({"target": "example.com"}) is None


async def test_concurrent(tools):
    def scan(url: str):
        @levrt.remote
        def entry():
            lev.set(url=url)

        return Cr(tools, "ts/urls@1.0", entry=entry())

    urls = [f"http://example.com/{i}" for i in range(7)]

    # 多个 scan 任务会同时运行, 但某一时刻最多只有5个任务同时运行
    async with Concurrent(limit=5) as c:
        tasks = [c.start(scan(url)) for url in urls]

    docs = [await task for task in tasks]
    assert [(await doc.get())["url"] for doc in docs] == urls
    assert len({doc.filter["_id"] for doc in docs}) == len(urls)


async def test_no_more_than_the_limit_at_once(engine, tools):
    counts = []

    async def one():
        task = await Cr(tools, cmd=["sleep", "600"]).start()
        counts.append(len(engine.containers(lev.job_id)))
        await task.stop(0)
        await task

    async with Concurrent(limit=2) as c:
        tasks = [c.start(one()) for _ in range(5)]
    assert all(task.done() for task in tasks)
    assert len(counts) == 5
    assert max(counts) <= 2
    assert c() == 1.0


async def test_task(tools):
    task = await Cr(tools, cmd=["sleep", "60"]).start()
    assert isinstance(task, levrt.Task)
    await task.signal()  # SIGINT
    try:
        await task.done()
    except levrt.TaskFailed as e:
        assert e.exit_code == 130
    else:
        raise AssertionError("it ended well")
