"""How far each peer has been swept, and files an archive folder holds that are no DICOM."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from triage.postgres.connect import Db, Pool

MARK = "SELECT mark FROM sweep_mark WHERE site = %s AND peer = %s"


def mark(db: Db, site: str, peer: str) -> datetime | None:
    """Up to when *peer* has been swept."""
    row = db.execute(MARK, (site, peer)).fetchone()
    return None if row is None else row["mark"]


SET_MARK = """
    INSERT INTO sweep_mark (site, peer, mark) VALUES (%(site)s, %(peer)s, %(mark)s)
    ON CONFLICT (site, peer) DO UPDATE
        SET mark = greatest(sweep_mark.mark, excluded.mark), swept_at = clock_timestamp(), failure = ''
"""


def set_mark(db: Db, site: str, peer: str, at: datetime) -> None:
    """Move the mark forward after a whole sweep; it never goes back."""
    db.execute(SET_MARK, {"site": site, "peer": peer, "mark": at})


FAILED = """
    INSERT INTO sweep_mark (site, peer, mark, failure) VALUES (%(site)s, %(peer)s, %(mark)s, %(failure)s)
    ON CONFLICT (site, peer) DO UPDATE SET swept_at = clock_timestamp(), failure = excluded.failure
"""


def failed(db: Db, site: str, peer: str, mark_: datetime, failure: str) -> None:
    """Keep the mark and note why the sweep did not finish."""
    db.execute(FAILED, {"site": site, "peer": peer, "mark": mark_, "failure": failure[:300]})


PEERS = "SELECT site, peer, mark, swept_at, failure FROM sweep_mark ORDER BY site, peer"


def peers(db: Db) -> list[dict[str, Any]]:
    """Every swept peer and its last failure."""
    return db.execute(PEERS).fetchall()


NOTE_FILE = """
    INSERT INTO unreadable_file (site, archive, name_sha256, reason) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""


def note_unreadable(db: Db, site: str, archive: str, files: Iterable[tuple[str, str]]) -> None:
    """Remember files that are no DICOM, by the digest of their name (names may hold patients)."""
    for name, reason in files:
        db.execute(NOTE_FILE, (site, archive, hashlib.sha256(name.encode()).digest(), reason[:300]))


@contextmanager
def alone(pool: Pool, work: str) -> Iterator[bool]:
    """Whether nobody else does *work* now; the claim ends with the block, or with the process."""
    with pool.connection() as db:
        row = db.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 1)) AS got", (work,)).fetchone()
        got = bool(row and row["got"])
        try:
            yield got
        finally:
            if got:
                db.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 1))", (work,))
