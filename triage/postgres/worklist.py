"""Worklist entries as rows: their place and their two states."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from triage.domain.errors import Conflict
from triage.domain.order import RequestedPriority
from triage.domain.priority import Lane, Place
from triage.domain.worklist import AiState, ReadingState, WorklistEntry, check_ai_move, check_reading_move
from triage.postgres.connect import Db

ATTEMPTS = 15
"""Attempts an entry has before it is given up; new images or a replay give all of them again."""

COLUMNS = """
    e.id, e.site, e.order_id, e.study_id, e.requested_priority, e.ai_state, e.ai_reason, e.reading_state, e.eligible_at,
    e.lane, e.read_by, e.claimed_by, e.placed_because
"""


def entry_of(row: dict[str, Any]) -> WorklistEntry:
    """An entry as stored."""
    return WorklistEntry(
        entry_id=row["id"],
        site=row["site"],
        order_id=row["order_id"],
        study_id=row["study_id"],
        requested_priority=RequestedPriority(row["requested_priority"]),
        ai_state=AiState(row["ai_state"]),
        ai_reason=row["ai_reason"],
        reading_state=ReadingState(row["reading_state"]),
        eligible_at=row["eligible_at"],
        lane=None if row["lane"] is None else Lane(row["lane"]),
        read_by=row["read_by"],
        claimed_by=row["claimed_by"],
        placed_because=row["placed_because"],
    )


def _one(row: dict[str, Any] | None) -> WorklistEntry | None:
    return None if row is None else entry_of(row)


LOCKED = f"SELECT {COLUMNS} FROM worklist_entry e WHERE e.id = %s FOR NO KEY UPDATE"


def locked(db: Db, entry_id: int) -> WorklistEntry:
    """
    One entry, locked until the transaction ends.

    Raises:
        Conflict: there is no such entry.
    """
    found = _one(db.execute(LOCKED, (entry_id,)).fetchone())
    if found is None:
        raise Conflict(f"no worklist entry {entry_id}")
    return found


# Rows are locked in one order everywhere, so that no two transactions wait for each other in a circle: identities
# (advisory, `orders.lock_identity`), the order, the share, entries by id, runs, deliveries; the audit chain at commit.
# FOR NO KEY UPDATE, because a second update of a row in one transaction repeats its foreign-key checks: an entry's
# holder then takes KEY SHARE on the order, which FOR UPDATE there would make wait for whoever waits for the entry.

OF_STUDY = f"SELECT {COLUMNS} FROM worklist_entry e WHERE e.study_id = %s FOR NO KEY UPDATE"


def of_study(db: Db, study_id: int) -> WorklistEntry | None:
    """The entry of a study, locked."""
    return _one(db.execute(OF_STUDY, (study_id,)).fetchone())


OF_ORDER = f"SELECT {COLUMNS} FROM worklist_entry e WHERE e.order_id = %s ORDER BY e.id FOR NO KEY UPDATE"


def of_order(db: Db, order_id: int) -> list[WorklistEntry]:
    """The entries of an order, locked; several where one request covers several studies."""
    return [entry_of(row) for row in db.execute(OF_ORDER, (order_id,)).fetchall()]


MEETING = f"""
    SELECT {COLUMNS} FROM worklist_entry e WHERE e.study_id = %s OR e.order_id = %s ORDER BY e.id FOR NO KEY UPDATE
"""


def meeting(db: Db, study_id: int, order_id: int) -> tuple[WorklistEntry | None, list[WorklistEntry]]:
    """The entry of a study and those of the order it meets, locked by ascending id."""
    entries = [entry_of(row) for row in db.execute(MEETING, (study_id, order_id)).fetchall()]
    own = next((entry for entry in entries if entry.study_id == study_id), None)
    return own, [entry for entry in entries if entry.order_id == order_id]


INSERT = f"""
    INSERT INTO worklist_entry AS e (site, order_id, study_id, requested_priority, ai_state, reading_state)
    VALUES (%(site)s, %(order_id)s, %(study_id)s, %(priority)s, 'awaiting-images', 'unread') RETURNING {COLUMNS}
"""


def insert(
    db: Db, site: str, *, order_id: int | None, study_id: int | None, priority: RequestedPriority
) -> WorklistEntry:
    """A new entry, awaiting images."""
    row = db.execute(
        INSERT, {"site": site, "order_id": order_id, "study_id": study_id, "priority": priority.value}
    ).fetchone()
    assert row is not None
    return entry_of(row)


ATTACH = f"""
    UPDATE worklist_entry e
       SET order_id = coalesce(%(order_id)s, order_id), study_id = coalesce(%(study_id)s, study_id),
           requested_priority = %(priority)s, changed_at = clock_timestamp()
     WHERE id = %(id)s RETURNING {COLUMNS}
"""


def attach(
    db: Db,
    entry: WorklistEntry,
    *,
    order_id: int | None = None,
    study_id: int | None = None,
    priority: RequestedPriority,
) -> WorklistEntry:
    """Join an entry with the order or study it waited for."""
    row = db.execute(
        ATTACH, {"id": entry.entry_id, "order_id": order_id, "study_id": study_id, "priority": priority.value}
    ).fetchone()
    assert row is not None
    return entry_of(row)


DETACH = f"""
    UPDATE worklist_entry e SET order_id = NULL, changed_at = clock_timestamp() WHERE id = %s RETURNING {COLUMNS}
"""


def detach(db: Db, entry: WorklistEntry) -> WorklistEntry:
    """Take an entry's order away; it keeps its study and its place."""
    row = db.execute(DETACH, (entry.entry_id,)).fetchone()
    assert row is not None
    return entry_of(row)


SET_PLACE = f"""
    UPDATE worklist_entry e SET lane = %(lane)s, read_by = %(read_by)s, placed_because = %(because)s,
           eligible_at = coalesce(eligible_at, %(eligible_at)s), changed_at = clock_timestamp()
     WHERE id = %(id)s RETURNING {COLUMNS}
"""

ADD_MOVE = """
    INSERT INTO move (entry_id, from_lane, from_read_by, to_lane, to_read_by, actor, reason)
    VALUES (%(id)s, %(from_lane)s, %(from_read_by)s, %(lane)s, %(read_by)s, %(actor)s, %(reason)s)
"""


def set_place(
    db: Db, entry: WorklistEntry, place: Place, *, eligible_at: datetime, because: str, actor: str, reason: str
) -> WorklistEntry:
    """Give an entry its place and record the move, from, to, who and why."""
    values = {
        "id": entry.entry_id,
        "lane": int(place.lane),
        "read_by": place.read_by,
        "because": because,
        "eligible_at": eligible_at,
        "from_lane": None if entry.lane is None else int(entry.lane),
        "from_read_by": entry.read_by,
        "actor": actor,
        "reason": reason,
    }
    row = db.execute(SET_PLACE, values).fetchone()
    db.execute(ADD_MOVE, values)
    assert row is not None
    return entry_of(row)


SET_AI = f"""
    UPDATE worklist_entry e
       SET ai_state = %(to)s, ai_reason = %(reason)s, lease_until = NULL, changed_at = clock_timestamp(),
           assess_after = coalesce(%(assess_after)s, assess_after),
           attempts_left = coalesce(%(attempts_left)s, attempts_left)
     WHERE id = %(id)s AND ai_state = %(from)s RETURNING {COLUMNS}
"""


def set_ai_state(
    db: Db,
    entry: WorklistEntry,
    to: AiState,
    reason: str = "",
    *,
    assess_after: datetime | None = None,
    attempts_left: int | None = None,
) -> WorklistEntry:
    """
    Compare and set the AI state.

    Raises:
        Conflict: the table does not allow the move, or somebody else moved the entry meanwhile.
    """
    if to is not entry.ai_state:
        check_ai_move(entry.ai_state, to)
    row = db.execute(
        SET_AI,
        {
            "id": entry.entry_id,
            "from": entry.ai_state.value,
            "to": to.value,
            "reason": reason,
            "assess_after": assess_after,
            "attempts_left": attempts_left,
        },
    ).fetchone()
    if row is None:
        raise Conflict(f"entry {entry.entry_id} is no longer {entry.ai_state}")
    return entry_of(row)


SET_PRIORITY = f"""
    UPDATE worklist_entry e SET requested_priority = %(priority)s, changed_at = clock_timestamp()
     WHERE id = %(id)s RETURNING {COLUMNS}
"""


def set_priority(db: Db, entry: WorklistEntry, priority: RequestedPriority) -> WorklistEntry:
    """Note a changed order's priority; the place is another matter."""
    row = db.execute(SET_PRIORITY, {"id": entry.entry_id, "priority": priority.value}).fetchone()
    assert row is not None
    return entry_of(row)


SET_READING = f"""
    UPDATE worklist_entry e SET reading_state = %(to)s, claimed_by = %(claimed_by)s, changed_at = clock_timestamp()
     WHERE id = %(id)s AND reading_state = %(from)s RETURNING {COLUMNS}
"""


def set_reading_state(db: Db, entry: WorklistEntry, to: ReadingState, claimed_by: str = "") -> WorklistEntry:
    """
    Compare and set the reading state.

    Raises:
        Conflict: the table does not allow the move, or somebody else moved the entry meanwhile.
    """
    check_reading_move(entry.reading_state, to)
    row = db.execute(
        SET_READING,
        {"id": entry.entry_id, "from": entry.reading_state.value, "to": to.value, "claimed_by": claimed_by},
    ).fetchone()
    if row is None:
        raise Conflict(f"entry {entry.entry_id} is no longer {entry.reading_state}")
    return entry_of(row)


MOVES = """
    SELECT at, from_lane, from_read_by, to_lane, to_read_by, actor, reason FROM move WHERE entry_id = %s ORDER BY id
"""


def moves(db: Db, entry_id: int) -> list[dict[str, Any]]:
    """Every move of one entry, oldest first."""
    return db.execute(MOVES, (entry_id,)).fetchall()
