"""The reading worklist: entries, their two states with the tables of allowed moves, the merge of the lanes, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from triage.domain.eligibility import REASONS
from triage.domain.errors import Conflict
from triage.domain.order import RequestedPriority
from triage.domain.priority import Lane, Place


class AiState(StrEnum):
    """What the AI has done with an entry."""

    AWAITING_IMAGES = "awaiting-images"
    QUEUED = "queued"
    ASSESSING = "assessing"
    FLAGGED = "flagged"
    NOT_FLAGGED = "not-flagged"
    NOT_ELIGIBLE = "not-eligible"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


class ReadingState(StrEnum):
    """What people have done with an entry."""

    UNREAD = "unread"
    READING = "reading"
    REPORTED = "reported"
    CANCELLED = "cancelled"


A, R = AiState, ReadingState

AI_TRANSITIONS: Mapping[AiState, frozenset[AiState]] = {
    A.AWAITING_IMAGES: frozenset({A.QUEUED, A.TIMED_OUT, A.SUPERSEDED, A.WITHDRAWN}),
    A.QUEUED: frozenset({A.ASSESSING, A.AWAITING_IMAGES, A.SUPERSEDED, A.WITHDRAWN}),
    A.ASSESSING: frozenset(
        {
            A.FLAGGED,
            A.NOT_FLAGGED,
            A.NOT_ELIGIBLE,
            A.FAILED,
            A.TIMED_OUT,
            A.QUEUED,
            A.AWAITING_IMAGES,
            A.SUPERSEDED,
            A.WITHDRAWN,
        }
    ),
    A.FLAGGED: frozenset({A.QUEUED, A.AWAITING_IMAGES, A.SUPERSEDED, A.WITHDRAWN}),
    A.NOT_FLAGGED: frozenset({A.QUEUED, A.AWAITING_IMAGES, A.SUPERSEDED, A.WITHDRAWN}),
    A.NOT_ELIGIBLE: frozenset({A.QUEUED, A.AWAITING_IMAGES, A.SUPERSEDED, A.WITHDRAWN}),
    A.FAILED: frozenset({A.QUEUED, A.AWAITING_IMAGES, A.SUPERSEDED, A.WITHDRAWN}),
    A.TIMED_OUT: frozenset({A.QUEUED, A.AWAITING_IMAGES, A.SUPERSEDED, A.WITHDRAWN}),
    A.SUPERSEDED: frozenset(),
    A.WITHDRAWN: frozenset({A.QUEUED, A.AWAITING_IMAGES, A.SUPERSEDED}),
}
"""New images (whole or still coming) or a replay take a finished entry up again; nothing else does by itself."""

READING_TRANSITIONS: Mapping[ReadingState, frozenset[ReadingState]] = {
    R.UNREAD: frozenset({R.READING, R.REPORTED, R.CANCELLED}),
    R.READING: frozenset({R.UNREAD, R.REPORTED, R.CANCELLED}),
    R.REPORTED: frozenset({R.UNREAD}),
    R.CANCELLED: frozenset({R.UNREAD}),
}


def check_ai_move(old: AiState, new: AiState) -> None:
    """
    Refuse a move the table does not hold.

    Raises:
        Conflict: naming both states.
    """
    if new not in AI_TRANSITIONS[old]:
        raise Conflict(f"an entry that is {old} cannot become {new}")


def check_reading_move(old: ReadingState, new: ReadingState) -> None:
    """
    Refuse a move the table does not hold.

    Raises:
        Conflict: naming both states.
    """
    if new not in READING_TRANSITIONS[old]:
        raise Conflict(f"an entry that is {old} cannot become {new}")


@dataclass(frozen=True)
class WorklistEntry:
    """One study to be read, or an order still without images; patient data stay with study and order."""

    entry_id: int
    site: str
    order_id: int | None
    study_id: int | None
    requested_priority: RequestedPriority
    ai_state: AiState
    ai_reason: str
    reading_state: ReadingState
    eligible_at: datetime | None
    lane: Lane | None
    read_by: datetime | None
    claimed_by: str = ""
    placed_because: str = "clinical"
    """clinical | flagged | override | order-changed: what gave the entry its present place."""

    @property
    def place(self) -> Place | None:
        """The place in the reading list, or None for an order without images."""
        if self.lane is None or self.read_by is None:
            return None
        return Place(self.lane, self.read_by)


def merged(
    stat: Sequence[WorklistEntry],
    expedited: Sequence[WorklistEntry],
    ordinary: Sequence[WorklistEntry],
    *,
    now: datetime,
    expedited_per_ordinary: int,
    expedited_since_ordinary: int = 0,
) -> Iterator[WorklistEntry]:
    """
    The reading order: lane 0, then lane 1, with every (k+1)th place to the head of lane 2 while that head is overdue.

    Args:
        stat, expedited, ordinary: each lane's unread entries, already ordered by read_by, eligible_at, entry_id.
        expedited_per_ordinary: k; 0 gives every place to overdue ordinary studies first.
        expedited_since_ordinary: how many lane-1 places were given since the last lane-2 one, so that studies handed
            out one at a time keep the share that a whole page promises.
    """
    yield from stat
    since = expedited_since_ordinary
    one, two = 0, 0
    while one < len(expedited) or two < len(ordinary):
        head = ordinary[two] if two < len(ordinary) else None
        is_overdue = head is not None and head.read_by is not None and head.read_by <= now
        if head is not None and (one >= len(expedited) or (is_overdue and since >= expedited_per_ordinary)):
            yield head
            two, since = two + 1, 0
        else:
            yield expedited[one]
            one, since = one + 1, since + 1


def why(entry: WorklistEntry, now: datetime) -> str:
    """One sentence that says why *entry* stands where it stands."""
    if entry.reading_state is ReadingState.READING:
        return f"Claimed by {entry.claimed_by}; a claimed study does not move."
    if entry.reading_state is not ReadingState.UNREAD:
        return f"{entry.reading_state.capitalize()}."
    if entry.lane is None or entry.read_by is None:
        return "Ordered; no images yet."
    where = {
        Lane.STAT: "STAT order",
        Lane.EXPEDITED: f"{entry.requested_priority} order",
        Lane.ORDINARY: f"{entry.requested_priority} order",
    }[entry.lane]
    if entry.placed_because == "flagged":
        is_flagged = entry.ai_state is AiState.FLAGGED
        where = "AI suspects COVID (preliminary)" if is_flagged else "an earlier AI run suspected COVID, place kept"
    elif entry.placed_because == "override":
        where = "placed by a person"
    late = entry.read_by <= now
    when = f"{'overdue by' if late else 'to be read within'} {spoken(abs(entry.read_by - now))}"
    share = ", taking the share kept for overdue ordinary studies" if late and entry.lane is Lane.ORDINARY else ""
    return f"{where[0].upper()}{where[1:]}, {when}{share}; AI: {ai_in_words(entry)}."


def ai_in_words(entry: WorklistEntry) -> str:
    """The AI state as a reader sees it; `not-flagged` reads as no effect, never as negative."""
    words = {
        AiState.NOT_FLAGGED: "no effect on the order",
        AiState.FLAGGED: "flagged for earlier reading",
        AiState.QUEUED: "waiting for assessment",
        AiState.ASSESSING: "being assessed",
        AiState.AWAITING_IMAGES: "waiting for images",
        AiState.TIMED_OUT: "timed out, clinical order kept",
        AiState.NOT_ELIGIBLE: "not assessed",
        AiState.FAILED: "failed, clinical order kept",
    }.get(entry.ai_state, str(entry.ai_state))
    detail = REASONS.get(entry.ai_reason, entry.ai_reason)
    return f"{words} ({detail})" if detail else words


def spoken(span: timedelta) -> str:
    """A time span in the largest unit that fits: `40 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    seconds = int(span.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"
