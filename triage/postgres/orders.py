"""Orders as rows, and the candidates a study may answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from triage.domain.imaging import Patient, StudyFacts
from triage.domain.matching import TIME_WINDOW, Candidate
from triage.domain.order import Code, Order, OrderStatus, RequestedPriority
from triage.postgres.connect import Db

COLUMNS = """
    id, status, placer_order_number, filler_order_number, accession_number, issuer_of_accession, study_instance_uid,
    patient_id, patient_issuer, patient_name, patient_birth_date, patient_sex, procedure, modality,
    requested_priority, scheduled_at, service_request
"""

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


def lock_identity(db: Db, site: str, keys: Iterable[str]) -> None:
    """Let only one transaction at a time match orders and studies that share an accession, a UID or a patient."""
    for key in sorted({k for k in keys if k}):
        db.execute(LOCK, (f"{site}|{key}",))


def identity_keys(about: Order | StudyFacts) -> list[str]:
    """What `lock_identity` locks for one order or study: all that a match, or finding the same order, rests on."""
    numbers = (about.placer_order_number, about.filler_order_number) if isinstance(about, Order) else ("", "")
    return [
        *(number and f"{kind}:{number}" for kind, number in zip(("placer", "filler"), numbers, strict=True)),
        about.accession_number and f"accession:{about.accession_number}",
        about.study_instance_uid and f"study:{about.study_instance_uid}",
        about.patient.patient_id and f"patient:{about.patient.patient_id}",
    ]


def patient_of(row: dict[str, Any]) -> Patient:
    """The patient columns that orders and studies share."""
    return Patient(
        row["patient_id"], row["patient_issuer"], row["patient_name"], row["patient_birth_date"], row["patient_sex"]
    )


def patient_columns(patient: Patient) -> dict[str, Any]:
    """The reverse of `patient_of`."""
    return {
        "patient_id": patient.patient_id,
        "patient_issuer": patient.issuer,
        "patient_name": patient.name,
        "patient_birth_date": patient.birth_date,
        "patient_sex": patient.sex,
    }


def order_of(row: dict[str, Any]) -> Order:
    """An order as stored."""
    return Order(
        patient=patient_of(row),
        placer_order_number=row["placer_order_number"],
        filler_order_number=row["filler_order_number"],
        accession_number=row["accession_number"],
        issuer_of_accession=row["issuer_of_accession"],
        study_instance_uid=row["study_instance_uid"],
        procedure=tuple(Code(*code) for code in row["procedure"]),
        modality=row["modality"],
        requested_priority=RequestedPriority(row["requested_priority"]),
        scheduled_at=row["scheduled_at"],
        service_request=row["service_request"],
    )


@dataclass(frozen=True)
class StoredOrder:
    """An order's row; *was_changed* says that a change message has altered it since it was placed."""

    order_id: int
    status: OrderStatus
    order: Order
    was_changed: bool


FIND = f"""
    SELECT {COLUMNS}, changed_by_message FROM imaging_order
     WHERE site = %(site)s
       AND (order_key = %(key)s
            OR ((accession_number = '' OR %(accession)s IN ('', accession_number))
                AND ((%(filler)s <> '' AND filler_order_number = %(filler)s)
                     OR (%(placer)s <> '' AND placer_order_number = %(placer)s))))
     ORDER BY (order_key = %(key)s) DESC, id LIMIT 1
"""


def find(db: Db, site: str, order: Order, *, lock: bool = True) -> StoredOrder | None:
    """
    The stored order that *order* speaks of, locked if asked: by key, else by filler, else by placer number.

    A cancel often repeats only the placer's number, while the stored order got its accession later.
    """
    row = db.execute(
        f"{FIND} FOR NO KEY UPDATE" if lock else FIND,
        {
            "site": site,
            "key": order.key,
            "accession": order.accession_number,
            "filler": order.filler_order_number,
            "placer": order.placer_order_number,
        },
    ).fetchone()
    if row is None:
        return None
    return StoredOrder(row["id"], OrderStatus(row["status"]), order_of(row), row["changed_by_message"])


def completed_by(stored: Order, sent: Order) -> Order:
    """*sent* with what it leaves empty taken from *stored*: a change message repeats only what changed."""
    patient = replace(
        sent.patient,
        **{
            name: getattr(sent.patient, name) or getattr(stored.patient, name)
            for name in ("patient_id", "issuer", "name", "birth_date", "sex")
        },
    )
    kept = {
        name: getattr(sent, name) or getattr(stored, name)
        for name in (
            "placer_order_number", "filler_order_number", "accession_number", "issuer_of_accession",
            "study_instance_uid", "procedure", "modality", "scheduled_at", "service_request",
        )
    }  # fmt: skip
    return replace(sent, patient=patient, **kept)


WRITE_COLUMNS = (
    "order_key", "status", "placer_order_number", "filler_order_number", "accession_number", "issuer_of_accession",
    "study_instance_uid", "patient_id", "patient_issuer", "patient_name", "patient_birth_date", "patient_sex",
    "procedure", "modality", "requested_priority", "scheduled_at", "service_request",
)  # fmt: skip

INSERT = f"""
    INSERT INTO imaging_order (site, changed_by_message, {", ".join(WRITE_COLUMNS)})
    VALUES (%(site)s, %(is_change)s, {", ".join(f"%({c})s" for c in WRITE_COLUMNS)}) RETURNING id
"""

UPDATE = f"""
    UPDATE imaging_order SET {", ".join(f"{c} = %({c})s" for c in WRITE_COLUMNS)}, changed_at = clock_timestamp(),
           changed_by_message = changed_by_message OR %(is_change)s
     WHERE id = %(id)s
"""


def _columns(order: Order, status: OrderStatus) -> dict[str, Any]:
    return {
        "order_key": order.key,
        "status": status.value,
        "placer_order_number": order.placer_order_number,
        "filler_order_number": order.filler_order_number,
        "accession_number": order.accession_number,
        "issuer_of_accession": order.issuer_of_accession,
        "study_instance_uid": order.study_instance_uid,
        **patient_columns(order.patient),
        "procedure": Jsonb([[c.value, c.system, c.display] for c in order.procedure]),
        "modality": order.modality,
        "requested_priority": order.requested_priority.value,
        "scheduled_at": order.scheduled_at,
        "service_request": order.service_request,
    }


def insert(db: Db, site: str, order: Order, status: OrderStatus, *, is_change: bool) -> int:
    """Store a new order; returns its id. A change message that overtook the placing one (*is_change*) counts as one."""
    row = db.execute(INSERT, {"site": site, "is_change": is_change, **_columns(order, status)}).fetchone()
    assert row is not None
    return int(row["id"])


def update(db: Db, order_id: int, order: Order, status: OrderStatus, *, is_change: bool) -> None:
    """Replace what is known of an order."""
    db.execute(UPDATE, {"id": order_id, "is_change": is_change, **_columns(order, status)})


CANDIDATES = f"""
    SELECT {COLUMNS} FROM imaging_order
     WHERE site = %(site)s AND status IN ('active', 'on-hold', 'completed')
       AND ((%(accession)s <> '' AND accession_number = %(accession)s)
            OR study_instance_uid = %(study)s
            OR (%(patient)s <> '' AND patient_id = %(patient)s AND scheduled_at BETWEEN %(from)s AND %(until)s))
"""


def candidates_for(db: Db, site: str, study: StudyFacts) -> list[Candidate]:
    """Orders that share anything with *study* that a match may rest on."""
    around = study.study_at
    rows = db.execute(
        CANDIDATES,
        {
            "site": site,
            "accession": study.accession_number,
            "study": study.study_instance_uid,
            "patient": study.patient.patient_id,
            "from": None if around is None else around - TIME_WINDOW,
            "until": None if around is None else around + TIME_WINDOW,
        },
    ).fetchall()
    return [Candidate(row["id"], order_of(row)) for row in rows]


BY_ID = f"SELECT {COLUMNS} FROM imaging_order WHERE id = %s"


def by_id(db: Db, order_id: int) -> Order:
    """One order."""
    row = db.execute(BY_ID, (order_id,)).fetchone()
    assert row is not None
    return order_of(row)


TO_ASK_ABOUT = """
    UPDATE imaging_order SET asked_archive_at = clock_timestamp()
     WHERE id IN (
        SELECT o.id FROM worklist_entry e JOIN imaging_order o ON o.id = e.order_id
         WHERE e.site = %(site)s AND e.ai_state = 'awaiting-images' AND e.study_id IS NULL
           AND e.reading_state = 'unread' AND o.accession_number <> '' AND o.status = 'active'
           AND e.created_at < clock_timestamp() - %(after)s::interval
           AND coalesce(o.asked_archive_at, '-infinity') < clock_timestamp() - %(every)s::interval
         ORDER BY o.asked_archive_at NULLS FIRST LIMIT %(limit)s FOR NO KEY UPDATE OF o SKIP LOCKED)
    RETURNING accession_number
"""


def accessions_to_ask_about(db: Db, site: str, *, after: timedelta, every: timedelta, limit: int) -> list[str]:
    """Accession numbers whose images have not come for *after*, each at most once in *every*."""
    rows = db.execute(TO_ASK_ABOUT, {"site": site, "after": after, "every": every, "limit": limit}).fetchall()
    return [row["accession_number"] for row in rows]


def now(db: Db) -> datetime:
    """The database's clock, which all processes share."""
    row = db.execute("SELECT clock_timestamp() AS at").fetchone()
    assert row is not None
    at: datetime = row["at"]
    return at
