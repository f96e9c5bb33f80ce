"""What pages, commands and the sweep look at: joined rows, counts, what is stuck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triage.domain.errors import Conflict
from triage.domain.worklist import WorklistEntry
from triage.ports import KnownStudy, Line
from triage.postgres import audit_trail, deliveries, messages, orders, runs, studies, sweeps, worklist
from triage.postgres.connect import Db

KNOWN = """
    SELECT s.study_instance_uid, (SELECT count(*) FROM instance i WHERE i.study_id = s.id) AS instances,
           e.ai_state <> 'awaiting-images' AS is_settled,
           s.patient_id, s.patient_issuer, s.accession_number, s.issuer_of_accession
      FROM study s JOIN worklist_entry e ON e.study_id = s.id
     WHERE s.site = %s AND s.study_instance_uid = ANY(%s)
"""


def known_studies(db: Db, site: str, study_instance_uids: Sequence[str]) -> dict[str, KnownStudy]:
    """What is already known of studies the archive lists again, by Study Instance UID; unknown ones are absent."""
    rows = db.execute(KNOWN, (site, list(study_instance_uids))).fetchall()
    return {
        row["study_instance_uid"]: KnownStudy(
            row["instances"],
            row["is_settled"],
            (row["patient_id"], row["patient_issuer"], row["accession_number"], row["issuer_of_accession"]),
        )
        for row in rows
    }


LINES = """
    SELECT e.id,
           coalesce(s.patient_id, o.patient_id) AS patient_id, coalesce(nullif(s.patient_name, ''), o.patient_name, '')
               AS patient_name,
           coalesce(nullif(s.accession_number, ''), o.accession_number, '') AS accession_number,
           coalesce(o.procedure -> 0 ->> 2, s.description, '') AS procedure,
           coalesce(s.match_outcome, '') AS match_outcome,
           r.assessment -> 'observations' AS observations,
           coalesce((r.assessment ->> 'is_doubtful')::bool, false) AS is_doubtful
      FROM worklist_entry e
      LEFT JOIN study s ON s.id = e.study_id
      LEFT JOIN imaging_order o ON o.id = e.order_id
      LEFT JOIN run r ON r.entry_id = e.id AND r.is_current
     WHERE e.id = ANY(%s)
"""


def lines(db: Db, entries: Sequence[WorklistEntry]) -> list[Line]:
    """What a person sees of each entry, in the order given."""
    rows = {row["id"]: row for row in db.execute(LINES, ([e.entry_id for e in entries],)).fetchall()}
    return [_line(entry, rows[entry.entry_id]) for entry in entries if entry.entry_id in rows]


def _line(entry: WorklistEntry, row: dict[str, Any]) -> Line:
    return Line(
        entry=entry,
        patient_id=row["patient_id"] or "",
        patient_name=row["patient_name"],
        accession_number=row["accession_number"],
        procedure=row["procedure"],
        probabilities={o["code"]: o["probability"] for o in row["observations"] or ()},
        is_doubtful=row["is_doubtful"],
        match_outcome=row["match_outcome"],
    )


def claimed_lines(db: Db, site: str, limit: int) -> list[Line]:
    """Entries being read, longest first, as a person sees them."""
    return lines(db, claimed(db, site, limit))


CLAIMED = f"""
    SELECT {worklist.COLUMNS} FROM worklist_entry e
     WHERE e.site = %s AND e.reading_state = 'reading' ORDER BY e.claimed_at LIMIT %s
"""


def claimed(db: Db, site: str, limit: int) -> list[WorklistEntry]:
    """Entries being read, longest first."""
    return [worklist.entry_of(row) for row in db.execute(CLAIMED, (site, limit)).fetchall()]


def awaiting_lines(db: Db, site: str, limit: int) -> list[Line]:
    """Orders without images, oldest first, as a person sees them."""
    return lines(db, awaiting(db, site, limit))


AWAITING = f"""
    SELECT {worklist.COLUMNS} FROM worklist_entry e
     WHERE e.site = %s AND e.ai_state = 'awaiting-images' AND e.reading_state = 'unread' AND e.eligible_at IS NULL
     ORDER BY e.created_at LIMIT %s
"""


def awaiting(db: Db, site: str, limit: int) -> list[WorklistEntry]:
    """Orders without images, oldest first."""
    return [worklist.entry_of(row) for row in db.execute(AWAITING, (site, limit)).fetchall()]


ENTRY = f"SELECT {worklist.COLUMNS}, e.attempt, e.claimed_at FROM worklist_entry e WHERE e.id = %s"


def entry_detail(db: Db, entry_id: int) -> dict[str, Any]:
    """
    Everything about one entry: entry, study, order, instances, runs, moves, deliveries, trail, line.

    Raises:
        Conflict: there is no such entry.
    """
    row = db.execute(ENTRY, (entry_id,)).fetchone()
    if row is None:
        raise Conflict(f"no worklist entry {entry_id}")
    entry = worklist.entry_of(row)
    study = None if entry.study_id is None else studies.by_id(db, entry.study_id)
    subjects = [f"entry:{entry_id}", *([f"order:{entry.order_id}"] if entry.order_id is not None else [])]
    return {
        "entry": entry,
        "line": lines(db, [entry])[0],
        "attempt": row["attempt"],
        "study": None if study is None else studies.study_of(study),
        "study_row": study,
        "order": None if entry.order_id is None else orders.by_id(db, entry.order_id),
        "instances": [] if entry.study_id is None else studies.instances(db, entry.study_id),
        "runs": runs.of_entry(db, entry_id),
        "moves": worklist.moves(db, entry_id),
        "deliveries": deliveries.of_entry(db, entry_id),
        "trail": audit_trail.of_subjects(db, entry.site, subjects),
    }


def viewed(db: Db, entry_id: int, viewer: str) -> dict[str, Any]:
    """`entry_detail` for a person; that *viewer* saw it goes into the audit trail."""
    detail = entry_detail(db, entry_id)
    entry: WorklistEntry = detail["entry"]
    audit_trail.append(db, entry.site, viewer, "viewed", f"entry:{entry_id}")
    return detail


COUNTS = """
    SELECT ai_state, reading_state, count(*) AS entries FROM worklist_entry WHERE site = %s
     GROUP BY ai_state, reading_state ORDER BY ai_state, reading_state
"""

REASONS_SEEN = """
    SELECT id AS entry_id, ai_state, ai_reason FROM worklist_entry
     WHERE site = %s AND ai_state IN ('failed', 'timed-out', 'not-eligible') ORDER BY id DESC LIMIT 100
"""

WAITING = """
    SELECT id AS entry_id, ai_state, ai_reason, created_at, changed_at FROM worklist_entry
     WHERE site = %s AND ai_state IN ('awaiting-images', 'queued', 'assessing') AND reading_state = 'unread'
       AND eligible_at IS NOT NULL
     ORDER BY changed_at, id LIMIT 100
"""

WITHOUT_IMAGES = """
    SELECT count(*) AS orders, min(created_at) AS oldest_at FROM worklist_entry
     WHERE site = %s AND ai_state = 'awaiting-images' AND reading_state = 'unread' AND eligible_at IS NULL
    HAVING count(*) > 0
"""

UNMATCHED = """
    SELECT e.id AS entry_id, s.match_outcome, s.first_seen_at FROM study s JOIN worklist_entry e ON e.study_id = s.id
     WHERE s.site = %s AND s.match_outcome IN ('no-order', 'ambiguous', 'patient-differs') ORDER BY s.id DESC LIMIT 100
"""

MESSAGE_COUNTS = "SELECT protocol, outcome, count(*) AS messages FROM inbound_message GROUP BY 1, 2 ORDER BY 1, 2"
DELIVERY_COUNTS = "SELECT destination, state, count(*) AS deliveries FROM delivery GROUP BY 1, 2 ORDER BY 1, 2"
FILES = "SELECT archive, reason, count(*) AS files FROM unreadable_file WHERE site = %s GROUP BY 1, 2 ORDER BY 1, 2"


def overview(db: Db, site: str) -> dict[str, Any]:
    """Counts by state and what is stuck; codes and numbers only."""
    return {
        "entries": db.execute(COUNTS, (site,)).fetchall(),
        "not_assessed": db.execute(REASONS_SEEN, (site,)).fetchall(),
        "waiting": db.execute(WAITING, (site,)).fetchall(),
        "orders_without_images": db.execute(WITHOUT_IMAGES, (site,)).fetchall(),
        "unmatched": db.execute(UNMATCHED, (site,)).fetchall(),
        "messages": db.execute(MESSAGE_COUNTS).fetchall(),
        "stuck_messages": messages.listed(db, ["received", "parked", "rejected"]),
        "deliveries": db.execute(DELIVERY_COUNTS).fetchall(),
        "stuck_deliveries": deliveries.stuck(db),
        "unreadable_files": db.execute(FILES, (site,)).fetchall(),
        "peers": sweeps.peers(db),
    }
