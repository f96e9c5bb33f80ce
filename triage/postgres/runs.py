"""Runs: one row per assessment attempt that reached an end, and the results they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from triage.domain.errors import Conflict
from triage.domain.finding import Assessment, ModelIdentity
from triage.domain.result import Result
from triage.ports import Due
from triage.postgres import audit_cases, orders, studies
from triage.postgres.connect import Db

SUPERSEDE = """
    UPDATE run SET is_current = false, last_updated = clock_timestamp()
     WHERE entry_id = %s AND is_current
"""

INSERT = """
    INSERT INTO run (id, entry_id, study_id, run_number, attempt, outcome, reason, assessment, is_flagged)
    SELECT %(id)s, %(entry_id)s, %(study_id)s, 1 + count(*), %(attempt)s, %(outcome)s, %(reason)s, %(assessment)s,
           %(is_flagged)s
      FROM run WHERE entry_id = %(entry_id)s
    RETURNING run_number
"""


def record(
    db: Db, *, entry_id: int, study_id: int, attempt: int, outcome: str, reason: str, assessment: Assessment | None
) -> UUID:
    """Add a run and make it the entry's current one; returns its id."""
    db.execute(SUPERSEDE, (entry_id,))
    run_id = uuid4()
    db.execute(
        INSERT,
        {
            "id": run_id,
            "entry_id": entry_id,
            "study_id": study_id,
            "attempt": attempt,
            "outcome": outcome,
            "reason": reason,
            "assessment": None if assessment is None else Jsonb(assessment.to_json()),
            "is_flagged": assessment is not None and assessment.is_flagged,
        },
    )
    audit_cases.record(db, run_id, assessment)
    return run_id


WITHDRAW = """
    UPDATE run SET is_withdrawn = true, last_updated = clock_timestamp()
     WHERE entry_id = %s AND is_current AND NOT is_withdrawn AND assessment IS NOT NULL
"""


def withdraw(db: Db, entry_id: int) -> None:
    """Mark the current result of an entry, if there is one, withdrawn."""
    db.execute(WITHDRAW, (entry_id,))
    audit_cases.withdraw(db, entry_id)


OF_ENTRY = """
    SELECT id, run_number, attempt, ended_at, outcome, reason, assessment, is_current, is_withdrawn
      FROM run WHERE entry_id = %s ORDER BY run_number
"""


def of_entry(db: Db, entry_id: int) -> list[dict[str, Any]]:
    """Every run of an entry, oldest first."""
    return db.execute(OF_ENTRY, (entry_id,)).fetchall()


RESULT = f"""
    SELECT r.id AS run_id, r.run_number, r.is_current, r.is_withdrawn, r.last_updated, r.assessment,
           e.order_id, {", ".join("s." + c.strip() for c in studies.COLUMNS.split(","))}
      FROM run r JOIN study s ON s.id = r.study_id JOIN worklist_entry e ON e.id = r.entry_id
      LEFT JOIN imaging_order o ON o.id = e.order_id
     WHERE r.assessment IS NOT NULL
"""


def _result(db: Db, row: dict[str, Any]) -> Result:
    return Result(
        run_id=row["run_id"],
        run_number=row["run_number"],
        site=row["site"],
        study=studies.study_of(row),
        order=None if row["order_id"] is None else orders.by_id(db, row["order_id"]),
        assessment=Assessment.from_json(row["assessment"]),
        is_current=row["is_current"],
        last_updated=row["last_updated"],
        is_withdrawn=row["is_withdrawn"],
    )


BY_RUN = f"{RESULT} AND r.id = %s"


def by_run(db: Db, run_id: UUID) -> Result | None:
    """The result of one run."""
    row = db.execute(BY_RUN, (run_id,)).fetchone()
    return None if row is None else _result(db, row)


CANCELLED = f"{RESULT} AND r.id = (SELECT cancels FROM delivery WHERE id = %s)"


def result_for(db: Db, due: Due) -> tuple[Result, Result | None]:
    """
    The result a delivery tells, and the one it cancels: the latest that its destination was or may have been told.

    Raises:
        Conflict: its run holds no assessment.
    """
    result = by_run(db, due.run_id)
    if result is None:
        raise Conflict(f"run {due.run_id} holds no assessment")
    row = db.execute(CANCELLED, (due.delivery_id,)).fetchone()
    return result, None if row is None else _result(db, row)


@dataclass(frozen=True)
class Criteria:
    """What results are searched by; None leaves a criterion out."""

    patient_id: str | None = None
    patient_issuer: str | None = None
    study_instance_uid: str | None = None
    run_id: UUID | None = None
    accession_number: str | None = None
    order_number: str | None = None
    service_request: str | None = None
    updated_from: datetime | None = None
    updated_to: datetime | None = None
    after: tuple[datetime, UUID] | None = None


FIND = (
    RESULT
    + """
       AND (%(patient_id)s::text IS NULL OR s.patient_id = %(patient_id)s)
       AND (%(patient_issuer)s::text IS NULL OR s.patient_issuer = %(patient_issuer)s)
       AND (%(study)s::text IS NULL OR s.study_instance_uid = %(study)s)
       AND (%(run_id)s::uuid IS NULL OR r.id = %(run_id)s)
       AND (%(accession)s::text IS NULL OR s.accession_number = %(accession)s OR o.accession_number = %(accession)s)
       AND (%(number)s::text IS NULL OR o.placer_order_number = %(number)s OR o.filler_order_number = %(number)s)
       AND (%(service_request)s::text IS NULL OR o.service_request = %(service_request)s)
       AND (%(from)s::timestamptz IS NULL OR r.last_updated >= %(from)s)
       AND (%(to)s::timestamptz IS NULL OR r.last_updated < %(to)s)
       AND (%(after_at)s::timestamptz IS NULL OR (r.last_updated, r.id) > (%(after_at)s, %(after_id)s::uuid))
     ORDER BY r.last_updated, r.id LIMIT %(limit)s
"""
)


def find(db: Db, criteria: Criteria, limit: int) -> list[Result]:
    """Results by *criteria*, oldest change first, so that a reader can page while new ones come."""
    after = criteria.after or (None, None)
    rows = db.execute(
        FIND,
        {
            "patient_id": criteria.patient_id,
            "patient_issuer": criteria.patient_issuer,
            "study": criteria.study_instance_uid,
            "run_id": criteria.run_id,
            "accession": criteria.accession_number,
            "number": criteria.order_number,
            "service_request": criteria.service_request,
            "from": criteria.updated_from,
            "to": criteria.updated_to,
            "after_at": after[0],
            "after_id": after[1],
            "limit": limit,
        },
    ).fetchall()
    return [_result(db, row) for row in rows]


MODELS = """
    SELECT DISTINCT assessment -> 'classifier' AS classifier, assessment -> 'segmenter' AS segmenter
      FROM run WHERE assessment IS NOT NULL
"""


def models_used(db: Db) -> list[ModelIdentity]:
    """Every model version that ever spoke here."""
    rows = db.execute(MODELS).fetchall()
    found = {ModelIdentity(**row[part]) for row in rows for part in ("classifier", "segmenter")}
    return sorted(found, key=lambda m: (m.name, m.version, m.weights_sha256))
