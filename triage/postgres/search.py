"""Look-ups the pages need beside the Book: search, whether an entry changed, and which image to show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from triage.domain.finding import Assessment
from triage.domain.imaging import InstanceFacts
from triage.ports import Line
from triage.postgres import audit_trail, views, worklist
from triage.postgres.connect import Db

FIND = f"""
    SELECT {worklist.COLUMNS} FROM worklist_entry e
      LEFT JOIN study s ON s.id = e.study_id
      LEFT JOIN imaging_order o ON o.id = e.order_id
     WHERE e.site = %(site)s AND e.ai_state <> 'superseded'
       AND (%(text)s IN (s.patient_id, o.patient_id, s.accession_number, o.accession_number)
            OR coalesce(nullif(s.patient_name, ''), o.patient_name) ILIKE ALL(%(words)s))
     ORDER BY e.id DESC LIMIT %(limit)s
"""


def find(db: Db, site: str, viewer: str, text: str, limit: int) -> list[Line]:
    """
    Entries whose patient id or accession number is *text*, or whose patient's name holds all of its words.

    The search goes into the audit trail with the number of hits, never with what was searched for.
    """
    words = [f"%{_literal(word)}%" for word in text.replace("^", " ").replace(",", " ").split()]
    if not words:
        return []
    values = {"site": site, "text": text.strip(), "words": words, "limit": limit}
    found = views.lines(db, [worklist.entry_of(row) for row in db.execute(FIND, values).fetchall()])
    audit_trail.append(db, site, viewer, "searched", "worklist", hits=len(found))
    return found


def _literal(word: str) -> str:
    """*word* with LIKE's wildcards taken literally."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


STAMP = "SELECT changed_at FROM worklist_entry WHERE site = %s AND id = %s"


def changed_at(db: Db, site: str, entry_id: int) -> datetime | None:
    """When an entry last changed; None if the site has no such entry. Holds no patient data, so it is not audited."""
    row = db.execute(STAMP, (site, entry_id)).fetchone()
    return None if row is None else row["changed_at"]


DELIVERY = """
    SELECT d.state, r.entry_id FROM delivery d JOIN run r ON r.id = d.run_id JOIN worklist_entry e ON e.id = r.entry_id
     WHERE e.site = %s AND d.id = %s
"""


def delivery(db: Db, site: str, delivery_id: int) -> tuple[str, int] | None:
    """A delivery's state and entry; None if the site has no such delivery."""
    row = db.execute(DELIVERY, (site, delivery_id)).fetchone()
    return None if row is None else (row["state"], row["entry_id"])


@dataclass(frozen=True)
class Shown:
    """The image of an entry: the assessed instance, else the first readable one; *facts* is None until one was read."""

    study_instance_uid: str
    facts: InstanceFacts | None
    assessment: Assessment | None


PICTURE = """
    SELECT s.study_instance_uid, r.assessment, i.facts
      FROM worklist_entry e
      JOIN study s ON s.id = e.study_id
      LEFT JOIN run r ON r.entry_id = e.id AND r.is_current
      LEFT JOIN LATERAL (
            SELECT facts FROM instance
             WHERE study_id = s.id AND facts IS NOT NULL
             ORDER BY (sop_instance_uid = r.assessment ->> 'sop_instance_uid') DESC NULLS LAST, (refusal = '') DESC,
                      (facts ->> 'has_pixels')::bool DESC, first_seen_at, sop_instance_uid
             LIMIT 1) i ON true
     WHERE e.site = %s AND e.id = %s
"""


def picture(db: Db, site: str, entry_id: int, viewer: str) -> Shown | None:
    """Which image to show for an entry, noting in the audit trail that it was; None where there is no study yet."""
    row = db.execute(PICTURE, (site, entry_id)).fetchone()
    if row is None:
        return None
    audit_trail.append(db, site, viewer, "image-viewed", f"entry:{entry_id}")
    return Shown(
        row["study_instance_uid"],
        None if row["facts"] is None else facts_of(row["facts"]),
        None if row["assessment"] is None else Assessment.from_json(row["assessment"]),
    )


def facts_of(stored: dict[str, Any]) -> InstanceFacts:
    """Header facts as `studies.set_facts` stored them."""
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    acquired = stored.get("acquired_at")
    return InstanceFacts(**{**stored, **lists, "acquired_at": acquired and datetime.fromisoformat(acquired)})
