"""A small hospital for the tests: a Book with rollout `reorder`, and the things that happen to it in one word each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.making import NOON, make_assessment, make_order, make_seen, make_study
from triage.domain.imaging import SeenInstance, StudyFacts
from triage.domain.order import OrderAction, OrderEvent
from triage.domain.worklist import WorklistEntry
from triage.ports import Envelope, KeptMessage, Lease
from triage.postgres import worklist
from triage.postgres.book import Book, SiteRules
from triage.postgres.connect import Db, Pool

SITE = "north"
NO_TIME = timedelta(0)
LONG = timedelta(minutes=3)


@dataclass
class Ward:
    """One site's Book; control ids count up by themselves, so a message is news unless a test repeats it."""

    book: Book
    sent: int = 0
    listed: dict[str, list[SeenInstance]] = field(default_factory=dict)

    def hears(self, event: OrderEvent, *, control_id: str | None = None, body: bytes | None = None) -> KeptMessage:
        """An order message arrives."""
        if control_id is None:
            self.sent += 1
            control_id = f"C{self.sent}"
        envelope = Envelope(SITE, "ris", "hl7", sender="RIS", control_id=control_id, kind="ORM^O01")
        return self.book.accept(envelope, body or control_id.encode(), lambda _: [event])

    def orders(self, action: OrderAction = OrderAction.PLACE, **changes: Any) -> KeptMessage:
        """An order message about `make_order(**changes)` arrives."""
        return self.hears(OrderEvent(action, make_order(**changes)))

    def sees(
        self, study: StudyFacts, instances: int = 1, *, at: datetime = NOON, counted: int | None = None, **kind: Any
    ) -> str:
        """The archive lists *study* with so many instances, the ones listed before among them."""
        listed = self.listed.setdefault(study.study_instance_uid, [])
        while len(listed) < instances:
            listed.append(make_seen(**kind))
        study = replace(study, instance_count=counted if counted is not None else instances)
        return self.book.see_study(SITE, "pacs", study, listed[:instances], at=at, settle=NO_TIME)

    def has(self, *, at: datetime = NOON, **changes: Any) -> WorklistEntry:
        """A study with no order came; its entry."""
        study = make_study(**{"accession_number": "", "patient": make_order().patient, **changes})
        self.sees(study, at=at)
        return self.entry_of(study)

    def entry_of(self, study: StudyFacts) -> WorklistEntry:
        """The entry of a study."""
        with self.book.pool.connection() as db:
            row = db.execute(
                "SELECT id FROM study WHERE study_instance_uid = %s", (study.study_instance_uid,)
            ).fetchone()
            assert row is not None
            entry = worklist.of_study(db, row["id"])
            assert entry is not None
            return entry

    def entry(self, entry_id: int) -> WorklistEntry:
        """An entry as it is now."""
        with self.book.pool.connection() as db:
            return worklist.locked(db, entry_id)

    def lease(self, limit: int = 1) -> list[Lease]:
        """A worker takes what is most urgent."""
        return self.book.lease_most_urgent(limit, LONG)

    def flags(self, lease: Lease, covid: float = 0.9) -> bool:
        """The worker of *lease* records a result."""
        return self.book.record(lease, make_assessment(covid=covid))

    def crashes(self, *leases: Lease) -> None:
        """The workers of *leases* never come back and their time runs out."""
        with self.book.pool.connection() as db:
            db.execute(
                "UPDATE worklist_entry SET lease_until = clock_timestamp() - interval '1 second' WHERE id = ANY(%s)",
                ([lease.entry_id for lease in leases],),
            )

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What the database holds."""
        with self.book.pool.connection() as db:
            return db.execute(query, values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """The one value a query finds."""
        (row,) = self.rows(query, *values)
        (value,) = row.values()
        return value


def ward_on(pool: Pool, **rules: Any) -> Ward:
    """A ward whose flags move studies forward, with two destinations."""
    return Ward(Book(pool, SiteRules(**{"rollout": "reorder", "destinations": ("ehr", "pacs"), **rules})))


def snapshot(db: Db) -> dict[str, list[dict[str, Any]]]:
    """Everything that must not change when something is sent twice, leaving out when it was touched."""
    return {
        "entries": db.execute(f"SELECT {worklist.COLUMNS}, e.attempt FROM worklist_entry e ORDER BY id").fetchall(),
        "studies": db.execute("SELECT * FROM study ORDER BY id").fetchall(),
        "instances": db.execute("SELECT study_id, sop_instance_uid FROM instance ORDER BY 1, 2").fetchall(),
        "moves": db.execute("SELECT * FROM move ORDER BY id").fetchall(),
        "runs": db.execute("SELECT * FROM run ORDER BY id").fetchall(),
        "deliveries": db.execute("SELECT * FROM delivery ORDER BY id").fetchall(),
        "orders": db.execute(
            "SELECT id, order_key, status, requested_priority FROM imaging_order ORDER BY 1"
        ).fetchall(),
        "audit": db.execute("SELECT id, action, subject FROM audit_trail ORDER BY id").fetchall(),
    }
