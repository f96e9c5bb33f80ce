"""The reading list: entries in reading order, and readers' claims on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from triage.domain.errors import Conflict
from triage.domain.priority import Lane
from triage.domain.worklist import ReadingState, WorklistEntry, merged
from triage.postgres.connect import Db
from triage.postgres.worklist import COLUMNS, entry_of, locked

HEADS = f"""
    (SELECT {COLUMNS} FROM worklist_entry e
      WHERE e.site = %(site)s AND e.reading_state = 'unread' AND e.eligible_at IS NOT NULL AND e.lane = 0
      ORDER BY e.read_by, e.eligible_at, e.id LIMIT %(limit)s)
    UNION ALL
    (SELECT {COLUMNS} FROM worklist_entry e
      WHERE e.site = %(site)s AND e.reading_state = 'unread' AND e.eligible_at IS NOT NULL AND e.lane = 1
      ORDER BY e.read_by, e.eligible_at, e.id LIMIT %(limit)s)
    UNION ALL
    (SELECT {COLUMNS} FROM worklist_entry e
      WHERE e.site = %(site)s AND e.reading_state = 'unread' AND e.eligible_at IS NOT NULL AND e.lane = 2
      ORDER BY e.read_by, e.eligible_at, e.id LIMIT %(limit)s)
"""

SHARE = "SELECT expedited_since_ordinary FROM reading_share WHERE site = %s"


def reading_list(
    db: Db, site: str, *, now: datetime, expedited_per_ordinary: int, limit: int, offset: int = 0
) -> list[WorklistEntry]:
    """One page of unread entries in reading order: the first rows of each lane's index range, merged."""
    lanes = _lanes(db, site, offset + limit)
    share = db.execute(SHARE, (site,)).fetchone()
    order = merged(
        *lanes,
        now=now,
        expedited_per_ordinary=expedited_per_ordinary,
        expedited_since_ordinary=share["expedited_since_ordinary"] if share else 0,
    )
    return [entry for position, entry in zip(range(offset + limit), order, strict=False) if position >= offset]


def _lanes(
    db: Db, site: str, limit: int
) -> tuple[Sequence[WorklistEntry], Sequence[WorklistEntry], Sequence[WorklistEntry]]:
    lanes: tuple[list[WorklistEntry], list[WorklistEntry], list[WorklistEntry]] = ([], [], [])
    for row in db.execute(HEADS, {"site": site, "limit": limit}).fetchall():
        lanes[row["lane"]].append(entry_of(row))
    return lanes


LOCK_SHARE = """
    INSERT INTO reading_share (site) VALUES (%s)
    ON CONFLICT (site) DO UPDATE SET expedited_since_ordinary = reading_share.expedited_since_ordinary
    RETURNING expedited_since_ordinary
"""

SET_SHARE = "UPDATE reading_share SET expedited_since_ordinary = %s WHERE site = %s"

CLAIM = f"""
    UPDATE worklist_entry e SET reading_state = 'reading', claimed_by = %(reader)s, claimed_at = clock_timestamp(),
           changed_at = clock_timestamp()
     WHERE id = %(id)s AND reading_state = 'unread' AND eligible_at IS NOT NULL RETURNING {COLUMNS}
"""


def claim(db: Db, entry_id: int, reader: str) -> WorklistEntry:
    """
    Give one unread entry to *reader* and count the place it took against the share; inside a transaction.

    Raises:
        Conflict: it is not unread, or has no images.
    """
    site = db.execute("SELECT site FROM worklist_entry WHERE id = %s", (entry_id,)).fetchone()
    if site is None:
        raise Conflict(f"no worklist entry {entry_id}")
    since = _lock_share(db, site["site"])  # always before the entry, so that two claims cannot wait for each other
    entry = locked(db, entry_id)
    row = db.execute(CLAIM, {"id": entry_id, "reader": reader}).fetchone()
    if row is None:
        raise Conflict(f"entry {entry_id} {_why_not(entry)}")
    if entry.lane is Lane.EXPEDITED:
        db.execute(SET_SHARE, (since + 1, entry.site))
    elif entry.lane is Lane.ORDINARY:
        db.execute(SET_SHARE, (0, entry.site))
    return entry_of(row)


def _why_not(entry: WorklistEntry) -> str:
    if entry.place is None:
        return "has no images"
    state = "being read" if entry.reading_state is ReadingState.READING else str(entry.reading_state)
    return f"is {state} by {entry.claimed_by}" if entry.claimed_by else f"is {state}"


def _lock_share(db: Db, site: str) -> int:
    row = db.execute(LOCK_SHARE, (site,)).fetchone()
    assert row is not None
    return int(row["expedited_since_ordinary"])


def claim_next(db: Db, site: str, reader: str, *, now: datetime, expedited_per_ordinary: int) -> WorklistEntry | None:
    """Give *reader* the study that comes next, under the share's lock, so that no two readers get the same one."""
    since = _lock_share(db, site)
    # a few of each lane: one claimed by name between our look and our claim must not leave the reader without a study
    lanes = _lanes(db, site, 4)
    order = merged(*lanes, now=now, expedited_per_ordinary=expedited_per_ordinary, expedited_since_ordinary=since)
    for entry in order:
        try:
            with db.transaction():
                return claim(db, entry.entry_id, reader)
        except Conflict:
            continue
    return None
