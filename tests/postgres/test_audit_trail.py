"""The audit trail refuses change, keeps one chain, and shows what a superuser did to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from triage.postgres import audit_trail
from triage.postgres.connect import connect


def append(pool, count, actor="dr.a"):
    for number in range(count):
        with pool.connection() as db:
            audit_trail.append(db, "north", actor, "viewed", f"entry:{number}", why=f"本宮 {number}")


@pytest.mark.parametrize("table", ["audit_trail", "move"])
@pytest.mark.parametrize("change", ["UPDATE {} SET actor = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_history_refuses_change(db, table, change):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), db.transaction():
        db.execute(change.format(table))


def test_an_untouched_trail_holds(pool):
    append(pool, 20)
    with pool.connection() as db:
        assert audit_trail.first_broken_row(db) is None
        assert [r["id"] for r in db.execute("SELECT id FROM audit_trail ORDER BY id")] == list(range(1, 21))
        assert db.execute("SELECT count(*) AS n FROM audit_pending").fetchone()["n"] == 0


COLUMNS = "id, at, site, actor, action, subject, detail, previous_hash, hash"
TAMPERING = [
    ("UPDATE audit_trail SET actor = 'dr.b' WHERE id = 5", 5),
    ("UPDATE audit_trail SET at = at - interval '1 hour' WHERE id = 5", 5),
    ("""UPDATE audit_trail SET detail = '{"why": "x"}' WHERE id = 5""", 5),
    ("UPDATE audit_trail SET detail = detail || '{\"x\": null}' WHERE id = 1", 1),
    ("DELETE FROM audit_trail WHERE id = 5", 6),
    ("DELETE FROM audit_trail WHERE id = 1", 2),
    ("DELETE FROM audit_trail WHERE id = 5; UPDATE audit_trail SET id = id - 1 WHERE id > 5", 5),
    (f"INSERT INTO audit_trail SELECT 11, {COLUMNS.removeprefix('id, ')} FROM audit_trail WHERE id = 5", 11),
    ("INSERT INTO audit_trail (id, at, site, actor, action, subject, previous_hash, hash)"
     " SELECT 11, now(), 'north', 'x', 'x', 'x', hash, sha256('x') FROM audit_trail WHERE id = 10", 11),
    ("UPDATE audit_trail SET id = -5 WHERE id = 5; UPDATE audit_trail SET id = 5 WHERE id = 6;"
     " UPDATE audit_trail SET id = 6 WHERE id = -5", 5),
    # changed and its own hash made right again: the next row still names the old one
    ("UPDATE audit_trail SET actor = 'dr.b',"
     " hash = audit_hash(previous_hash, id, at, site, 'dr.b', action, subject, detail) WHERE id = 5", 6),
]  # fmt: skip


@pytest.mark.parametrize(("change", "broken"), TAMPERING)
def test_tampering_with_the_guards_off_is_found(pool, change, broken):
    append(pool, 10)
    with pool.connection() as db:
        db.execute("ALTER TABLE audit_trail DISABLE TRIGGER ALL")
        db.execute(change)
        db.execute("ALTER TABLE audit_trail ENABLE TRIGGER ALL")
        assert audit_trail.first_broken_row(db) == broken


def test_writers_at_once_keep_one_chain(pool):
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda n: append(pool, 25, f"dr.{n}"), range(4)))
    with pool.connection() as db:
        assert audit_trail.first_broken_row(db) is None
        assert db.execute("SELECT count(*) AS n, max(id) AS last FROM audit_trail").fetchone() == {
            "n": 100,
            "last": 100,
        }


def test_a_transaction_that_waits_does_not_hold_up_the_trail(pool, database_url):
    with connect(database_url) as slow, slow.transaction():
        audit_trail.append(slow, "north", "slow", "viewed", "entry:1")
        append(pool, 3)  # would wait for ever if the chain were locked before the commit
    with pool.connection() as db:
        assert [r["actor"] for r in db.execute("SELECT actor FROM audit_trail ORDER BY id")] == ["dr.a"] * 3 + ["slow"]
        assert audit_trail.first_broken_row(db) is None


def test_what_is_rolled_back_leaves_no_gap(pool):
    append(pool, 2)
    with pool.connection() as db, db.transaction(force_rollback=True):
        audit_trail.append(db, "north", "x", "viewed", "entry:9")
        db.execute("SET CONSTRAINTS ALL IMMEDIATE")
    append(pool, 1)
    with pool.connection() as db:
        assert audit_trail.first_broken_row(db) is None
        assert [t["action"] for t in audit_trail.of_subjects(db, "north", ["entry:0"])] == ["viewed", "viewed"]
