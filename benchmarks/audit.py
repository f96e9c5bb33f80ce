"""
The audit's report over 1,000,000 assessments with 200,000 labels: seconds and peak memory.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.audit [--assessments 1000000] [--labels 200000]

The rows are written by the database itself from a made-up model, 2,700 a day for a year after 20,000 of the acceptance.
"""

from __future__ import annotations

import argparse
import resource
import time
from datetime import timedelta

from benchmarks.common import database, machine
from benchmarks.hospital import THRESHOLD, WIDTH
from benchmarks.simulated_year import MIDNIGHT, MODEL, freeze_external
from triage import quality
from triage.audit.evidence import AuditRules
from triage.postgres.book import Book
from triage.postgres.connect import Db, open_pool

SITE = "large"
ACCEPTED = 20_000
DAYS = 370.0

STUDIES = """
    INSERT INTO study (site, study_instance_uid, archive, patient_id, first_seen_at, last_changed_at)
    SELECT %(site)s, '1.2.' || i, 'made up', 'P' || (i::bigint * 7919 %% %(patients)s), at, at
      FROM (SELECT i, %(start)s::timestamptz + i * %(step)s::interval AS at FROM generate_series(1, %(n)s) i) t
"""
ENTRIES = """
    INSERT INTO worklist_entry (site, study_id, requested_priority, ai_state, reading_state, eligible_at, lane, read_by,
                                created_at, opened_at, reported_at)
    SELECT site, id, 'routine', 'not-flagged', 'reported', first_seen_at, 2, first_seen_at, first_seen_at,
           first_seen_at + random() * interval '2 hours', first_seen_at + interval '3 hours'
      FROM study WHERE site = %(site)s
"""
CASES = """
    INSERT INTO audit_case (run_id, entry_id, site, recorded_at, patient_key, outcome, version, card_sha256, threshold,
                            p_normal, p_pneumonia, p_covid, is_flagged, gate_score, lung_area, activation_outside,
                            requested_priority, age_years, sex, view_position, manufacturer, model_name, station_name,
                            image_rows, image_columns, statistics, coordinates)
    SELECT gen_random_uuid(), id, site, created_at, hashint8(study_id %% %(patients)s), 'assessed', %(version)s,
           %(card)s, %(threshold)s, pn / s, pp / s, pc / s, pc / s >= %(threshold)s, random(),
           0.3 + random() / 20, random(), 'routine', 18 + 80 * random(),
           CASE WHEN study_id %% 2 = 0 THEN 'F' ELSE 'M' END,
           CASE WHEN study_id %% 3 = 0 THEN 'AP' ELSE 'PA' END, 'Maker ' || study_id %% 4, 'X', 'S' || study_id %% 9,
           512, 512,
           ARRAY[random(), random(), random(), random(), random(), random(), random()]::real[],
           (SELECT array_agg((random_normal() + x * (k = 1)::int)::real) FROM generate_series(1, %(width)s) k
             WHERE study_id > 0)
      FROM (SELECT e.*, exp(CASE t WHEN 0 THEN 1.6 ELSE 0 END + z0) AS pn,
                   exp(CASE t WHEN 1 THEN 1.6 ELSE 0 END + z1) AS pp,
                   exp(CASE t WHEN 2 THEN 1.6 ELSE 0 END + z2) AS pc, t AS x,
                   exp(CASE t WHEN 0 THEN 1.6 ELSE 0 END + z0) + exp(CASE t WHEN 1 THEN 1.6 ELSE 0 END + z1)
                   + exp(CASE t WHEN 2 THEN 1.6 ELSE 0 END + z2) AS s
              FROM (SELECT e.*, random_normal() AS z0, random_normal() AS z1, random_normal() AS z2,
                           CASE WHEN e.study_id %% 20 < 11 THEN 0 WHEN e.study_id %% 20 < 17 THEN 1 ELSE 2 END AS t
                      FROM worklist_entry e WHERE e.site = %(site)s) e) e
"""
LABELS = """
    INSERT INTO label (entry_id, class, source, given_by, saw_the_ai, given_at, valid_from)
    SELECT id, CASE WHEN study_id %% 20 < 11 THEN 'normal' WHEN study_id %% 20 < 17 THEN 'pneumonia' ELSE 'covid' END,
           'radiologist', 'made up', true, created_at + random() * interval '5 days', created_at
      FROM worklist_entry WHERE site = %(site)s AND (id <= %(accepted)s OR hashint8(id) %% %(every)s = 0)
"""
COUNTS = "SELECT (SELECT count(*) FROM audit_case) AS c, (SELECT count(*) FROM label) AS l"


def main() -> None:
    """Fill, accept, judge; print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assessments", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=200_000)
    chosen = parser.parse_args()
    with database() as url, open_pool(url) as pool:
        with pool.connection() as db:
            started = time.perf_counter()
            fill(db, chosen.assessments, chosen.labels)
            print(f"filled in {time.perf_counter() - started:.0f} s")
            counts = db.execute(
                "SELECT (SELECT count(*) FROM audit_case) AS c, (SELECT count(*) FROM label) AS l"
            ).fetchone()
        assert counts is not None
        desk = quality.Desk(SITE, Book(pool), MODEL, AuditRules())
        freeze_external(desk, 1)
        until = MIDNIGHT + timedelta(days=DAYS * ACCEPTED / chosen.assessments)
        signed = until + timedelta(days=30)
        quality.accept(desk, MIDNIGHT, until, "benchmark", as_of=signed, at=signed)
        started = time.perf_counter()
        _, _, found = quality.report(desk, MIDNIGHT + timedelta(days=DAYS))
        took = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{counts['c']} assessments, {counts['l']} labels: report in {took:.1f} s, peak {peak:.2f} GiB; {machine()}")
    print(f"A {found.external}, B {found.change}, cause {found.cause}")


def fill(db: Db, assessments: int, labels: int) -> None:
    """All rows, by the database."""
    values = {
        "site": SITE, "n": assessments, "patients": assessments * 4 // 5, "start": MIDNIGHT,
        "step": timedelta(days=DAYS) / assessments, "version": MODEL.version, "card": MODEL.card_sha256,
        "threshold": THRESHOLD, "width": WIDTH, "accepted": ACCEPTED,
        "every": max(1, round((assessments - ACCEPTED) / max(labels - ACCEPTED, 1))),
    }  # fmt: skip
    for statement in (STUDIES, ENTRIES, CASES, LABELS):
        db.execute(statement, values)
    db.execute("ANALYZE")


if __name__ == "__main__":
    main()
