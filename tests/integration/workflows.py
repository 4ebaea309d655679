"""What the workflows of these tests have in common."""

import asyncio

from levrt import Cr


async def lines(cr):
    """Runs it to its end; its output, line by line."""
    document = await cr
    return [line.text for line in await document.logs()]


def sh(image, script, *args, **options):
    """A Cr of a shell script."""
    return Cr(image, cmd=["sh", "-c", script, "sh", *args], **options)


async def failure(awaitable, kind):
    """The exception of that kind that awaiting it raises."""
    try:
        await awaitable
    except kind as e:
        return e
    raise AssertionError(f"no {kind.__name__} was raised")


async def logged(task, text):
    """Waits until the task's output has a line with that text."""
    async for line in task.logs():
        if text in line.text:
            return line
    raise AssertionError(f"{task.name} ended without a word of {text!r}")


async def all_of(*crs):
    """The outputs of all of them, run at once."""
    return await asyncio.gather(*map(lines, crs))
