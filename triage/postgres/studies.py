"""Studies and their instances as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from triage.domain.imaging import InstanceFacts, SeenInstance, StudyFacts
from triage.domain.order import Order
from triage.postgres.connect import Db
from triage.postgres.orders import patient_columns, patient_of

COLUMNS = """
    id, site, study_instance_uid, archive, accession_number, issuer_of_accession, patient_id, patient_issuer,
    patient_name, patient_birth_date, patient_sex, study_at, description, modalities, instance_count, first_seen_at,
    last_changed_at, match_outcome
"""


def study_of(row: dict[str, Any]) -> StudyFacts:
    """A study as stored."""
    return StudyFacts(
        study_instance_uid=row["study_instance_uid"],
        patient=patient_of(row),
        accession_number=row["accession_number"],
        issuer_of_accession=row["issuer_of_accession"],
        study_at=row["study_at"],
        description=row["description"],
        modalities=tuple(row["modalities"]),
        instance_count=row["instance_count"],
    )


UPSERT = f"""
    INSERT INTO study (site, study_instance_uid, archive, accession_number, issuer_of_accession, patient_id,
                       patient_issuer, patient_name, patient_birth_date, patient_sex, study_at, description,
                       modalities, instance_count, first_seen_at, last_changed_at)
    VALUES (%(site)s, %(uid)s, %(archive)s, %(accession)s, %(issuer)s, %(patient_id)s, %(patient_issuer)s,
            %(patient_name)s, %(patient_birth_date)s, %(patient_sex)s, %(study_at)s, %(description)s,
            %(modalities)s, %(count)s, %(at)s, %(at)s)
    ON CONFLICT (site, study_instance_uid) DO UPDATE SET
        archive = excluded.archive, accession_number = excluded.accession_number,
        issuer_of_accession = excluded.issuer_of_accession, patient_id = excluded.patient_id,
        patient_issuer = excluded.patient_issuer, patient_name = excluded.patient_name,
        patient_birth_date = excluded.patient_birth_date, patient_sex = excluded.patient_sex,
        study_at = excluded.study_at, description = excluded.description, modalities = excluded.modalities,
        instance_count = excluded.instance_count
    RETURNING {COLUMNS}, (xmax = 0) AS is_new
"""


def upsert(db: Db, site: str, archive: str, study: StudyFacts, at: datetime) -> dict[str, Any]:
    """Store what the archive says of a study now; the row, with `is_new`."""
    row = db.execute(
        UPSERT,
        {
            "site": site,
            "uid": study.study_instance_uid,
            "archive": archive,
            "accession": study.accession_number,
            "issuer": study.issuer_of_accession,
            **patient_columns(study.patient),
            "study_at": study.study_at,
            "description": study.description,
            "modalities": list(study.modalities),
            "count": study.instance_count,
            "at": at,
        },
    ).fetchone()
    assert row is not None
    return row


ADD_INSTANCES = """
    INSERT INTO instance (study_id, sop_instance_uid, series_instance_uid, sop_class_uid, first_seen_at)
    SELECT %(study_id)s, sop, series, class, %(at)s
      FROM unnest(%(sops)s::text[], %(series)s::text[], %(classes)s::text[]) AS seen(sop, series, class)
    ON CONFLICT DO NOTHING
    RETURNING sop_instance_uid
"""


def add_instances(db: Db, study_id: int, seen: Sequence[SeenInstance], at: datetime) -> set[str]:
    """Store the instances not seen before; returns their SOP Instance UIDs."""
    rows = db.execute(
        ADD_INSTANCES,
        {
            "study_id": study_id,
            "sops": [i.sop_instance_uid for i in seen],
            "series": [i.series_instance_uid for i in seen],
            "classes": [i.sop_class_uid for i in seen],
            "at": at,
        },
    ).fetchall()
    return {row["sop_instance_uid"] for row in rows}


TOUCH = "UPDATE study SET last_changed_at = %s WHERE id = %s"


def touch(db: Db, study_id: int, at: datetime) -> None:
    """Note that a study's instances changed."""
    db.execute(TOUCH, (at, study_id))


SET_MATCH = "UPDATE study SET match_outcome = %s WHERE id = %s"


def set_match(db: Db, study_id: int, outcome: str) -> None:
    """Note by what a study met its order, or why it did not."""
    db.execute(SET_MATCH, (outcome, study_id))


SET_FACTS = """
    UPDATE instance SET facts = %(facts)s, refusal = %(refusal)s
     WHERE study_id = %(study_id)s AND sop_instance_uid = %(sop)s
"""


def set_facts(db: Db, study_id: int, read: Iterable[tuple[str, InstanceFacts | None, str]]) -> None:
    """Keep header facts and refusals, (SOP Instance UID, facts or None, reason or "") each: the audit reads them."""
    rows = [
        {
            "study_id": study_id,
            "sop": sop,
            "facts": None if facts is None else Jsonb(_as_json(facts)),
            "refusal": refusal,
        }
        for sop, facts, refusal in sorted(read, key=lambda one: one[0])  # one order for every worker
    ]
    if rows:
        with db.cursor() as cursor:
            cursor.executemany(SET_FACTS, rows)


def _as_json(facts: InstanceFacts) -> dict[str, Any]:
    stored = asdict(facts)
    stored["acquired_at"] = None if facts.acquired_at is None else facts.acquired_at.isoformat()
    return stored


UNMATCHED_LIKE = f"""
    SELECT {COLUMNS} FROM study s
     WHERE site = %(site)s AND match_outcome IN ('no-order', 'ambiguous', 'patient-differs')
       AND ((%(accession)s <> '' AND accession_number = %(accession)s)
            OR study_instance_uid = %(uid)s
            OR (%(patient)s <> '' AND patient_id = %(patient)s))
     ORDER BY first_seen_at
"""


def unmatched_like(db: Db, site: str, order: Order) -> list[dict[str, Any]]:
    """Studies without an order that share anything with a new or changed order."""
    return db.execute(
        UNMATCHED_LIKE,
        {
            "site": site,
            "accession": order.accession_number,
            "uid": order.study_instance_uid,
            "patient": order.patient.patient_id,
        },
    ).fetchall()


BY_UID = f"SELECT {COLUMNS} FROM study WHERE site = %s AND study_instance_uid = %s"


def by_uid(db: Db, site: str, study_instance_uid: str) -> dict[str, Any] | None:
    """What is stored of the study the archive lists, or None."""
    return db.execute(BY_UID, (site, study_instance_uid)).fetchone()


WAITING = """
    SELECT s.study_instance_uid FROM worklist_entry e JOIN study s ON s.id = e.study_id
     WHERE e.site = %s AND e.ai_state = 'awaiting-images' ORDER BY s.first_seen_at, s.id LIMIT %s
"""


def waiting(db: Db, site: str, limit: int) -> list[str]:
    """Study Instance UIDs whose images are not all there, oldest first."""
    return [row["study_instance_uid"] for row in db.execute(WAITING, (site, limit)).fetchall()]


BY_ID = f"SELECT {COLUMNS} FROM study WHERE id = %s"


def by_id(db: Db, study_id: int) -> dict[str, Any]:
    """One study's row."""
    row = db.execute(BY_ID, (study_id,)).fetchone()
    assert row is not None
    return row


INSTANCES = """
    SELECT sop_instance_uid, series_instance_uid, facts, refusal FROM instance WHERE study_id = %s
     ORDER BY first_seen_at, sop_instance_uid
"""


def instances(db: Db, study_id: int) -> list[dict[str, Any]]:
    """The instances of a study with what was read of them."""
    return db.execute(INSTANCES, (study_id,)).fetchall()
