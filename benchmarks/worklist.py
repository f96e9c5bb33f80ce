"""
Page of 50 and next-study at a million entries.

    python -m benchmarks.worklist [--entries 1000000] [--rounds 200]
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from benchmarks.common import database, machine, spread, timed_ms
from triage.postgres.book import Book
from triage.postgres.connect import Db, connect, open_pool

FILL_STUDIES = """
    INSERT INTO study (site, study_instance_uid, archive, patient_id, patient_name, accession_number, first_seen_at,
                       last_changed_at, match_outcome)
    SELECT 'main', '2.25.' || n, 'pacs', 'P' || n, 'Bench^Patient' || n, 'A' || n, now(), now(), 'no-order'
      FROM generate_series(1, %(n)s) AS n
"""
# three in four read already; of the rest a tenth in lane 1, one in a hundred STAT, deadlines spread over two days
FILL_ENTRIES = """
    INSERT INTO worklist_entry (site, study_id, requested_priority, ai_state, reading_state, eligible_at, lane, read_by,
                                assess_after)
    SELECT 'main', id, 'routine', CASE WHEN id % 10 = 0 THEN 'flagged' ELSE 'not-flagged' END,
           CASE WHEN id % 4 = 0 THEN 'unread' ELSE 'reported' END, at,
           CASE WHEN id % 400 = 0 THEN 0 WHEN id % 40 = 0 THEN 1 ELSE 2 END, at + interval '8 h', at
      FROM (SELECT id, now() - interval '2 days' * random() AS at FROM study) AS s
"""


def fill(db: Db, entries: int) -> None:
    """Store *entries* studies with their worklist entries."""
    db.execute("ALTER TABLE worklist_entry DISABLE TRIGGER worklist_changed")
    db.execute(FILL_STUDIES, {"n": entries})
    db.execute(FILL_ENTRIES)
    db.execute("ALTER TABLE worklist_entry ENABLE TRIGGER worklist_changed")
    db.execute("VACUUM ANALYZE")


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    chosen = parser.parse_args()
    print(machine())
    with database() as url, open_pool(url) as pool:
        with connect(url) as db:
            fill(db, chosen.entries)
        book = Book(pool)
        book.page("main", limit=50, at=datetime.now(UTC))
        page = timed_ms(lambda: book.page("main", limit=50, at=datetime.now(UTC)), chosen.rounds)
        print(f"page of 50 at {chosen.entries:,} entries, ms: {spread(page)}")
        far = timed_ms(lambda: book.page("main", limit=50, offset=1000, at=datetime.now(UTC)), chosen.rounds // 4)
        print(f"page of 50 from place 1,000, ms: {spread(far)}")
        turn = timed_ms(lambda: book.next_study("main", "reader", at=datetime.now(UTC)), chosen.rounds)
        print(f"next study (claim, share, audit row), ms: {spread(turn)}")


if __name__ == "__main__":
    main()
