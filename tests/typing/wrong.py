"""What a type checker has to refuse: each line with a comment that names the
kind of its error, and no other. Checked, never run."""

import levrt
from levrt import Concurrent, Cr, Document, Task, lev, remote


@remote
def entry(target: str) -> None:
    pass


def plain(target: str) -> None:
    pass


async def wrong(cr: Cr, doc: Document, task: Task) -> None:
    Cr(5)  # E: arg-type
    Cr()  # E: call-arg
    Cr("img", host="yes")  # E: arg-type
    Cr("img", entry=plain)  # E: arg-type
    Cr("img", entry=entry())  # E: call-arg
    entry(5)  # E: arg-type
    Cr("img", cmd=[80])  # E: list-item
    Cr("img", ports=["80"])  # E: list-item
    Cr("img", files={"/a": 5})  # E: dict-item
    Cr("img", services={"a": "img"})  # E: dict-item
    Cr("img", pull="yes")  # E: arg-type
    Cr("img", nothing=1)  # E: call-arg
    cr.image = "other"  # E: misc
    await doc.get(5)  # E: arg-type
    await doc.get(None, 5)  # E: arg-type
    lev / 5  # E: operator
    await task.signal(1.5)  # E: arg-type
    levrt.run(5)  # E: arg-type
    print(levrt.nothing)  # E: attr-defined
    async with Concurrent("5") as c:  # E: arg-type
        c.start(5)  # E: arg-type
    (await doc.get())["a"]  # E: index
    for _ in doc.all():  # E: attr-defined
        pass


class Better(Document):  # E: misc
    pass
