"""
A simulated hospital year on a real database, for each scenario: what the audit desk says before and after the change.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.simulated_year --out docs/audit      # about three minutes
    python -m benchmarks.simulated_year --only "in control" --out DIR

Every scenario is a site of its own with the same first 240 days; 120 days of them are its local acceptance.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from benchmarks.common import database, machine
from benchmarks.hospital import SCENARIOS, THRESHOLD, Scenario, Year, made
from triage import quality
from triage.audit import exports, reading_lines, reading_simulation
from triage.audit.baseline import frozen_json
from triage.audit.cases import CLASSES, Cases, Words
from triage.audit.evidence import AuditRules, Model
from triage.audit.judgement import Judgement
from triage.audit.page import page_of
from triage.audit.plain import to_json
from triage.domain.order import RequestedPriority
from triage.domain.priority import PriorityPolicy
from triage.postgres.book import Book
from triage.postgres.connect import Db, Pool, open_pool

MIDNIGHT = datetime(2025, 1, 1, tzinfo=UTC)
ACCEPTANCE_DAYS, CHANGE = 120, 240
MODEL = Model("chest", "simulated", "0" * 64, THRESHOLD)
STATISTICS = 7


def main() -> None:
    """Fill, judge, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for simulated-year.md and the reports")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--a-day", type=float, default=40)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with database() as url, open_pool(url) as pool:
        for scenario in (s for s in SCENARIOS if chosen.only in s.name):
            rows.append(judged(pool, scenario, chosen))
            print(json.dumps(rows[-1]))
    (chosen.out / "simulated-year.json").write_text(json.dumps(rows, indent=1) + "\n")
    (chosen.out / "simulated-year.md").write_text(table(rows, chosen), encoding="utf-8")


def judged(pool: Pool, scenario: Scenario, chosen: argparse.Namespace) -> dict[str, Any]:
    """One scenario: its site filled, accepted, and judged the day before the change and at the end of the year."""
    site = scenario.name.replace(" ", "-")
    year = made(scenario, a_day=chosen.a_day, change=CHANGE, seed=chosen.seed)
    with pool.connection() as db:
        fill(db, site, year)
    desk = quality.Desk(site, Book(pool), MODEL, AuditRules())
    freeze_external(desk, chosen.seed)
    until = MIDNIGHT + timedelta(days=ACCEPTANCE_DAYS)
    signed = until + timedelta(days=30)  # when nearly all labels of the acceptance have come
    quality.accept(desk, MIDNIGHT, until, "simulation", as_of=signed, at=signed)
    before = quality.judged(desk, MIDNIGHT + timedelta(days=CHANGE - 1))
    started = time.perf_counter()
    _, _, after = quality.report(desk, MIDNIGHT + timedelta(days=364))
    took = time.perf_counter() - started
    folder = chosen.out / "reports"
    folder.mkdir(exist_ok=True)
    (folder / f"{site}.html").write_text(page_of(after.body), encoding="utf-8")
    (folder / f"{site}.json").write_text(to_json(after.body), encoding="utf-8")
    (folder / f"{site}.csv").write_text(exports.registry_csv(after.body), encoding="utf-8", newline="")
    return {"scenario": scenario.name, "expected": scenario.expected, "took_s": round(took, 1),
            "before": said(before), "after": said(after), "truth": truth_of(year, after)}  # fmt: skip


def said(found: Judgement) -> dict[str, Any]:
    """The verdicts, and when and how fast the detectors found something."""
    detectors = found.body["change"]["detectors"]
    day_0 = int(MIDNIGHT.timestamp() // 86400)
    return {
        "A": found.external,
        "B": found.change,
        "cause": found.cause,
        "first_alarm": {
            name: None if w["first_alarm_day"] is None else w["first_alarm_day"] - day_0
            for name, w in detectors.items()
        },
        "stated_delay_days": {name: w["delay"]["median"] for name, w in detectors.items()},
        "sentence": found.sentence,
    }


def truth_of(year: Year, found: Judgement) -> dict[str, Any]:
    """What the simulation knows: accuracy before and after, sensitivity as it is and as the report has it."""
    after = year.at >= year.change_day * 86400
    right, covid = year.seen.argmax(axis=1) == year.truth, year.truth == 2
    watched = year.at >= ACCEPTANCE_DAYS * 86400
    corrected = found.body["corrected"]
    return {
        "accuracy": [round(float(right[~after].mean()), 4), round(float(right[after].mean()), 4)],
        "sensitivity_since_acceptance": round(float(year.is_flagged[covid & watched].mean()), 4),
        "sensitivity_naive": corrected["naive"]["sensitivity"]["value"],
        "sensitivity_begg_greenes": corrected["begg_greenes"]["sensitivity"]["value"],
        "sensitivity_random_audit": corrected["random_audit"]["sensitivity"]["value"],
    }


# --- the database ---

COPIES = {
    "study": "COPY study (id, site, study_instance_uid, archive, patient_id, first_seen_at, last_changed_at) "
    "FROM STDIN",
    "entry": "COPY worklist_entry (id, site, study_id, requested_priority, ai_state, reading_state, eligible_at, lane, "
    "read_by, placed_because, created_at, opened_at, reported_at) FROM STDIN",
    "case": "COPY audit_case (run_id, entry_id, site, recorded_at, patient_key, outcome, refusal, version, "
    "card_sha256, "
    "threshold, p_normal, p_pneumonia, p_covid, is_flagged, gate_score, lung_area, activation_outside, "
    "requested_priority, age_years, sex, view_position, manufacturer, model_name, station_name, image_rows, "
    "image_columns, statistics, coordinates) FROM STDIN",
    "label": "COPY label (entry_id, class, source, given_by, saw_the_ai, given_at, valid_from) FROM STDIN",
    "sample": "COPY audit_sample (entry_id, site, chosen_at, rate) FROM STDIN",
}  # fmt: skip


def fill(db: Db, site: str, year: Year) -> None:
    """The site's studies, entries, what the model said, labels and sample, as the service would have written them."""
    row = db.execute("SELECT coalesce(max(id), 0) AS last FROM worklist_entry").fetchone()
    assert row is not None
    ids = np.arange(len(year.at)) + int(row["last"]) + 1
    opened, reported = readings(year)
    stamps = [_stamp(a) for a in year.at]
    copy(
        db,
        "study",
        (
            (i, site, f"1.2.{i}", "simulated", f"P{p}", at, at)
            for i, p, at in zip(ids, year.patient, stamps, strict=True)
        ),
    )
    copy(
        db,
        "entry",
        (
            (
                i,
                site,
                i,
                "routine",
                "flagged" if f else "not-flagged",
                "reported",
                at,
                1 if f else 2,
                at,
                "flagged" if f else "clinical",
                at,
                _stamp(o),
                _stamp(r),
            )
            for i, f, at, o, r in zip(ids, year.is_flagged, stamps, opened, reported, strict=True)
        ),
    )
    rng = np.random.default_rng(len(site))
    noise = rng.normal(size=(len(ids), STATISTICS + 2))
    copy(
        db,
        "case",
        (
            (
                UUID(int=int(ids[i])),
                ids[i],
                site,
                stamps[i],
                year.patient[i],
                "assessed",
                "",
                MODEL.version,
                MODEL.card_sha256,
                THRESHOLD,
                *map(float, year.seen[i]),
                bool(year.is_flagged[i]),
                1 + 0.1 * noise[i, 0],
                0.3 + 0.02 * noise[i, 1],
                float(np.clip(0.4 + 0.1 * noise[i, 2], 0, 1)),
                "routine",
                float(year.age[i]),
                "F" if year.patient[i] % 2 else "M",
                "AP" if year.is_ap[i] else "PA",
                "Newray" if year.vendor[i] else "Oldray",
                "X",
                "S1",
                512,
                512,
                _array([year.pixels[i], *(0.2 + 0.02 * noise[i, 3:])]),
                _array(year.embedding[i]),
            )
            for i in range(len(ids))
        ),
    )
    known = np.flatnonzero(np.isfinite(year.labelled_at))
    copy(
        db,
        "label",
        (
            (
                ids[i],
                CLASSES[year.label[i]],
                "audit-read" if year.is_sampled[i] else "radiologist",
                "simulation",
                not year.is_sampled[i],
                _stamp(year.labelled_at[i]),
                _stamp(year.labelled_at[i]),
            )
            for i in known
        ),
    )
    copy(db, "sample", ((ids[i], site, stamps[i], 0.04) for i in np.flatnonzero(year.is_sampled)))
    for name in ("study", "worklist_entry"):
        db.execute(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))".encode())
    db.execute("ANALYZE")


def readings(year: Year) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """When one reader, reading in the product's order, opened and reported each study."""
    rng = np.random.default_rng(7)
    read = rng.gamma(4.0, 13.5 * 60 * 40 / (len(year.at) / 365) / 4, len(year.at))
    flagged_at = np.where(year.is_flagged, year.at + 20, np.nan)
    line = reading_lines.ReadingList(year.at, [RequestedPriority.ROUTINE] * len(year.at), flagged_at, PriorityPolicy())
    opened = reading_simulation.started(year.at, read, line)
    return opened, opened + read


def freeze_external(desk: quality.Desk, seed: int) -> None:
    """An external validation of 900 cases of 600 patients from the same made-up world, 300 of each class."""
    even = Scenario("external", "", prevalence=(1 / 3, 1 / 3, 1 / 3))
    year = made(even, days=40, a_day=60, change=0, seed=seed + 1000)
    rows = np.concatenate([np.flatnonzero(year.truth == k)[:300] for k in range(3)])
    n = len(rows)
    cases = Cases(
        probability=year.seen[rows], truth=year.truth[rows], patient=year.patient[rows],
        day=np.zeros(n, dtype=np.int64), is_flagged=year.is_flagged[rows],
        numbers={"age_years": year.age[rows]}, words={"sex": Words.of(["F"] * n)}, coordinates=year.embedding[rows],
    )  # fmt: skip
    body = frozen_json(cases, name="simulated", until=MIDNIGHT, model=MODEL)
    kind, card = "external-validation", MODEL.card_sha256
    desk.book.freeze_baseline(desk.site, kind, "simulated", card, body, "simulation", MIDNIGHT)


def copy(db: Db, table: str, rows: Iterable[Sequence[Any]]) -> None:
    """Many rows at once; audit triggers and identities as in service."""
    with db.cursor() as cursor, cursor.copy(COPIES[table].encode()) as sink:
        for row in rows:
            sink.write_row([x.item() if isinstance(x, np.generic) else x for x in row])


def _stamp(seconds: float) -> datetime:
    return MIDNIGHT + timedelta(seconds=float(seconds))


def _array(values: Sequence[float]) -> str:
    return "{" + ",".join(f"{v:.5g}" for v in values) + "}"


# --- the page ---


def table(rows: Sequence[dict[str, Any]], chosen: argparse.Namespace) -> str:
    """What came out, as Markdown."""
    lines = [
        "# A simulated hospital year",
        "",
        f"{chosen.a_day:g} studies a day, seed {chosen.seed}, on a real PostgreSQL; {machine()}.",
        "",
        "    python -m benchmarks.simulated_year --out docs/audit",
        "",
        f"The first {ACCEPTANCE_DAYS} days are the local acceptance; what the scenario changes, it changes on "
        f"day {CHANGE}. "
        "Labels come late and flagged studies first; 8 % of unflagged studies never get one.",
        "",
        "| scenario | expected | the day before: A / B / cause | end of the year: A / B / cause | first alarm "
        "of B, day | "
        "stated median delay, days with labels | report took |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        b, a = r["before"], r["after"]
        alarms = "; ".join(f"{k}: {v if v is not None else 'none'}" for k, v in a["first_alarm"].items())
        delays = "; ".join(f"{k}: {v:.0f}" if v else f"{k}: –" for k, v in a["stated_delay_days"].items())
        lines.append(
            f"| {r['scenario']} | {r['expected']} | {b['A']} / {b['B']} / {b['cause']} | {a['A']} / {a['B']} "
            f"/ {a['cause']} "
            f"| {alarms} | {delays} | {r['took_s']} s |"
        )
    lines += ["", "| scenario | accuracy before, after | sensitivity since acceptance | naive | Begg-Greenes "
    "| random audit |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for r in rows:
        t = r["truth"]
        lines.append(
            f"| {r['scenario']} | {t['accuracy'][0]:.3f}, {t['accuracy'][1]:.3f} | "
            f"{t['sensitivity_since_acceptance']:.3f} | "
            + " | ".join("–" if t[f"sensitivity_{k}"] is None else f"{t[f'sensitivity_{k}']:.3f}"
                         for k in ("naive", "begg_greenes", "random_audit")) + " |"
        )  # fmt: skip
    lines += ["", *(f"- {r['scenario']}: {r['after']['sentence']}" for r in rows), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
