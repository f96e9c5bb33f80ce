"""The rule that turns an order and an assessment into a place: a lane and the instant to be read by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from triage.domain.order import RequestedPriority


class Lane(IntEnum):
    """The three lanes of the reading list, first lane first."""

    STAT = 0
    EXPEDITED = 1
    ORDINARY = 2


@dataclass(frozen=True)
class Place:
    """Where an entry stands: its lane, and within it the instant it should be read by."""

    lane: Lane
    read_by: datetime

    def is_behind(self, other: Place) -> bool:
        """Whether this place is further back than *other*: a higher lane or a later `read_by`."""
        return self.lane > other.lane or self.read_by > other.read_by


@dataclass(frozen=True)
class PriorityPolicy:
    """
    A site's longest waits aimed at, and the share promised to overdue ordinary studies.

    Attributes:
        expedited_per_ordinary: k of the fairness rule: after k expedited places, one for an overdue ordinary study.
    """

    stat: timedelta = timedelta(minutes=15)
    flagged: timedelta = timedelta(minutes=30)
    urgent: timedelta = timedelta(hours=1)
    routine: timedelta = timedelta(hours=8)
    expedited_per_ordinary: int = 1

    def wait_for(self, priority: RequestedPriority) -> timedelta:
        """The longest wait aimed at for *priority*."""
        return {
            RequestedPriority.STAT: self.stat,
            RequestedPriority.URGENT: self.urgent,
            RequestedPriority.ROUTINE: self.routine,
        }[priority]


LANE_OF = {
    RequestedPriority.STAT: Lane.STAT,
    RequestedPriority.URGENT: Lane.EXPEDITED,
    RequestedPriority.ROUTINE: Lane.ORDINARY,
}


def clinical_place(priority: RequestedPriority, eligible_at: datetime, policy: PriorityPolicy) -> Place:
    """The place an entry takes without any AI: what plain clinical order is made of."""
    return Place(LANE_OF[priority], eligible_at + policy.wait_for(priority))


def moved_forward(current: Place, eligible_at: datetime, policy: PriorityPolicy) -> Place:
    """The place of an entry once the AI flags it: never behind *current* in lane or in time."""
    return Place(
        min(current.lane, Lane.EXPEDITED),
        min(current.read_by, eligible_at + policy.flagged),
    )
