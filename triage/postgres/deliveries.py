"""The outbox: one row per result and destination, written with the result, delivered later, never lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from triage.ports import Due
from triage.postgres import audit_trail
from triage.postgres.connect import Db

SUPERSEDE = """
    UPDATE delivery d SET state = 'superseded', reason = 'a later run took its place'
      FROM run r
     WHERE r.id = d.run_id AND r.entry_id = %s AND d.kind = 'result' AND d.state IN ('due', 'parked')
       AND (r.is_withdrawn OR NOT r.is_current)
"""

OUTDATED = """
    SELECT r.id AS run_id, d.destination FROM run r JOIN delivery d ON d.run_id = r.id AND d.kind = 'result'
     WHERE r.entry_id = %s AND (r.is_withdrawn OR NOT r.is_current)
       AND (d.state IN ('delivered', 'sending') OR d.attempts > 0)
       AND NOT EXISTS (SELECT 1 FROM delivery w
                        WHERE w.run_id = r.id AND w.destination = d.destination AND w.kind = 'withdrawal')
       AND NOT EXISTS (SELECT 1 FROM delivery n
                        WHERE n.cancels = r.id AND n.destination = d.destination AND n.state = 'delivered')
     ORDER BY r.run_number DESC, d.id
"""
"""Where a result that no longer counts is, or may be; an attempt counts, as its answer may be all that was lost."""

WITHDRAW = """
    UPDATE run SET is_withdrawn = true, last_updated = clock_timestamp() WHERE id = ANY(%s) AND NOT is_withdrawn
"""

ADD = """
    INSERT INTO delivery (run_id, destination, kind, control_id, cancels)
    VALUES (%(run_id)s, %(destination)s, %(kind)s::text,
            %(kind)s::text || '-' || %(run_id)s::text || '-' || %(destination)s::text, %(cancels)s)
    ON CONFLICT DO NOTHING
"""


def tell(db: Db, entry_id: int, run_id: UUID | None, destinations: Sequence[str]) -> None:
    """
    Owe the result of *run_id* (None: there is none) to *destinations*, and to all the news of what no longer counts.

    What was not yet sent of older runs is given up, so that it cannot arrive after the newer one. Where an older
    result is, or may be, the new one cancels the latest; any other is withdrawn by a delivery of its own, which
    nothing supersedes. Control ids are fixed now and the same on every repeat.
    """
    db.execute(SUPERSEDE, (entry_id,))
    outdated = [(row["run_id"], row["destination"]) for row in db.execute(OUTDATED, (entry_id,)).fetchall()]
    cancels: dict[str, UUID] = {}
    for run, destination in outdated if run_id is not None else ():
        if destination in destinations:
            cancels.setdefault(destination, run)
    withdrawn = {run for run, destination in outdated if cancels.get(destination) != run}
    db.execute(WITHDRAW, (sorted(withdrawn),))
    for run, destination in outdated:
        if run in withdrawn:
            _add(db, run, destination, "withdrawal")
    for destination in destinations if run_id is not None else ():
        cancelled = cancels.get(destination)
        assert run_id is not None
        _add(db, run_id, destination, "result", None if cancelled in withdrawn else cancelled)


def _add(db: Db, run_id: UUID, destination: str, kind: str, cancels: UUID | None = None) -> None:
    db.execute(ADD, {"run_id": run_id, "destination": destination, "kind": kind, "cancels": cancels})


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
