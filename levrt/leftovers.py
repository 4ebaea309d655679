"""What sessions that are dead have left on an engine."""

from dataclasses import dataclass

from levrt.session import current_session

__all__ = ["Leftover", "gc"]


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that belongs to a session whose process is gone.

    ``kind`` is ``"container"``, ``"network"`` or ``"image"``; ``reason`` says why
    it is nobody's any more; ``error`` why it could not be removed, None where it
    could, or nobody tried.
    """

    engine: str
    kind: str
    name: str
    id: str
    session: str
    reason: str
    removed: bool
    error: str | None


async def gc(
    *, dry_run: bool = False, kept: bool = False, engine: str | None = None
) -> list[Leftover]:
    """Remove what dead sessions have left; what it was, in the order of removal.

    A session is dead when its process is gone, or its machine was started anew
    since; where that cannot be told (another machine's, another container's), when
    what it has left has expired. What belongs to a session that is alive, or not
    to levrt, is never touched. Each session does the same for its engine a moment
    after it has begun; this is for doing it now, and for seeing what it is.

    *dry_run*: only tell. *kept*: those also that ``Cr(keep=True)`` has kept of dead
    sessions. *engine*: the URL of an engine; the configured one without. Raises
    EngineUnavailable when it does not answer.
    """
    found = await current_session().gc(engine, dry_run=dry_run, kept=kept)
    return [Leftover(**entry) for entry in found]
