"""What has happened to a reader's cases, where that leaves the reader, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from triage.domain.finding import ChestClass
from triage.reading_room.study import Order

FINAL_AFTER = timedelta(hours=1)
"""No next case makes a session's last reading final: its reader does, or else this much time."""


@dataclass(frozen=True)
class Reading:
    """
    What a reader says of one case.

    Attributes:
        scores: the reader's confidence in normal, pneumonia and COVID, each 0 to 100, in the order of `ChestClass`.
    """

    response: ChestClass
    scores: tuple[int, int, int]


class Kind(StrEnum):
    """What can happen to a showing."""

    OPENED = "opened"
    READ = "read"
    PAUSED = "paused"
    RESUMED = "resumed"
    CLOSED = "closed"


@dataclass(frozen=True)
class Event:
    """Something that happened; *number* is the place of its showing in the reader's order, from 0."""

    kind: Kind
    at: datetime
    number: int
    reading: Reading | None = None


class Phase(StrEnum):
    """What a reader can do now."""

    READY = "ready"
    """Open the next case."""
    OPEN = "open"
    """Read the case in view."""
    GIVEN = "given"
    """Change the reading of the case in view, or open the next one, or close the session."""
    WASHOUT = "washout"
    """Wait until the next session opens."""
    FINISHED = "finished"


@dataclass(frozen=True)
class Standing:
    """
    Where a reader stands.

    Attributes:
        latest: the showing opened last, -1 before the first.
        opens_at: in washout, when the next session opens.
        ends_session: the showing opened last is its session's last.
    """

    phase: Phase
    latest: int = -1
    reading: Reading | None = None
    is_paused: bool = False
    opens_at: datetime | None = None
    ends_session: bool = False

    @property
    def has_case_in_view(self) -> bool:
        """Whether the reader may see the case opened last."""
        return self.phase in {Phase.OPEN, Phase.GIVEN} and not self.is_paused


def standing(order: Order, events: Sequence[Event], washout: timedelta, now: datetime) -> Standing:
    """
    Where the reader of *order* stands after *events*.

    The next session opens *washout* after the last moment at which a case of this one could be seen, so that every
    case has rested at least as long.
    """
    latest = max((event.number for event in events), default=-1)
    if latest < 0:
        return Standing(Phase.READY)
    last_read = next((e for e in reversed(events) if e.kind is Kind.READ and e.number == latest), None)
    is_paused = events[-1].kind is Kind.PAUSED
    if last_read is None:
        return Standing(Phase.OPEN, latest, None, is_paused)
    following = latest + 1
    is_last = following == len(order)
    ends_session = is_last or order[following].session != order[latest].session
    given = Standing(Phase.GIVEN, latest, last_read.reading, is_paused, ends_session=ends_session)
    if not ends_session:
        return given
    closed_at = events[-1].at if events[-1].kind is Kind.CLOSED else last_read.at + FINAL_AFTER
    if events[-1].kind is not Kind.CLOSED and now < closed_at:
        return given
    if is_last:
        return Standing(Phase.FINISHED, latest, ends_session=True)
    opens_at = closed_at + washout
    phase = Phase.WASHOUT if now < opens_at else Phase.READY
    return Standing(phase, latest, opens_at=opens_at, ends_session=True)


def last_readings(events: Sequence[Event]) -> dict[int, Reading]:
    """By place in the order: what the reader said last of each showing."""
    return {event.number: event.reading for event in events if event.reading is not None}


def shortest_rest(order: Order, events: Sequence[Event]) -> timedelta | None:
    """The shortest time from a case's last view in one session to its first in the next; None where none came twice."""
    seen: dict[str, tuple[int, datetime]] = {}
    shortest: timedelta | None = None
    for event in events:
        showing = order[event.number]
        session, at = seen.get(showing.case_id, (showing.session, event.at))
        if session != showing.session:
            rest = event.at - at
            shortest = rest if shortest is None else min(shortest, rest)
        seen[showing.case_id] = (showing.session, event.at)
    return shortest
