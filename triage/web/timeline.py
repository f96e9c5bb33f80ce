"""What happened to a study, in words: the audit trail and the moves as one timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from triage.domain.eligibility import REASONS
from triage.domain.priority import Lane
from triage.web.desk import Desk
from triage.web.shown import clock_words

LANE_WORDS = {Lane.STAT: "STAT", Lane.EXPEDITED: "Expedited", Lane.ORDINARY: "Ordinary"}
EVENT_WORDS = {
    "order-placed": "Order placed",
    "order-change": "Order changed",
    "order-cancel": "Order cancelled",
    "order-hold": "Order put on hold",
    "order-release": "Order released",
    "order-complete": "Order completed",
    "study-seen": "Images stored in the archive",
    "matched": "Study joined with its order",
    "late-instance": "Late images came: to be assessed again",
    "assessed": "Assessed by the AI",
    "not-eligible": "Not assessed",
    "failed": "Assessment failed",
    "timed-out": "Assessment timed out",
    "replayed": "Queued for assessment again",
    "delivered": "Result delivered",
    "parked": "Delivery parked for a person",
    "delivery-replayed": "Delivery sent again",
    "claimed": "Claimed",
    "released": "Released",
    "reported": "Reported",
    "override": "Moved by a person",
    "withdrawn": "Withdrawn",
}
VIEWS = frozenset({"viewed", "image-viewed"})
TOLD = ("by", "how", "destination", "status", "priority", "label", "state", "reason")
"""Details of an event worth a reader's eye, in this order."""


@dataclass(frozen=True)
class Event:
    """One line of a study's timeline."""

    at: datetime
    words: str
    actor: str
    detail: str
    kind: str


def timeline(detail: Mapping[str, Any], desk: Desk) -> list[Event]:
    """What happened to an entry, oldest first: the audit trail's events and the moves, without the views."""
    events = [_event(row, desk) for row in detail["trail"] if row["action"] not in VIEWS]
    events += [_move(row, desk) for row in detail["moves"]]
    return sorted(events, key=lambda event: event.at)


def viewers(trail: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, datetime]]:
    """Who looked at the study: name, how often, last when."""
    seen: dict[str, tuple[int, datetime]] = {}
    for row in trail:
        if row["action"] == "viewed":
            seen[row["actor"]] = (seen.get(row["actor"], (0, row["at"]))[0] + 1, row["at"])
    return [(actor, times, at) for actor, (times, at) in seen.items()]


def _event(row: Mapping[str, Any], desk: Desk) -> Event:
    told = dict(row["detail"] or {})
    if not desk.shows_ai and row["action"] == "assessed":
        told = {}
    detail = ", ".join(_told(name, str(told[name])) for name in TOLD if told.get(name))
    words = EVENT_WORDS.get(row["action"], row["action"].replace("-", " ").capitalize())
    return Event(row["at"], words, row["actor"], detail, row["action"])


def _told(name: str, value: str) -> str:
    if name == "state":
        return {"flagged": "flagged", "not-flagged": "no effect"}.get(value, value)
    if name == "reason":
        return REASONS.get(value, value)
    return f"{name} {value}" if name in {"by", "priority", "label", "status"} else value


def _move(row: Mapping[str, Any], desk: Desk) -> Event:
    def place(lane: int, read_by: datetime) -> str:
        return f"{LANE_WORDS[Lane(lane)]}, read by {clock_words(read_by, desk)}"

    to = place(row["to_lane"], row["to_read_by"])
    came = row["from_lane"] is None
    detail = to if came else f"from {place(row['from_lane'], row['from_read_by'])} to {to}"
    return Event(row["at"], "Entered the reading list" if came else "Moved", row["actor"], f"{detail}: {row['reason']}",
                 "move")  # fmt: skip
