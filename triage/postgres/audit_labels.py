"""Labels: what a report, a test or a person said of a study; rows are added, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

from psycopg import sql

from triage.domain.errors import Conflict
from triage.domain.frame import Frame
from triage.ports import NewLabel
from triage.postgres import audit_trail
from triage.postgres.audit_cases import fixed_columns, words_of
from triage.postgres.connect import Db

ADD = """
    INSERT INTO label (entry_id, class, source, given_by, saw_the_ai, valid_from, certainty, is_retracted, message_id)
    VALUES (%(entry_id)s, %(cls)s, %(source)s, %(given_by)s, %(saw_the_ai)s,
            coalesce(%(valid_from)s, clock_timestamp()), %(certainty)s, %(is_retracted)s, %(message_id)s)
"""


def add(db: Db, label: NewLabel) -> None:
    """Keep a statement; later ones stand beside it, none replaces another."""
    db.execute(ADD, vars(label))


SITE_OF = "SELECT site FROM worklist_entry WHERE id = %s"


def take(db: Db, label: NewLabel) -> None:
    """Keep a statement that came from outside the worklist, and who made it, in the audit trail."""
    row = db.execute(SITE_OF, (label.entry_id,)).fetchone()
    if row is None:
        raise Conflict(f"no worklist entry {label.entry_id}")
    add(db, label)
    audit_trail.append(
        db, row["site"], label.given_by, "labelled", f"entry:{label.entry_id}",
        source=label.source, **{"class": label.cls, "retracted": label.is_retracted},
    )  # fmt: skip


OF_SITE: LiteralString = """
      FROM label l JOIN worklist_entry e ON e.id = l.entry_id
     WHERE e.site = {site} AND l.given_at <= {as_of} ORDER BY l.id
"""


def heard(db: Db, site: str, as_of: datetime) -> Frame:
    """Every label of *site* heard of by *as_of*: entry, codes of class, source and certainty, both times in s."""
    wanted: dict[str, tuple[str, LiteralString]] = {
        "label_id": ("i8", "l.id"),
        "entry_id": ("i8", "l.entry_id"),
        "valid_from": ("f8", "extract(epoch FROM l.valid_from)::float8"),
        "recorded_at": ("f8", "extract(epoch FROM l.given_at)::float8"),
        "saw_the_ai": ("i4", "l.saw_the_ai::int"),
        "is_retracted": ("i4", "l.is_retracted::int"),
        **{name: ("i4", "hashtext(l." + name + ")") for name in TEXTS},
    }
    bounds = {"site": sql.Literal(site), "as_of": sql.Literal(as_of)}
    columns = fixed_columns(db, wanted, sql.SQL(OF_SITE).format(**bounds))
    return Frame(columns, {name: words_of(db, "label", name) for name in TEXTS})


TEXTS: Sequence[LiteralString] = ("class", "source", "certainty")

FIND = """
    SELECT e.id FROM worklist_entry e
      LEFT JOIN study s ON s.id = e.study_id LEFT JOIN imaging_order o ON o.id = e.order_id
     WHERE e.site = %(site)s
       AND (s.study_instance_uid = %(uid)s AND %(uid)s <> ''
            OR %(accession)s <> '' AND (s.accession_number = %(accession)s OR o.accession_number = %(accession)s))
"""


def entries_of(db: Db, site: str, *, study_instance_uid: str = "", accession_number: str = "") -> list[int]:
    """The entries a label that names a study or a request may mean."""
    found = db.execute(FIND, {"site": site, "uid": study_instance_uid, "accession": accession_number}).fetchall()
    return [row["id"] for row in found]


SAMPLE = """
    INSERT INTO audit_sample (entry_id, site, chosen_at, rate)
    SELECT unnest(%(entries)s::bigint[]), %(site)s, clock_timestamp(), %(rate)s
    ON CONFLICT DO NOTHING
"""


def choose(db: Db, site: str, entries: Sequence[int], rate: float) -> int:
    """Put unflagged studies into the random audit sample; how many are new."""
    return db.execute(SAMPLE, {"entries": list(entries), "site": site, "rate": rate}).rowcount


SAMPLED = "SELECT entry_id, rate FROM audit_sample WHERE site = %s AND chosen_at <= %s ORDER BY entry_id"


def sampled(db: Db, site: str, as_of: datetime) -> dict[int, float]:
    """Which entries stand in the random audit sample, and at which rate they were chosen."""
    return {row["entry_id"]: row["rate"] for row in db.execute(SAMPLED, (site, as_of)).fetchall()}


TO_READ = """
    SELECT s.entry_id, s.chosen_at, s.rate FROM audit_sample s
     WHERE s.site = %s AND NOT EXISTS (
           SELECT 1 FROM label l WHERE l.entry_id = s.entry_id AND l.source = 'audit-read')
     ORDER BY s.chosen_at, s.entry_id LIMIT %s
"""


def to_read(db: Db, site: str, limit: int) -> list[dict[str, object]]:
    """Sampled entries that nobody has read for the audit yet, oldest first."""
    return db.execute(TO_READ, (site, limit)).fetchall()
