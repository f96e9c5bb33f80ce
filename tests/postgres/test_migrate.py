"""Migrations: in order, once, unedited, by one process at a time."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from psycopg import sql

from tests.conftest import _url_of
from triage.domain.errors import Misconfigured
from triage.postgres.connect import connect
from triage.postgres.migrate import migrate, migrations_folder, read_migrations


@pytest.fixture
def empty_url(postgres_url):
    """A database nobody migrated."""
    name = f"empty_{uuid4().hex[:8]}"
    with connect(postgres_url) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield _url_of(postgres_url, name)
    with connect(postgres_url) as db:
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def folder(tmp_path):
    """Two small migrations."""
    (tmp_path / "0001_first.sql").write_text("-- first\nCREATE TABLE one (n integer);\nCREATE TABLE two (n integer);")
    (tmp_path / "0002_second.sql").write_text("-- second\nINSERT INTO one VALUES (1);")
    return tmp_path


def test_each_is_applied_once_and_new_ones_later(empty_url, folder):
    with connect(empty_url) as db:
        assert migrate(db, folder) == ["0001_first", "0002_second"]
        assert migrate(db, folder) == []
        (folder / "0003_third.sql").write_text("-- third\nINSERT INTO one VALUES (2);")
        assert migrate(db, folder) == ["0003_third"]
        assert [row["n"] for row in db.execute("SELECT n FROM one ORDER BY n")] == [1, 2]


def test_an_edited_one_is_refused_and_nothing_new_is_applied(empty_url, folder):
    with connect(empty_url) as db:
        migrate(db, folder)
        (folder / "0001_first.sql").write_text("-- first, but different")
        (folder / "0003_third.sql").write_text("-- third\nINSERT INTO one VALUES (2);")
        with pytest.raises(Misconfigured, match="0001_first was edited"):
            migrate(db, folder)
        assert db.execute("SELECT count(*) AS n FROM one").fetchone() == {"n": 1}


def test_a_database_newer_than_the_program_is_refused(empty_url, folder):
    with connect(empty_url) as db:
        migrate(db, folder)
        (folder / "0002_second.sql").unlink()
        with pytest.raises(Misconfigured, match="database is at 2"):
            migrate(db, folder)


@pytest.mark.parametrize("name", ["0004_gap.sql", "0002_twice.sql", "3_short.sql", "0003-dash.sql", "0003_Upper.sql"])
def test_a_gap_a_repeat_or_a_bad_name_is_refused_before_anything_runs(empty_url, folder, name):
    (folder / name).write_text("-- x")
    with connect(empty_url) as db:
        with pytest.raises(Misconfigured):
            migrate(db, folder)
        assert db.execute("SELECT to_regclass('one') AS found").fetchone() == {"found": None}


def test_one_that_fails_leaves_nothing_of_itself_and_can_be_mended(empty_url, folder):
    (folder / "0002_second.sql").write_text("-- second\nINSERT INTO one VALUES (1);\nSELECT 1 / 0;")
    with connect(empty_url) as db:
        with pytest.raises(Exception, match="division by zero"):
            migrate(db, folder)
        assert db.execute("SELECT count(*) AS n FROM one").fetchone() == {"n": 0}
        (folder / "0002_second.sql").write_text("-- second\nINSERT INTO one VALUES (1);")
        assert migrate(db, folder) == ["0002_second"]


def test_of_processes_that_start_at_once_one_does_the_work(empty_url):
    def start(_):
        with connect(empty_url) as db:
            return migrate(db)

    with ThreadPoolExecutor(4) as processes:
        applied = [name for names in processes.map(start, range(4)) for name in names]
    assert applied == [m.name for m in read_migrations(migrations_folder())]


def test_ours_say_why_in_their_first_line(tmp_path):
    for migration in read_migrations(migrations_folder()):
        assert migration.sql.startswith("-- ")
        shutil.copy(migrations_folder() / f"{migration.name}.sql", tmp_path)
    assert read_migrations(tmp_path) == read_migrations(migrations_folder())
