"""Workers lease entries for assessment: never two the same, a crash counts, a late finisher loses."""

from __future__ import annotations

from datetime import timedelta

from triage.domain.errors import Conflict
from triage.domain.worklist import WorklistEntry
from triage.ports import Lease
from triage.postgres.connect import Db
from triage.postgres.worklist import COLUMNS, entry_of

CANDIDATES = """
    SELECT e.id, e.attempts_left FROM worklist_entry e
     WHERE e.ai_state = 'queued' AND e.assess_after <= clock_timestamp()
     ORDER BY e.lane, e.read_by, e.id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""

LEASE = """
    UPDATE worklist_entry e
       SET ai_state = 'assessing', ai_reason = '', attempt = attempt + 1, attempts_left = attempts_left - 1,
           lease_until = clock_timestamp() + %(lease)s::interval, changed_at = clock_timestamp()
      FROM study s
     WHERE e.id = ANY(%(ids)s) AND s.id = e.study_id
 RETURNING e.id, e.attempt, e.study_id, e.site, s.study_instance_uid, e.lane, e.read_by
"""

SUSPECT_AFTER = 13
"""An entry with this many attempts left or fewer was dropped by a crash before, and is leased alone."""


def lease_most_urgent(db: Db, limit: int, lease: timedelta) -> list[Lease]:
    """
    Lease at most *limit* queued entries, most urgent first; the attempt counts from now, so a crash counts.

    An entry that outlived a crashed worker twice travels alone, so that it cannot take others down with it.
    """
    rows = db.execute(CANDIDATES, (limit,)).fetchall()
    if rows and rows[0]["attempts_left"] <= SUSPECT_AFTER:
        ids = [rows[0]["id"]]
    else:
        ids = [row["id"] for row in rows if row["attempts_left"] > SUSPECT_AFTER]
    if not ids:
        return []
    leased = db.execute(LEASE, {"ids": ids, "lease": lease}).fetchall()
    leased.sort(key=lambda row: (row["lane"], row["read_by"], row["id"]))
    return [Lease(row["id"], row["attempt"], row["study_id"], row["site"], row["study_instance_uid"]) for row in leased]


HELD = f"""
    SELECT {COLUMNS}, e.attempt, e.attempts_left FROM worklist_entry e
     WHERE e.id = %s AND e.attempt = %s AND e.ai_state = 'assessing' FOR NO KEY UPDATE
"""


def held(db: Db, lease: Lease) -> tuple[WorklistEntry, int]:
    """
    The entry of a lease that still holds, locked, and the attempts left to it.

    Raises:
        Conflict: a later attempt, new images or a cancel made the lease void: the late finisher loses.
    """
    row = db.execute(HELD, (lease.entry_id, lease.attempt)).fetchone()
    if row is None:
        raise Conflict(f"attempt {lease.attempt} of entry {lease.entry_id} no longer holds")
    return entry_of(row), row["attempts_left"]


EXPIRED = f"""
    SELECT {COLUMNS}, e.attempts_left FROM worklist_entry e
     WHERE e.ai_state = 'assessing' AND e.lease_until < clock_timestamp() FOR NO KEY UPDATE SKIP LOCKED
"""


def expired(db: Db) -> list[tuple[WorklistEntry, int]]:
    """Entries whose worker did not come back, locked, with the attempts left to each."""
    return [(entry_of(row), row["attempts_left"]) for row in db.execute(EXPIRED).fetchall()]


def attempt_of(db: Db, entry_id: int) -> int:
    """The number of the latest attempt."""
    row = db.execute("SELECT attempt FROM worklist_entry WHERE id = %s", (entry_id,)).fetchone()
    assert row is not None
    return int(row["attempt"])
