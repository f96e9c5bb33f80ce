"""Connections: one pool a process, UTC, autocommit, dictionaries for rows."""

from __future__ import annotations

from typing import Any

from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

Db = Connection[DictRow]
Pool = ConnectionPool[Db]


def configure(db: Connection[Any]) -> None:
    """Make a fresh connection speak UTC, whatever the server's default."""
    db.execute("SET TIME ZONE 'UTC'")


def open_pool(url: str, *, size: int = 4) -> Pool:
    """A pool on *url*; connections are checked before use, so that a restarted server is survived."""
    return ConnectionPool(
        url,
        min_size=1,
        max_size=size,
        kwargs={"autocommit": True, "row_factory": dict_row},
        configure=configure,
        check=ConnectionPool.check_connection,
        open=True,
        timeout=15,
    )


def connect(url: str) -> Db:
    """One connection outside any pool (LISTEN, migrations)."""
    db = Connection[DictRow].connect(url, autocommit=True, row_factory=dict_row)
    configure(db)
    return db
