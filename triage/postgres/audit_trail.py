"""The append-only, hash-chained trail of who did what to which entry; PostgreSQL's triggers chain and guard it."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from triage.postgres.connect import Db

APPEND = """
    INSERT INTO audit_pending (site, actor, action, subject, detail)
    VALUES (%(site)s, %(actor)s, %(action)s, %(subject)s, %(detail)s)
"""


def append(db: Db, site: str, actor: str, action: str, subject: str, **detail: Any) -> None:
    """
    Add one row, chained at commit.

    *subject* is `entry:12`, `order:3`, `message:9`; *detail* holds codes and states, never names.
    """
    db.execute(APPEND, {"site": site, "actor": actor, "action": action, "subject": subject, "detail": Jsonb(detail)})


FIRST_BROKEN = """
    SELECT id FROM (
        SELECT id, hash, previous_hash,
               lag(hash, 1, '\\x00'::bytea) OVER chain AS hash_before,
               lag(id, 1, 0::bigint) OVER chain AS id_before,
               audit_hash(previous_hash, id, at, site, actor, action, subject, detail) AS right_hash
          FROM audit_trail
        WINDOW chain AS (ORDER BY id)
    ) AS walked
     WHERE hash <> right_hash OR previous_hash <> hash_before OR id <> id_before + 1
     ORDER BY id LIMIT 1
"""


def first_broken_row(db: Db) -> int | None:
    """The first row whose content, hash or place in the chain is not as it was written; None if all hold."""
    row = db.execute(FIRST_BROKEN).fetchone()
    return None if row is None else int(row["id"])


OF_SUBJECT = """
    SELECT at, actor, action, detail FROM audit_trail WHERE site = %s AND subject = ANY(%s) ORDER BY id
"""


def of_subjects(db: Db, site: str, subjects: list[str]) -> list[dict[str, Any]]:
    """The trail of some subjects, oldest first: the timeline of the study page."""
    return db.execute(OF_SUBJECT, (site, subjects)).fetchall()
