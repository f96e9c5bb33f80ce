"""The orders in which waiting studies can be taken: first come, strict, by due date, and this product's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Protocol

import numpy as np
import numpy.typing as npt

from triage.domain.order import RequestedPriority
from triage.domain.priority import Lane, Place, PriorityPolicy, clinical_place, moved_forward
from triage.domain.worklist import AiState, ReadingState, WorklistEntry, merged

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
"""The rule of the product knows instants, a simulation seconds; which instant is second 0 changes nothing."""


class Line(Protocol):
    """Studies that wait, and who is next."""

    def __len__(self) -> int: ...

    def add(self, study: int) -> None:
        """Study number *study* has come."""

    def take(self, now: float) -> int:
        """The study to be read at *now*, which waits no longer."""


class ByKey:
    """A line in the order of a number that each study has from the start, lowest first, then in order of arrival."""

    def __init__(self, key: npt.ArrayLike) -> None:
        """*key*: (n,) by study number."""
        self._key: list[float] = np.asarray(key, dtype=np.float64).tolist()
        self._waiting: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, study: int) -> None:
        """Study number *study* has come."""
        heappush(self._waiting, (self._key[study], study))

    def take(self, now: float) -> int:
        """The waiting study of the lowest key."""
        return heappop(self._waiting)[1]


class ReadingList:
    """
    A line in the order of this product: its own places, its own moves, its own merge of the lanes.

    Each study comes at its clinical place, and is moved forward at the instant the AI flags it, if it still waits.
    A flag that never comes (AI not there, or no finding) leaves it in clinical order.
    """

    def __init__(
        self,
        arrived: npt.ArrayLike,
        priority: Sequence[RequestedPriority],
        flagged_at: npt.ArrayLike,
        policy: PriorityPolicy,
    ) -> None:
        """
        Args:
            arrived: (n,) seconds.
            priority: (n,) what was ordered.
            flagged_at: (n,) seconds, not before *arrived*; NaN for studies never flagged.
        """
        at = np.asarray(flagged_at, dtype=np.float64)
        seconds = np.asarray(arrived, dtype=np.float64)
        if not len(at) == len(seconds) == len(priority) or (at < seconds).any():
            raise ValueError("one priority and one flag for each study, no flag before the study")
        self._arrived: list[float] = seconds.tolist()
        self._priority = priority
        self._flags: list[tuple[float, int]] = [(float(at[i]), int(i)) for i in np.flatnonzero(~np.isnan(at))]
        heapify(self._flags)
        self._policy = policy
        self._waiting: dict[int, WorklistEntry] = {}
        self._lanes: dict[Lane, list[tuple[datetime, datetime, int]]] = {lane: [] for lane in Lane}
        self._expedited_since_ordinary = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, study: int) -> None:
        """Study number *study* has come, and takes its clinical place."""
        eligible_at = instant(self._arrived[study])
        priority = self._priority[study]
        self._put(study, priority, eligible_at, clinical_place(priority, eligible_at, self._policy), AiState.QUEUED)

    def take(self, now: float) -> int:
        """The first of the product's reading list at *now*; it is counted against the share as a claim is."""
        self._move_flagged(now)
        order = merged(
            *(self._head(lane) for lane in Lane),
            now=instant(now),
            expedited_per_ordinary=self._policy.expedited_per_ordinary,
            expedited_since_ordinary=self._expedited_since_ordinary,
        )
        entry = next(order)
        if entry.lane is Lane.EXPEDITED:
            self._expedited_since_ordinary += 1
        elif entry.lane is Lane.ORDINARY:
            self._expedited_since_ordinary = 0
        del self._waiting[entry.entry_id]
        return entry.entry_id

    def _move_flagged(self, now: float) -> None:
        while self._flags and self._flags[0][0] <= now:
            _, study = heappop(self._flags)
            entry = self._waiting.get(study)
            if entry is not None and entry.place is not None and entry.eligible_at is not None:
                place = moved_forward(entry.place, entry.eligible_at, self._policy)
                self._put(study, entry.requested_priority, entry.eligible_at, place, AiState.FLAGGED)

    def _put(
        self, study: int, priority: RequestedPriority, eligible_at: datetime, place: Place, ai_state: AiState
    ) -> None:
        self._waiting[study] = WorklistEntry(
            study, "", None, study, priority, ai_state, "", ReadingState.UNREAD, eligible_at, place.lane, place.read_by
        )
        heappush(self._lanes[place.lane], (place.read_by, eligible_at, study))

    def _head(self, lane: Lane) -> Sequence[WorklistEntry]:
        """The first of a lane: the merge looks no further to say who is next of all."""
        line = self._lanes[lane]
        while line:
            entry = self._waiting.get(line[0][2])
            if entry is not None and entry.lane is lane:
                return (entry,)  # moved forward within the lane it is met at its new place first
            heappop(line)  # taken since, or moved to a lane before
        return ()


def instant(seconds: float) -> datetime:
    """Seconds of the simulation as the product's aware instant."""
    return EPOCH + timedelta(seconds=seconds)


def first_come(arrived: npt.ArrayLike) -> ByKey:
    """First come, first read."""
    return ByKey(arrived)


def strict(urgency: npt.ArrayLike) -> ByKey:
    """Every study of a lower *urgency* number (n,) before any of a higher one, whatever the others have waited."""
    return ByKey(urgency)


def due_dates(arrived: npt.ArrayLike, allowance: npt.ArrayLike) -> ByKey:
    """Earliest due first, a study being due *allowance* (n,) seconds after it came (EDF)."""
    return ByKey(np.asarray(arrived, dtype=np.float64) + np.asarray(allowance, dtype=np.float64))
