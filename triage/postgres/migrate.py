"""Numbered, forward-only SQL under `migrations/`, each applied once and remembered with its digest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from triage.domain.errors import Misconfigured
from triage.postgres.connect import Db

LOCK = 7216431000
NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

REMEMBER = """
    CREATE TABLE IF NOT EXISTS schema_migration (
        number      integer PRIMARY KEY,
        name        text NOT NULL,
        sha256      text NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


@dataclass(frozen=True)
class Migration:
    """One numbered file and the digest of its bytes."""

    number: int
    name: str
    sql: str
    sha256: str


def migrations_folder() -> Path:
    """`migrations/` beside the packages, in a checkout or an editable install."""
    folder = Path(__file__).resolve().parents[2] / "migrations"
    if not folder.is_dir():
        raise Misconfigured(f"no folder of migrations at {folder}")
    return folder


def read_migrations(folder: Path) -> list[Migration]:
    """
    The migrations of *folder* in order.

    Raises:
        Misconfigured: a misnamed file, or a number missing or twice.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        named = NAME.fullmatch(path.name)
        if not named:
            raise Misconfigured(f"migrations: {path.name} is not named NNNN_words.sql")
        body = path.read_bytes()
        found.append(Migration(int(named[1]), path.stem, body.decode(), hashlib.sha256(body).hexdigest()))
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise Misconfigured("migrations: numbers must run from 0001 without a gap")
    return found


def migrate(db: Db, folder: Path | None = None) -> list[str]:
    """
    Apply what is new; several processes may start at once, one does the work.

    Returns:
        Names of the migrations applied now.
    Raises:
        Misconfigured: an applied file was edited, or the database is newer than this program.
    """
    wanted = read_migrations(folder or migrations_folder())
    db.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        db.execute(REMEMBER)
        applied = {
            row["number"]: row for row in db.execute("SELECT number, name, sha256 FROM schema_migration").fetchall()
        }
        for migration in wanted:
            before = applied.get(migration.number)
            if before and before["sha256"] != migration.sha256:
                raise Misconfigured(f"migrations: {migration.name} was edited after it was applied")
        if applied and max(applied) > len(wanted):
            raise Misconfigured(f"migrations: the database is at {max(applied)}, this program knows {len(wanted)}")
        new = [m for m in wanted if m.number not in applied]
        for migration in new:
            with db.transaction():
                db.execute(migration.sql.encode())
                db.execute(
                    "INSERT INTO schema_migration (number, name, sha256) VALUES (%s, %s, %s)",
                    (migration.number, migration.name, migration.sha256),
                )
        return [m.name for m in new]
    finally:
        db.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
