"""A small reading room: a book on a real database, an archive in memory, one reader signed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg import sql

from tests.conftest import _url_of
from tests.making import NOON, make_assessment, make_event, make_facts, make_patient, make_seen, make_study
from triage.domain.errors import ArchiveUnavailable
from triage.domain.finding import Assessment
from triage.domain.imaging import InstanceFacts, Radiograph, SeenInstance, StudyFacts
from triage.domain.order import RequestedPriority
from triage.domain.priority import PriorityPolicy
from triage.ports import Envelope
from triage.postgres.book import Book, SiteRules
from triage.postgres.connect import Pool, connect, open_pool
from triage.web.app import ModelWords, create_app

SECRET = b"a secret of enough bytes"
HERE = "http://127.0.0.1"


class Shelf:
    """An archive in memory: every instance is the same gradient."""

    name = "pacs"

    def __init__(self) -> None:
        self.answers = True

    def radiograph(self, facts: InstanceFacts) -> Radiograph:
        if not self.answers:
            raise ArchiveUnavailable("pacs: connected, then ReadTimeout")
        return Radiograph(np.linspace(0, 1, 600 * 400, dtype=np.float32).reshape(600, 400), facts)

    def headers(self, study_instance_uid: str) -> Iterator[InstanceFacts]:
        yield make_facts(study_instance_uid=study_instance_uid)

    def studies_since(self, since: datetime, until: datetime) -> Iterator[StudyFacts]:
        yield from ()

    def studies_of_accession(self, accession_number: str) -> Sequence[StudyFacts]:
        return ()

    def instances(self, study_instance_uid: str) -> Sequence[SeenInstance]:
        return ()


@dataclass
class Room:
    """What a test stands in."""

    book: Book
    shelf: Shelf
    app: FastAPI
    client: TestClient

    def arrive(self, number: int, *, priority: str = "routine", minutes_ago: int = 10, **patient: Any) -> int:
        """An order and its study; returns the entry."""
        who = make_patient(patient_id=f"P-{number}", **patient)
        accession = f"ACC-{number}"
        event = make_event(
            patient=who, placer_order_number=f"PL-{number}", filler_order_number=f"FI-{number}",
            accession_number=accession, requested_priority=RequestedPriority(priority),
        )  # fmt: skip
        self.book.accept(Envelope("main", "ris", "hl7", "RIS", f"M{number}"), b"%d" % number, lambda _: [event])
        at = NOON - timedelta(minutes=minutes_ago)
        study = make_study(patient=who, accession_number=accession, study_at=at)
        self.book.see_study("main", "pacs", study, [make_seen()], at=at, settle=timedelta(0))
        with self.book.pool.connection() as db:
            row = db.execute("SELECT max(id) AS id FROM worklist_entry").fetchone()
        assert row is not None
        return int(row["id"])

    def assess(self, **assessment: Any) -> None:
        """Assess what is queued."""
        with self.book.pool.connection() as db:
            db.execute("UPDATE worklist_entry SET assess_after = now() WHERE ai_state = 'queued'")
        for lease in self.book.lease_most_urgent(10, timedelta(minutes=3)):
            with self.book.pool.connection() as db:
                row = db.execute("SELECT sop_instance_uid FROM instance WHERE study_id = %s", (lease.study_id,))
                sop = (row.fetchone() or {})["sop_instance_uid"]
            facts = make_facts(study_instance_uid=lease.study_instance_uid, sop_instance_uid=sop)
            self.book.read_headers(lease, [(sop, facts, "")])
            outcome: Assessment = make_assessment(sop_instance_uid=sop, **assessment)
            assert self.book.record(lease, outcome)

    def another(self, name: str = "") -> TestClient:
        """A second browser, signed in under *name* or not at all."""
        client = TestClient(self.app, base_url=HERE, headers={"Origin": HERE, "Accept": "text/html"})
        if name:
            client.post("/signin", data={"name": name})
        return client


@pytest.fixture(scope="session")
def web_database(postgres_url: str, template: str) -> Iterator[Pool]:
    """One database for all of these tests."""
    name = f"web_{uuid4().hex[:12]}"
    with connect(postgres_url) as db:
        db.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    with open_pool(_url_of(postgres_url, name)) as opened:
        yield opened
    with connect(postgres_url) as db:
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


EMPTY = """
    SET LOCAL session_replication_role = replica;  -- the audit trail refuses to be emptied
    TRUNCATE inbound_message, imaging_order, study, instance, worklist_entry, reading_share, move, run, delivery, label,
             sweep_mark, unreadable_file, audit_trail, audit_case, audit_sample, baseline, drift_report, report_notice,
             drift_alarm, sign_off, error_budget RESTART IDENTITY CASCADE
"""


@pytest.fixture
def pool(web_database: Pool) -> Pool:
    """The pool of that database, emptied: cheaper than a database a test."""
    with web_database.connection() as db, db.transaction():
        db.execute(EMPTY)
    return web_database


def _room(pool: Pool, rollout: str) -> Room:
    rules = SiteRules(rollout=rollout, destinations=("ehr",))
    book, shelf = Book(pool, rules), Shelf()
    app = create_app(
        book,
        shelf,
        site="main",
        policy=PriorityPolicy(),
        rollout=rollout,
        model_words=ModelWords("chest", "0.1", 0.5, "Adults only.", "chest 0.1: NOT for commercial use"),
        secret=SECRET,
        clock=lambda: NOON,
        activation=lambda radiograph: np.eye(8),
    )
    room = Room(book, shelf, app, TestClient(app))
    room.client = room.another("Dr Demo")
    return room


@pytest.fixture
def open_room(pool: Pool) -> Callable[[str], Room]:
    """A room in any rollout."""
    return lambda rollout: _room(pool, rollout)


@pytest.fixture
def room(pool: Pool) -> Room:
    """A room where flags reorder."""
    return _room(pool, "reorder")
