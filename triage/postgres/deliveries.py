"""The outbox: one row per result and destination, written with the result, delivered later, never lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from triage.ports import Due
from triage.postgres import audit_trail
from triage.postgres.connect import Db

ADD = """
    INSERT INTO delivery (run_id, destination, kind, control_id)
    SELECT %(run_id)s, d, %(kind)s, %(kind)s::text || '-' || %(run_id)s::text || '-' || d
      FROM unnest(%(destinations)s::text[]) AS d
    ON CONFLICT DO NOTHING
"""


def add(db: Db, run_id: UUID, destinations: Sequence[str], kind: str = "result") -> None:
    """Owe *run_id* to every destination; the control id is fixed now and the same on every repeat."""
    db.execute(ADD, {"run_id": run_id, "destinations": list(destinations), "kind": kind})


SUPERSEDE = """
    UPDATE delivery SET state = 'superseded', reason = 'a later run took its place'
     WHERE run_id = %s AND kind = ANY(%s) AND state IN ('due', 'parked')
"""


def supersede(db: Db, run_id: UUID, kinds: Sequence[str] = ("result", "withdrawal")) -> None:
    """Give up what of an older run was not yet sent, so that it cannot arrive after the newer one."""
    db.execute(SUPERSEDE, (run_id, list(kinds)))


LEASE = """
    UPDATE delivery SET state = 'sending', attempts = attempts + 1,
           lease_until = clock_timestamp() + %(lease)s::interval
     WHERE id IN (
        SELECT d.id FROM delivery d JOIN run r ON r.id = d.run_id
         WHERE d.state = 'due' AND d.next_attempt_at <= clock_timestamp()
           AND NOT EXISTS (SELECT 1 FROM run r0 JOIN delivery d0 ON d0.run_id = r0.id
                            WHERE r0.entry_id = r.entry_id AND d0.destination = d.destination AND d0.id < d.id
                              AND d0.state IN ('due', 'sending'))
         ORDER BY d.next_attempt_at, d.id LIMIT %(limit)s FOR NO KEY UPDATE OF d SKIP LOCKED)
    RETURNING id, run_id, destination, kind, control_id, attempts, body
"""


def lease_due(db: Db, limit: int, lease: timedelta) -> list[Due]:
    """
    Lease at most *limit* deliveries that are due; the try counts from now.

    What one destination is told of one entry goes in order: a correction waits for the result before it.
    """
    rows = db.execute(LEASE, {"limit": limit, "lease": lease}).fetchall()
    return [
        Due(r["id"], r["run_id"], r["destination"], r["kind"], r["control_id"], r["attempts"], r["body"])
        for r in sorted(rows, key=lambda r: r["id"])
    ]


KEEP_BODY = "UPDATE delivery SET body = coalesce(body, %s) WHERE id = %s RETURNING body"


def keep_body(db: Db, delivery_id: int, body: bytes) -> bytes:
    """Fix the bytes of a delivery at its first try; every repeat sends these."""
    row = db.execute(KEEP_BODY, (body, delivery_id)).fetchone()
    assert row is not None
    return bytes(row["body"])


DELIVERED = """
    UPDATE delivery SET state = 'delivered', delivered_at = clock_timestamp(), acknowledged_as = %s, reason = '',
           lease_until = NULL
     WHERE id = %s AND state = 'sending' AND attempts = %s
"""


def delivered(db: Db, due: Due, acknowledged_as: str) -> None:
    """Note a success; nothing changes where a later try holds the row."""
    if db.execute(DELIVERED, (acknowledged_as[:500], due.delivery_id, due.attempts)).rowcount == 1:
        _audit(db, due, "delivered")


IS_OUTDATED = """
    (kind = 'result' AND EXISTS (SELECT 1 FROM run r WHERE r.id = run_id AND (r.is_withdrawn OR NOT r.is_current)))
"""
"""What was being sent while its run was withdrawn or replaced: not to be sent once more after the news of that."""

AGAIN = f"""
    UPDATE delivery SET state = CASE WHEN {IS_OUTDATED} THEN 'superseded' ELSE 'due' END, reason = %s,
           lease_until = NULL, next_attempt_at = clock_timestamp() + %s::interval
     WHERE id = %s AND state = 'sending' AND attempts = %s
"""


def again(db: Db, due: Due, reason: str, delay: timedelta) -> None:
    """Offer a delivery again after *delay*."""
    db.execute(AGAIN, (reason[:500], delay, due.delivery_id, due.attempts))


PARK = f"""
    UPDATE delivery SET state = CASE WHEN {IS_OUTDATED} THEN 'superseded' ELSE 'parked' END, reason = %s,
           lease_until = NULL
     WHERE id = %s AND state = 'sending' AND attempts = %s
"""


def park(db: Db, due: Due, reason: str) -> None:
    """Leave a delivery to a person: sending the same again cannot help; nothing changes where a later try holds it."""
    if db.execute(PARK, (reason[:500], due.delivery_id, due.attempts)).rowcount == 1:
        _audit(db, due, "parked")


EXPIRED = f"""
    UPDATE delivery SET state = CASE WHEN {IS_OUTDATED} THEN 'superseded' ELSE 'due' END, lease_until = NULL,
           reason = 'the sender did not come back'
     WHERE id IN (SELECT id FROM delivery WHERE state = 'sending' AND lease_until < clock_timestamp()
                   ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
"""


def offer_expired(db: Db) -> int:
    """Offer again what a crashed sender held."""
    return db.execute(EXPIRED).rowcount


REPLAY = """
    UPDATE delivery SET state = 'due', next_attempt_at = clock_timestamp(), reason = 'replayed'
     WHERE id = %s AND state IN ('parked', 'due')
"""


def replay(db: Db, delivery_id: int) -> bool:
    """Send a parked delivery again now; its body is composed afresh only if it never was."""
    return db.execute(REPLAY, (delivery_id,)).rowcount == 1


OF_ENTRY = """
    SELECT d.id, d.destination, d.kind, d.state, d.attempts, d.next_attempt_at, d.reason, d.acknowledged_as,
           d.created_at, d.delivered_at, r.run_number
      FROM delivery d JOIN run r ON r.id = d.run_id WHERE r.entry_id = %s ORDER BY d.id
"""


def of_entry(db: Db, entry_id: int) -> list[dict[str, Any]]:
    """Every delivery of an entry's runs."""
    return db.execute(OF_ENTRY, (entry_id,)).fetchall()


STUCK = """
    SELECT d.id, d.destination, d.state, d.attempts, d.next_attempt_at, d.reason, r.entry_id
      FROM delivery d JOIN run r ON r.id = d.run_id
     WHERE d.state = 'parked' OR (d.state = 'due' AND d.attempts > 0)
     ORDER BY d.id DESC LIMIT %s
"""


def stuck(db: Db, limit: int = 100) -> list[dict[str, Any]]:
    """Deliveries that are parked or being retried, newest first."""
    return db.execute(STUCK, (limit,)).fetchall()


TOLD = """
    SELECT destination FROM delivery
     WHERE run_id = %s AND kind = 'result' AND (state IN ('delivered', 'sending') OR attempts > 0)
     ORDER BY destination
"""
"""An attempt counts as told: the peer may have taken the result although its answer was lost."""


def destinations_told(db: Db, run_id: UUID) -> list[str]:
    """Who has, or may have, the result of *run_id* and must hear of its withdrawal."""
    return [row["destination"] for row in db.execute(TOLD, (run_id,)).fetchall()]


ENTRY = """
    SELECT e.id, e.site FROM delivery d JOIN run r ON r.id = d.run_id JOIN worklist_entry e ON e.id = r.entry_id
     WHERE d.id = %s
"""


def _audit(db: Db, due: Due, action: str) -> None:
    entry = db.execute(ENTRY, (due.delivery_id,)).fetchone()
    assert entry is not None
    audit_trail.append(
        db, entry["site"], "deliver", action, f"entry:{entry['id']}",
        destination=due.destination, control_id=due.control_id,
    )  # fmt: skip
