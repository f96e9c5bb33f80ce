"""Shared fixtures: a real PostgreSQL for the session, one rolled-back transaction or one fresh database a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import sql

from triage.postgres import embedded
from triage.postgres.connect import Db, Pool, connect, open_pool
from triage.postgres.migrate import migrate


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server: the one TRIAGE_TEST_DATABASE_URL names (Debian's, in CI), else the embedded one."""
    given = os.environ.get("TRIAGE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    server = embedded.start(tmp_path_factory.mktemp("postgres"))
    yield server.url
    server.stop()


def _url_of(server: str, database: str) -> str:
    head, _, query = server.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{database}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """A migrated database that fresh ones are copied from."""
    name = f"template_{uuid4().hex[:8]}"
    with connect(postgres_url) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with connect(_url_of(postgres_url, name)) as db:
        migrate(db)
    return name


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A fresh migrated database for tests with several connections."""
    name = f"test_{uuid4().hex[:12]}"
    with connect(postgres_url) as db:
        db.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    yield _url_of(postgres_url, name)
    with connect(postgres_url) as db:
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    """A pool on a fresh database."""
    with open_pool(database_url) as opened:
        yield opened


@pytest.fixture
def db(postgres_url: str, template: str) -> Iterator[Db]:
    """One connection to a migrated database; everything the test does is rolled back."""
    with connect(_url_of(postgres_url, template)) as opened, opened.transaction(force_rollback=True):
        yield opened


def folder_from_env(name: str) -> Path:
    """A folder of real data named by *name*; the test skips visibly without it."""
    value = os.environ.get(name)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{name} names no folder: tests on real data are left out")
    return Path(value)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Odd real files and messages (TRIAGE_CORPUS)."""
    return folder_from_env("TRIAGE_CORPUS")


@pytest.fixture(scope="session")
def radiographs() -> Path:
    """Real radiographs (TRIAGE_CXR)."""
    return folder_from_env("TRIAGE_CXR")
