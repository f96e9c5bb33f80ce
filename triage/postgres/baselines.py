"""What the audit compares with: frozen once, never changed."""

from __future__ import annotations

import hashlib
from datetime import datetime

from triage.ports import StoredBaseline
from triage.postgres import audit_trail
from triage.postgres.connect import Db

FREEZE = """
    INSERT INTO baseline (site, kind, name, card_sha256, frozen_at, frozen_by, body, body_sha256)
    VALUES (%(site)s, %(kind)s, %(name)s, %(card_sha256)s, coalesce(%(at)s, clock_timestamp()), %(by)s, %(body)s,
            %(sha256)s)
    ON CONFLICT (site, kind, body_sha256) DO NOTHING RETURNING id
"""


def freeze(
    db: Db, site: str, kind: str, name: str, card_sha256: str, body: str, by: str, at: datetime | None = None
) -> bool:
    """Keep a baseline; False where the very same one was frozen before."""
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    row = db.execute(
        FREEZE,
        {
            "site": site, "kind": kind, "name": name, "card_sha256": card_sha256, "at": at, "by": by, "body": body,
            "sha256": sha256,
        },
    ).fetchone()  # fmt: skip
    if row is not None:
        audit_trail.append(db, site, by, "froze-baseline", f"baseline:{row['id']}", kind=kind, sha256=sha256)
    return row is not None


OF_SITE = """
    SELECT id AS baseline_id, kind, name, card_sha256, frozen_at, frozen_by, body, body_sha256 FROM baseline
     WHERE site = %s AND frozen_at <= %s ORDER BY id
"""


def of_site(db: Db, site: str, as_of: datetime) -> list[StoredBaseline]:
    """Every baseline frozen by *as_of*, oldest first."""
    return [StoredBaseline(**row) for row in db.execute(OF_SITE, (site, as_of)).fetchall()]
